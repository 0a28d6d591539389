//! The differences between the three generations of servers.

use crate::support::{FakeInfisical, PROJECT, map, myapp, pairs};
use serde_json::json;

#[test]
fn v3_only_dialect_answers_bare_404_for_v4() {
    let fake = FakeInfisical::start(&["--dialect", "v3-only"]);
    let mut client = fake.member();
    let target = myapp("", "&a=b");
    let answer = client.get(&target);
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({
            "message": format!("Route GET:{target} not found"),
            "error": "Not Found",
            "statusCode": 404,
        })
    );
    let v3 = format!("/api/v3/secrets/raw?workspaceId={PROJECT}&environment=prod");
    assert_eq!(client.get(&v3).listed(), map(&[("ROOT", "r")]));
}

#[test]
fn first_v4_requires_an_underscore_and_has_no_defaults() {
    let fake = FakeInfisical::start(&["--dialect", "v4-2025"]);
    let mut client = fake.member();
    let plain = client.get(&myapp("", "&includeImports=true"));
    assert_eq!(plain.json()["imports"], json!([]));
    assert_eq!(plain.listed()["URL"], "${DB_HOST}:${prod.shared.PORT}/${NOWHERE}");
    let asked = client.get(&myapp("", "&include_imports=true&expandSecretReferences=true"));
    assert_eq!(asked.json()["imports"].as_array().unwrap().len(), 2);
    assert_eq!(asked.listed()["URL"], "db:2/${NOWHERE}");
    // A plugin's ETag is a base64 SHA-1
    assert_eq!(asked.header("etag").len(), 30);
}

#[test]
fn current_v4_includes_and_expands_by_default() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let plain = client.get(&myapp("", "&include_imports=false"));
    assert_eq!(plain.json()["imports"].as_array().unwrap().len(), 2);
    assert_eq!(plain.listed()["URL"], "db:2/");
    assert_eq!(plain.header("etag").len(), 66);
    let bare = client.get(&myapp("", "&includeImports=false&expandSecretReferences=false"));
    assert_eq!(bare.json()["imports"], json!([]));
    assert_eq!(bare.listed()["URL"], "${DB_HOST}:${prod.shared.PORT}/${NOWHERE}");
}

#[test]
fn v3_is_identical_in_every_dialect() {
    for dialect in ["v3-only", "v4-2025", "v4-2026"] {
        let fake = FakeInfisical::start(&[]);
        fake.control("PUT", "/dialect", &json!({ "dialect": dialect }));
        let mut client = fake.member();
        let list =
            "/api/v3/secrets/raw?workspaceSlug=my-project&environment=prod&secretPath=/myapp";
        let plain = client.get(list);
        assert_eq!(plain.json()["imports"], json!([]));
        assert!(plain.listed()["URL"].starts_with("${DB_HOST}"));
        let asked = client.get(&format!("{list}&include_imports=true"));
        assert_eq!(pairs(&asked.json()["imports"][0]["secrets"])["PORT"], "1", "{dialect}");
    }
}

#[test]
fn only_older_servers_reject_spaces_in_names() {
    let fake = FakeInfisical::start(&["--dialect", "v3-only"]);
    let mut client = fake.member();
    let body = json!({"workspaceId": PROJECT, "environment": "prod", "secretValue": "v"});
    let spaced = "/api/v3/secrets/raw/TWO%20WORDS";
    let refused = client.write("POST", spaced, &body);
    assert_eq!(
        (refused.status, &refused.json()["message"][0]["path"]),
        (422, &json!(["secretName"]))
    );
    fake.control("PUT", "/dialect", &json!({"dialect": "v4-2026"}));
    assert_eq!(client.write("POST", spaced, &body).status, 200);
}
