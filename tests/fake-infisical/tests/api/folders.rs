//! Folders, in both versions.

use crate::support::{FakeInfisical, PROJECT};
use serde_json::json;

#[test]
fn directories_are_created_once_and_listed() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let body = json!({"projectId": PROJECT, "environment": "prod", "name": "b", "path": "a"});
    let made = client.write("POST", "/api/v2/folders", &body).json()["folder"].clone();
    assert_eq!((&made["path"], &made["name"]), (&json!("/a/b"), &json!("b")));
    let again = client.write("POST", "/api/v2/folders", &body);
    assert_eq!(again.error().0, 400);
    let mut bad = body.clone();
    bad["name"] = json!("no spaces");
    assert_eq!(client.write("POST", "/api/v2/folders", &bad).status, 422);

    let mut names = |target: &str| {
        let answer = client.get(target).json();
        let folders = answer["folders"].as_array().unwrap().clone();
        let text = |folder: &serde_json::Value, key: &str| {
            folder[key].as_str().unwrap_or_default().to_owned()
        };
        let both = folders.iter().map(|f| (text(f, "name"), text(f, "relativePath")));
        both.collect::<Vec<_>>()
    };
    let v2 = format!("/api/v2/folders?projectId={PROJECT}&environment=prod");
    assert_eq!(names(&format!("{v2}&path=/a")), [("b".into(), String::new())]);
    assert_eq!(
        names(&format!("{v2}&path=/myapp&recursive=True")),
        [("deep".into(), "deep".into())]
    );
    let v1 = format!("/api/v1/folders?workspaceId={PROJECT}&environment=prod");
    assert_eq!(names(&v1).len(), 6);
    let unknown = format!("/api/v2/folders?projectId={PROJECT}&environment=no&path=/");
    assert_eq!(client.get(&unknown).error().0, 404);
}
