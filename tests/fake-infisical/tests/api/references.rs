//! References: their values and places, and unresolvable ones.

use serde_json::{Value, json};

use crate::support::{FakeInfisical, IDENTITY, PROJECT, map, myapp, pairs};

const OTHER: &str = "6f2d1b0e-0000-4000-8000-00000000000f";

/// `/app` imports `/lib`; `/locked` may be unreadable.
fn state() -> Value {
    let mut state = crate::support::state();
    state["projects"] = json!([
        {
            "id": PROJECT, "slug": "my-project", "environments": ["prod"],
            "secrets": {"prod": {
                "/app": {"DB_HOST": "db.example", "REFIMP": "${S1}", "A": "a", "B": "b", "EMPTY": "",
                         "DANGLING": "[${NOPE}]-[${prod.nowhere.X}]-[${EMPTY}]",
                         "DOTTED": "[${dot.ted}]", "dot.ted": "local",
                         "CROSS": "[${@other.prod.shared.K}]", "CROSS_CLOSED": "[${@other.prod.K}]"},
                "/app/sub": {"DB_HOST": "sub.example", "OWN": "${DB_HOST}"},
                "/lib": {"S1": "s1", "SUP": "${DB_HOST}"},
                "/locked": {"L1": "locked"},
            }},
            "imports": [{"environment": "prod", "path": "/app",
                         "from": {"environment": "prod", "path": "/lib"}}],
        },
        {
            "id": OTHER, "slug": "other", "members": {},
            "secrets": {"prod": {"/": {"K": "closed"}, "/shared": {"K": "granted"}}},
            "grants": [{"to": PROJECT, "folder": {"environment": "prod", "path": "/shared"}}],
        },
    ]);
    state
}

fn app(api: &str, name: &str, more: &str) -> String {
    let (base, project, imports) = match api {
        "v3" => ("/api/v3/secrets/raw", "workspaceId", "include_imports"),
        _ => ("/api/v4/secrets", "projectId", "includeImports"),
    };
    format!(
        "{base}{name}?{project}={PROJECT}&environment=prod&secretPath=/app\
         &expandSecretReferences=true&{imports}=true{more}"
    )
}

#[test]
fn v4_listing_resolves_in_the_requested_directory_and_get_does_not() {
    let fake = FakeInfisical::with_state(&state(), &[]);
    let mut client = fake.member();
    let mut by_name = |api: &str, key: &str| {
        client.get(&app(api, &format!("/{key}"), "")).json()["secret"]["secretValue"].clone()
    };
    for api in ["v3", "v4"] {
        assert_eq!((by_name(api, "REFIMP"), by_name(api, "SUP")), (json!(""), json!("")), "{api}");
    }
    let mut listed = |api: &str| {
        let listing = client.get(&app(api, "", "")).json();
        let own = pairs(&listing["secrets"])["REFIMP"].clone();
        (own, pairs(&listing["imports"][0]["secrets"])["SUP"].clone())
    };
    assert_eq!(listed("v4"), ("s1".to_owned(), "db.example".to_owned()));
    assert_eq!(listed("v3"), (String::new(), String::new()), "v3 lists as it gets");
    let deep = client.get(&app("v4", "", "&recursive=true")).listed();
    assert_eq!(deep["OWN"], "sub.example", "a folder below resolves in itself");
}

#[test]
fn unresolvable_reference_is_empty_in_own_and_text_in_other_directory() {
    let fake = FakeInfisical::with_state(&state(), &[]);
    let mut client = fake.member();
    assert_eq!(client.get(&app("v4", "", "")).listed()["DANGLING"], "[]-[]-[]");
    let text = "[${NOPE}]-[${prod.nowhere.X}]-[${EMPTY}]";
    fake.settings(json!({"unresolvedReferences": "text"}));
    assert_eq!(client.get(&app("v4", "", "")).listed()["DANGLING"], text);
    fake.settings(json!({"unresolvedReferences": null}));
    fake.control("PUT", "/dialect", &json!({"dialect": "v3-only"}));
    assert_eq!(client.get(&app("v3", "", "")).listed()["DANGLING"], text);
}

