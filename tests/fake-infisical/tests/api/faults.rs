//! Every fault, over a real socket.

use std::io::{ErrorKind, Read};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::{Client, FakeInfisical, myapp};

const LOGIN: &str = "/api/v1/auth/universal-auth/login";

fn list() -> String {
    myapp("", "")
}

#[test]
fn refuse_closes_the_port_and_its_connections() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "refuse"}));
    let refused = Client::connect(&fake.public).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(client.send("GET", &list(), &[], None).is_err());
    fake.control("DELETE", "/faults", &Value::Null);
    assert_eq!(fake.member().get(&list()).status, 200);
}

#[test]
fn hang_reads_the_request_and_sends_nothing() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "hang"}));
    client.dispatch("GET", &list(), &[], b"").unwrap();
    let seen = fake.control("GET", "/log/count?path=/api/v4&atLeast=1", &Value::Null);
    assert_eq!(seen["count"], 1);
    let log = fake.control("GET", "/log", &Value::Null);
    assert_eq!((&log[1]["fault"], &log[1]["status"]), (&json!("hang"), &Value::Null));
    // Removing the fault does not continue hanging requests, but others are served
    fake.control("DELETE", "/faults", &Value::Null);
    assert_eq!(fake.member().get(&list()).status, 200);
    fake.fault(json!({"kind": "refuse"}));
    assert!(client.receive().is_err());
}

#[test]
fn reset_happens_before_or_within_the_answer() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "reset"}));
    let error = client.send("GET", &list(), &[], None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    fake.control("DELETE", "/faults", &Value::Null);
    let mut client = fake.member();
    fake.fault(json!({"kind": "reset-mid-body"}));
    let error = client.send("GET", &list(), &[], None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn truncate_sends_less_than_its_length() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "truncate"}));
    let error = client.send("GET", &list(), &[], None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn slow_answer_arrives_complete() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let expected = client.get(&list()).body;
    for fault in [
        json!({"kind": "delay", "ms": 1}),
        json!({"kind": "slow-drip", "delayMs": 0}),
        json!({"kind": "slow-drip", "bytesPerSecond": 1_000_000}),
    ] {
        fake.fault(fault);
        assert_eq!(client.get(&list()).body, expected);
    }
}

#[test]
fn delayed_answer_has_the_state_of_the_request_time() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "delay", "ms": 200}));
    client.dispatch("GET", &list(), &[], b"").unwrap();
    fake.control("GET", "/log/count?path=/api/v4&atLeast=1", &Value::Null);
    let change = json!({"project": crate::support::PROJECT, "environment": "prod",
                        "path": "/myapp", "key": "DB_HOST", "value": "new"});
    fake.control("PUT", "/secret", &change);
    assert_eq!(client.receive().unwrap().listed()["DB_HOST"], "db");
}

#[test]
fn fault_errors_use_the_server_envelope() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "status", "code": 504, "error": "GatewayTimeoutError",
                        "message": "slow"}));
    assert_eq!(client.get(&list()).error(), (504, "GatewayTimeoutError".into(), "slow".into()));
    fake.fault(json!({"kind": "database-error"}));
    assert_eq!(
        client.get(&list()).error(),
        (500, "DatabaseError".into(), "Something went wrong".into())
    );
}

#[test]
fn maintenance_allows_reads() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "maintenance"}));
    assert_eq!(client.get(&list()).status, 200);
    assert_eq!(client.login("hunter2").error().1, "InternalServerError");
}

#[test]
fn proxy_and_portal_faults_answer_html() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    for (kind, status) in [
        ("html-502", 502),
        ("html-503", 503),
        ("html-404", 404),
        ("html-403-waf", 403),
        ("captive-portal", 200),
    ] {
        fake.fault(json!({ "kind": kind }));
        let answer = client.get(&list());
        assert_eq!((answer.status, answer.header("content-type")), (status, "text/html"));
        assert!(answer.text().contains("<html>") && !answer.headers.contains_key("etag"));
    }
}

#[test]
fn redirect_has_the_configured_target() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.client();
    for code in [301, 302, 307] {
        let fault = json!({"kind": "redirect", "location": "http://localhost:1/x", "code": code});
        fake.fault(fault);
        let answer = client.get(&list());
        assert_eq!((answer.status, answer.header("location")), (code, "http://localhost:1/x"));
    }
}

#[test]
fn gzip_fault_compresses_without_request() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let expected = client.get(&list()).text();
    fake.fault(json!({"kind": "gzip"}));
    let answer = client.get(&list());
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut plain = String::new();
    GzDecoder::new(&answer.body[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, expected);
}

#[test]
fn body_faults_send_meaningless_or_oversized_bodies() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let etag = client.get(&list()).header("etag").to_owned();
    fake.fault(json!({"kind": "garbage-json"}));
    let garbage = client.get(&list());
    assert_eq!(garbage.status, 200);
    assert!(garbage.header("content-type").starts_with("application/json"));
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());

    fake.fault(json!({"kind": "wrong-shape"}));
    let secret = client.get(&list()).json()["secrets"][0].clone();
    assert!(secret.get("id").is_some() && secret.get("secretValue").is_none());
    assert_eq!(client.login("hunter2").json().get("accessToken"), None);

    fake.fault(json!({"kind": "huge-list", "entries": 10_000}));
    // Even for a client that has the short list
    let seen = [("if-none-match", etag.as_str())];
    let huge = client.send("GET", &list(), &seen, None).unwrap();
    assert_eq!(huge.listed().len(), 10_003);
}

#[test]
fn rules_match_after_their_delay_for_their_count() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let rules = json!([{"match": {"pathPrefix": "/api/v4", "method": "GET"},
                        "fault": {"kind": "html-502"}, "after": 1, "times": 1}]);
    fake.control("PUT", "/faults", &rules);
    assert_eq!(client.get("/api/status").status, 200);
    let statuses: Vec<_> = (0..3).map(|_| client.get(&list()).status).collect();
    assert_eq!(statuses, [200, 502, 200]);
    let shown = fake.control("GET", "/faults", &Value::Null);
    assert_eq!((&shown[0]["seen"], &shown[0]["hits"]), (&json!(3), &json!(1)));
    assert_eq!(client.write("POST", LOGIN, &json!({})).status, 422);
}
