//! Create, update and delete, alone and in batches, in both APIs.

use crate::support::{FakeInfisical, PROJECT, map, myapp};
use serde_json::{Value, json};

fn body(more: Value) -> Value {
    let mut body = json!({"projectId": PROJECT, "environment": "prod", "secretPath": "/myapp"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn secret_can_be_created_changed_and_deleted() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let target = "/api/v4/secrets/NEW";
    let created = client.write("POST", target, &body(json!({"secretValue": "  a\n\n"})));
    let created = created.json()["secret"].clone();
    assert_eq!((&created["secretValue"], &created["version"]), (&json!("a\n"), &json!(1)));
    assert_eq!(created["actor"]["name"], "ci");
    // The schema of this one answer names neither
    assert!(created.get("secretPath").is_none() && created.get("secretValueHidden").is_none());
    let again = client.write("POST", target, &body(json!({"secretValue": "b"})));
    assert_eq!(again.error(), (400, "BadRequest".into(), "Secret already exists".into()));

    let change = body(json!({"secretValue": "b", "newSecretName": "NEWER"}));
    let changed = client.write("PATCH", target, &change).json()["secret"].clone();
    assert_eq!(
        (&changed["secretKey"], &changed["version"], &changed["id"]),
        (&json!("NEWER"), &json!(2), &created["id"])
    );
    let kept = client.write("PATCH", "/api/v4/secrets/NEWER", &body(json!({"secretComment": "c"})));
    assert_eq!(kept.json()["secret"]["secretValue"], "b", "the old value is answered");
    let first = client.get(&myapp("/NEWER", "&version=1")).json();
    assert_eq!(first["secret"]["secretValue"], "a\n");

    let renamed = "/api/v4/secrets/NEWER";
    let deleted = client.write("DELETE", renamed, &body(json!({})));
    assert_eq!(deleted.json()["secret"]["secretValue"], "b");
    assert_eq!(
        client.write("PATCH", renamed, &change).error(),
        (404, "NotFound".into(), "Secret with name NEWER not found".into())
    );
    assert_eq!(
        client.write("DELETE", renamed, &body(json!({}))).error(),
        (404, "NotFound".into(), "Secret not found".into())
    );
    let reborn = client.write("POST", renamed, &body(json!({"secretValue": ""})));
    let reborn = reborn.json()["secret"].clone();
    assert_eq!((&reborn["version"], &reborn["secretValue"]), (&json!(1), &json!("")));
    assert_ne!(reborn["id"], created["id"]);
}

#[test]
fn v3_takes_a_workspace_or_a_slug() {
    let fake = FakeInfisical::start(&["--dialect", "v3-only"]);
    let mut client = fake.member();
    let target = "/api/v3/secrets/raw/V3";
    for project in [json!({"workspaceId": PROJECT}), json!({"projectSlug": "my-project"})] {
        let mut body = body(project);
        body["secretValue"] = json!("v");
        assert_eq!(client.write("POST", target, &body).status, 200);
        assert_eq!(client.write("DELETE", target, &body).status, 200);
    }
    let nowhere = json!({"environment": "prod", "secretValue": "v"});
    assert_eq!(client.write("POST", target, &nowhere).error().1, "BadRequest");
    let unknown = json!({"projectSlug": "no", "environment": "prod", "secretValue": "v"});
    assert_eq!(client.write("POST", target, &unknown).error().0, 404);
}

#[test]
fn invalid_writes_are_rejected_with_their_reason() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let target = "/api/v4/secrets/X";
    let mut nowhere = body(json!({"secretValue": "v"}));
    nowhere["secretPath"] = json!("/no");
    assert_eq!(client.write("POST", target, &nowhere).error().1, "CreateSecret");
    let colon = client.write("POST", "/api/v4/secrets/A:B", &body(json!({"secretValue": "v"})));
    assert_eq!(
        colon.json()["message"],
        json!([{"code": "custom", "path": ["secretName"],
                "message": "Secret name cannot contain colon or forward slash."}])
    );
    let personal = body(json!({"secretValue": "v", "type": "personal"}));
    assert_eq!(
        client.write("POST", target, &personal).error().2,
        "Must be user to create personal secret"
    );
    let untagged = body(json!({"secretValue": "v", "tagIds": ["none"]}));
    assert_eq!(client.write("POST", target, &untagged).error().0, 404);
    assert_eq!(client.write("POST", "/api/v4/secrets/move", &nowhere).status, 404);

    fake.permit(json!([{"write": false}]));
    for (method, action) in [("POST", "create"), ("PATCH", "edit"), ("DELETE", "delete")] {
        let (status, error, message) =
            client.write(method, target, &body(json!({"secretValue": "v"}))).error();
        assert_eq!((status, error.as_str()), (403, "PermissionDenied"));
        assert_eq!(message, format!("You are not allowed to {action} on secrets"));
    }
}

#[test]
fn batches_are_all_or_nothing() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let target = "/api/v4/secrets/batch";
    let two = json!({"secrets": [{"secretKey": "A", "secretValue": "1"},
                                 {"secretKey": "B", "secretValue": " 2 "}]});
    let created = client.write("POST", target, &body(two.clone()));
    assert_eq!(created.listed(), map(&[("A", "1"), ("B", "2")]));
    let again = client.write("POST", target, &body(two));
    assert_eq!(again.error().2, "Secret already exists: A,B");

    let change = |mode: Option<&str>| {
        let mut change = body(json!({"secrets": [{"secretKey": "A", "secretValue": "3"},
                                                 {"secretKey": "C", "secretValue": "4"}]}));
        if let Some(mode) = mode {
            change["mode"] = json!(mode);
        }
        change
    };
    let strict = client.write("PATCH", target, &change(None));
    assert_eq!(strict.error().2, "Secret does not exist: C");
    let lenient = client.write("PATCH", target, &change(Some("ignore")));
    assert_eq!(lenient.listed(), map(&[("A", "3")]));
    let upsert = client.write("PATCH", target, &change(Some("upsert")));
    assert_eq!(upsert.listed(), map(&[("A", "3"), ("C", "4")]));
    assert_eq!(client.write("PATCH", target, &change(Some("maybe"))).status, 422);

    let both = body(json!({"secrets": [{"secretKey": "A"}, {"secretKey": "Z"}]}));
    assert_eq!(client.write("DELETE", target, &both).error().0, 404);
    let one = body(json!({"secrets": [{"secretKey": "A"}]}));
    assert_eq!(client.write("DELETE", target, &one).status, 200);
    assert_eq!(client.write("DELETE", target, &body(json!({"secrets": []}))).status, 422);
}

