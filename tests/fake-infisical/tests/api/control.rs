//! The control port, as far as other tests do not cover it.

use crate::support::{FakeInfisical, IDENTITY, PROJECT, map, myapp};
use serde_json::{Value, json};

#[test]
fn request_log_has_requests_and_answers() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    client.get("/api/v4/secrets/K%20L/?projectId=p&a=1&a=2");
    let log = fake.control("GET", "/log", &Value::Null);
    let (login, get) = (&log[0], &log[1]);
    assert_eq!(
        (&login["n"], &login["method"], &login["status"]),
        (&json!(1), &json!("POST"), &json!(200))
    );
    let body = login["body"].as_str().unwrap();
    assert!(body.contains("hunter2") && login["bodyBytes"] == body.len());
    assert_eq!(get["path"], "/api/v4/secrets/K%20L/");
    assert_eq!(get["query"], json!({"projectId": "p", "a": ["1", "2"]}));
    let token = format!("Bearer {}", client.token.unwrap());
    assert_eq!(get["headers"]["authorization"], token);
    assert_eq!((&get["status"], &get["fault"]), (&json!(400), &Value::Null));

    let gets = fake.control("GET", "/log/count?path=/api/v4&method=get", &Value::Null);
    assert_eq!(gets["count"], 1);
    fake.control("DELETE", "/log", &Value::Null);
    assert_eq!(fake.control("GET", "/log", &Value::Null), json!([]));
    let stats = fake.control("GET", "/stats", &Value::Null);
    assert_eq!(
        stats,
        json!({"requests": 2, "logins": 1, "gets": 1, "lists": 0, "notModified": 0,
               "connections": 1})
    );
}

#[test]
fn state_can_be_exported_and_restored() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let state = fake.control("GET", "/state", &Value::Null);
    let stored = &state["projects"][0]["secrets"]["prod"]["/myapp"]["DB_HOST"];
    assert_eq!((&stored["value"], &stored["version"]), (&json!("db"), &json!(1)));
    assert_eq!(state["identities"][0]["clientSecrets"][0]["uses"], 1);
    fake.control("PUT", "/state", &json!({}));
    assert_eq!(client.get(&myapp("", "")).status, 401);
    fake.control("PUT", "/state", &state);
    assert_eq!(client.get(&myapp("", "")).status, 200);
}

#[test]
fn state_in_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let example = readme.split("```json\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let fake = FakeInfisical::with_state(&serde_json::from_str(example).unwrap(), &[]);
    let values = fake.member().get(&myapp("", "")).listed();
    assert_eq!(values["DB_HOST"], "a plain value");
}

#[test]
fn control_stores_secrets_without_the_api() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let place = json!({"project": PROJECT, "environment": "prod", "path": "/new/folder",
                       "key": "K"});
    let mut put = place.clone();
    put["value"] = json!("  raw \n\n");
    fake.control("PUT", "/secret", &put);
    let list =
        format!("/api/v4/secrets?projectId={PROJECT}&environment=prod&secretPath=/new/folder");
    assert_eq!(client.get(&list).listed(), map(&[("K", "  raw \n\n")]));
    fake.control("DELETE", "/secret", &place);
    assert_eq!(client.get(&list).listed(), map(&[]));
    assert_eq!(fake.try_control("DELETE", "/secret", &place).status, 404);
}

#[test]
fn control_errors_name_the_mistake() {
    let fake = FakeInfisical::start(&[]);
    let message = |method: &str, path: &str, body: Value| {
        let answer = fake.try_control(method, path, &body);
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        (answer.status, message)
    };
    assert_eq!(message("GET", "/nothing", Value::Null).0, 404);
    let (status, text) = message("PATCH", "/settings", json!({"hiddenvalues": true}));
    assert_eq!(status, 400);
    assert!(text.contains("hiddenvalues"));
    let (status, text) = message("PUT", "/faults", json!([{"fault": {"kind": "gremlin"}}]));
    assert_eq!(status, 400);
    assert!(text.contains("gremlin"));
    let unknown = json!({"project": "p", "identity": IDENTITY});
    assert_eq!(message("PUT", "/permission", unknown).0, 404);
    assert_eq!(message("PUT", "/dialect", json!({"dialect": "v5"})).0, 400);
    assert_eq!(fake.control("GET", "/dialect", &Value::Null)["dialect"], "v4-2026");
}