#[test]
fn dotted_reference_names_an_environment_despite_a_secret_of_that_name() {
    let fake = FakeInfisical::with_state(&state(), &[]);
    let mut client = fake.member();
    assert_eq!(client.get(&app("v4", "", "")).listed()["DOTTED"], "[]");
    fake.permit(json!([{"environment": "prod"}]));
    assert_eq!(client.get(&app("v4", "/DOTTED", "")).error().0, 403);
}

#[test]
fn secret_of_another_project_requires_its_grant() {
    let fake = FakeInfisical::with_state(&state(), &[]);
    let mut client = fake.member();
    let listed = client.get(&app("v4", "", "")).listed();
    assert_eq!((listed["CROSS"].as_str(), listed["CROSS_CLOSED"].as_str()), ("[granted]", "[]"));
    // The identity is no member there
    let there = format!("/api/v4/secrets?projectId={OTHER}&environment=prod");
    assert_eq!(client.get(&there).error().1, "ProjectMembershipNotFound");
}

#[test]
fn unreadable_reference_denies_the_listing_and_its_own_secret() {
    let fake = FakeInfisical::with_state(&state(), &[]);
    let mut client = fake.member();
    let put = json!({"project": PROJECT, "environment": "prod", "path": "/app", "key": "R",
                     "value": "${prod.locked.L1}"});
    fake.control("PUT", "/secret", &put);
    let dotted =
        json!({"project": PROJECT, "environment": "prod", "path": "/app", "key": "DOTTED"});
    fake.control("DELETE", "/secret", &dotted);
    fake.permit(json!([{"environment": "prod", "pathPrefix": "/app"},
                         {"environment": "prod", "pathPrefix": "/lib"},
                         {"environment": "prod", "pathPrefix": "/nowhere"}]));
    for api in ["v3", "v4"] {
        let refused = client.get(&app(api, "", ""));
        let (status, error, message) = refused.error();
        assert_eq!((status, error.as_str()), (403, "ForbiddenError"));
        assert!(message.starts_with("Failed to expand one or more secret references"));
        let details = refused.json()["details"].clone();
        assert_eq!(details.as_array().unwrap().len(), 1);
        let detail = details[0].as_str().unwrap();
        assert!(detail.contains("'R'") && detail.contains("'L1'"), "{detail}");

        let plain = client.get(&app(api, "", "").replace("References=true", "References=false"));
        assert_eq!(plain.listed()["R"], "${prod.locked.L1}");
        for key in ["A", "B", "DB_HOST"] {
            assert_eq!(client.get(&app(api, &format!("/{key}"), "")).status, 200, "{key}");
        }
        let (status, error, message) = client.get(&app(api, "/R", "")).error();
        assert_eq!((status, error.as_str()), (403, "ForbiddenError"));
        assert!(message.contains("'L1'"));
    }
}

#[test]
fn unreadable_import_is_an_empty_entry() {
    let fake = FakeInfisical::with_state(&state(), &[]);
    fake.permit(json!([{"environment": "*", "pathPrefix": "/app"}, {"environment": "dot"},
                         {"pathPrefix": "/nowhere"}]));
    let listing = fake.member().get(&app("v4", "", "")).json();
    let import = &listing["imports"][0];
    assert_eq!((&import["secretPath"], &import["secrets"]), (&json!("/lib"), &json!([])));
    assert!(import["folderId"].is_string());
    assert_eq!(pairs(&listing["secrets"])["REFIMP"], "");
}

#[test]
fn default_permission_lists_myapp() {
    let fake = FakeInfisical::start(&[]);
    let imports = fake.member().get(&myapp("", "")).json()["imports"].clone();
    assert_eq!(pairs(&imports[1]["secrets"])["BASE"], "2");
    fake.permit(json!([]));
    let body = json!({"project": PROJECT, "identity": IDENTITY});
    fake.control("PUT", "/permission", &body);
    assert_ne!(fake.member().get(&myapp("", "")).listed(), map(&[]));
}