#[test]
fn v3_batch_route_differs_and_batch_is_a_valid_name() {
    let fake = FakeInfisical::start(&["--dialect", "v3-only"]);
    let mut client = fake.member();
    let mut two = body(json!({"secrets": [{"secretKey": "A", "secretValue": "1"}]}));
    two["workspaceId"] = json!(PROJECT);
    let created = client.write("POST", "/api/v3/secrets/batch/raw", &two);
    assert_eq!(created.listed(), map(&[("A", "1")]));
    assert_eq!(client.write("PATCH", "/api/v3/secrets/raw/batch", &two).error().0, 404);
    two["secretValue"] = json!("another value");
    let name = client.write("POST", "/api/v3/secrets/raw/batch", &two);
    assert_eq!(name.json()["secret"]["secretKey"], "batch");

    fake.settings(json!({"batchBySlug": true}));
    let refused = client.write("PATCH", "/api/v3/secrets/batch/raw", &two);
    assert_eq!(refused.json()["message"][0]["path"], json!(["projectSlug"]));
    two["projectSlug"] = json!("my-project");
    assert_eq!(client.write("PATCH", "/api/v3/secrets/batch/raw", &two).status, 200);
}

#[test]
fn batch_rejects_empty_key_keeps_last_duplicate_and_fails_on_invalid_values() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let target = "/api/v4/secrets/batch";
    let of = |keys: &[(&str, &str)]| {
        let secrets: Vec<_> = keys
            .iter()
            .map(|(key, value)| json!({"secretKey": key, "secretValue": value}))
            .collect();
        body(json!({ "secrets": secrets }))
    };
    assert_eq!(client.write("POST", target, &of(&[("", "v")])).error().0, 422);
    let twice = client.write("POST", target, &of(&[("K", "first"), ("K", "last")]));
    assert_eq!(twice.listed(), map(&[("K", "last")]));
    assert_eq!(client.get(&myapp("/K", "")).json()["secret"]["secretValue"], "last");
    for key in ["k".repeat(3000), "a\0b".to_owned()] {
        let refused = client.write("POST", target, &of(&[("FINE", "v"), (&key, "v")]));
        assert_eq!(refused.error().0, 500);
    }
    assert_eq!(client.get(&myapp("/FINE", "")).status, 404, "all or nothing");
}

#[test]
fn written_values_lose_a_byte_order_mark_and_keep_nel() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let value = body(json!({"secretValue": "\u{feff}a\u{85}"}));
    let created = client.write("POST", "/api/v4/secrets/MARKED", &value);
    assert_eq!(created.json()["secret"]["secretValue"], "a\u{85}");
}

#[test]
fn imports_have_their_own_permission_and_form_no_circle() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let of = |path: &str| {
        format!("/api/v2/secret-imports?projectId={PROJECT}&environment=prod&path={path}")
    };
    let listed = client.get(&of("/myapp")).json();
    let imports = listed["secretImports"].as_array().unwrap().clone();
    let paths: Vec<_> =
        imports.iter().map(|import| import["importPath"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/other", "/shared"]);
    assert_eq!(
        (&imports[0]["importEnv"]["slug"], &imports[1]["position"]),
        (&json!("prod"), &json!(2))
    );
    assert_eq!(client.get(&of("/empty")).json()["secretImports"], json!([]));
    assert_eq!(client.get(&of("/no")).error().0, 404);

    let import = |path: &str, from: &str| {
        json!({"projectId": PROJECT, "environment": "prod", "path": path,
               "import": {"environment": "prod", "path": from}})
    };
    let route = "/api/v2/secret-imports";
    // /myapp imports /shared, which imports /base
    for path in ["/shared", "/myapp", "/base"] {
        let refused = client.write("POST", route, &import("/base", path));
        assert_eq!(refused.error().1, "BadRequest", "{path}");
    }
    assert_eq!(client.write("POST", route, &import("/empty", "/base")).status, 200);
    assert_eq!(client.get(&of("/empty")).json()["secretImports"][0]["importPath"], "/base");

    fake.permit(json!([{"imports": false}]));
    let (status, error, message) = client.get(&of("/myapp")).error();
    assert_eq!((status, error.as_str()), (403, "PermissionDenied"));
    assert_eq!(message, "You are not allowed to read on secret-imports");
    assert_eq!(client.get(&myapp("", "")).status, 200);
}

#[test]
fn state_with_circular_imports_is_rejected() {
    let fake = FakeInfisical::start(&[]);
    let mut state = crate::support::state();
    let imports = state["projects"][0]["imports"].as_array_mut().unwrap();
    imports.push(json!({"environment": "prod", "path": "/base",
                        "from": {"environment": "prod", "path": "/myapp"}}));
    assert_eq!(fake.try_control("PUT", "/state", &state).status, 400);
}
