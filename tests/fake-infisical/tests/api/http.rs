//! The server's behaviour below the API.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Client, FakeInfisical, PROJECT, myapp};
use serde_json::{Value, json};

#[test]
fn status_needs_no_login_and_ignores_a_trailing_slash() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.client();
    let answer = client.get("/api/status/");
    assert_eq!(answer.json()["message"], "Ok");
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(client.get("/api/status").status, 200);
    assert_eq!(client.get("/nothing/here").json().get("reqId"), None);
}

#[test]
fn broken_json_and_a_body_above_1_mib_are_500_and_a_non_object_is_422() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.client();
    let login = "/api/v1/auth/universal-auth/login";
    let internal =
        |status: u16| (status, "InternalServerError".to_owned(), "Something went wrong".to_owned());
    let json = [("content-type", "application/json")];
    let large = vec![b' '; (1 << 20) + 1];
    for (headers, body) in [
        (&json[..], &b"{\"clientId\":"[..]),
        (&json, &large),
        (&[("content-type", "application/octet-stream")], b"{}"),
    ] {
        let answer = client.send_raw("POST", login, headers, body).unwrap();
        assert_eq!(answer.error(), internal(500));
    }
    for (headers, body) in [
        (&json[..], &b""[..]),
        (&[], b""),
        (&[("content-type", "text/plain")], b"{}"),
        (&[("content-type", "application/x-www-form-urlencoded")], b"clientId=a"),
    ] {
        let answer = client.send_raw("POST", login, headers, body).unwrap();
        let (status, error, _) = answer.error();
        assert_eq!((status, error.as_str()), (422, "ValidationFailure"));
        assert_eq!(answer.json()["message"][0]["path"], json!([]));
    }
    // A token is required before the body is read
    let target = format!("/api/v4/secrets/K?projectId={PROJECT}");
    let answer = client.send_raw("POST", &target, &json, b"{").unwrap();
    assert_eq!(answer.error().2, "Token missing");
    let log = fake.control("GET", "/log", &Value::Null);
    assert_eq!((&log[1]["bodyBytes"], &log[1]["body"]), (&json!(large.len()), &json!("")));
}

#[test]
fn wrong_types_are_reported_as_a_list_of_issues() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.client();
    let login = "/api/v1/auth/universal-auth/login";
    let answer = client.write("POST", login, &json!({"clientId": 7}));
    assert_eq!(
        answer.json()["message"],
        json!([
            {"code": "invalid_type", "expected": "string", "received": "number",
             "path": ["clientId"], "message": "Expected string, received number"},
            {"code": "invalid_type", "expected": "string", "received": "undefined",
             "path": ["clientSecret"], "message": "Required"},
        ])
    );
}

#[test]
fn rate_limit_is_off_until_set_and_then_per_route_and_address() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    assert!(!client.get(&myapp("", "")).headers.contains_key("x-ratelimit-limit"));

    fake.settings(json!({"rateLimit": {"secret": 2}}));
    let first = client.get(&myapp("", ""));
    assert_eq!(
        (first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")),
        ("2", "1")
    );
    client.get(&myapp("", ""));
    let third = client.get(&myapp("", ""));
    let seconds = third.header("retry-after").to_owned();
    assert_eq!(
        third.error(),
        (
            429,
            "RateLimitExceeded".into(),
            format!("Rate limit exceeded. Please try again in {seconds} seconds")
        )
    );
    assert_eq!(third.header("x-ratelimit-reset"), seconds);
    assert_eq!(client.get(&myapp("/DB_HOST", "")).status, 200, "a get has a window of its own");
    let status = client.get("/api/status");
    assert_eq!(status.status, 200);
    assert!(!status.headers.contains_key("x-ratelimit-limit"));
    let elsewhere = [("x-forwarded-for", "10.1.1.1")];
    let answer = client.send("GET", &myapp("", ""), &elsewhere, None).unwrap();
    assert_eq!(answer.status, 200);
    fake.advance(60);
    assert_eq!(client.get(&myapp("", "")).status, 200);

    fake.settings(json!({"rateLimit": {"login": 200, "list": 40}}));
    assert_eq!(client.login("hunter2").header("x-ratelimit-limit"), "200");
    let statuses: Vec<_> = (0..41).map(|_| client.get(&myapp("", "")).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 39, "one came before");
    assert!(!client.get(&myapp("/DB_HOST", "")).headers.contains_key("x-ratelimit-limit"));
}

#[test]
fn path_that_cannot_be_decoded_is_fastifys_400() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    for target in ["/api/v4/secrets/%ZZ", "/api/v4/secrets/%4", "/api/v4/secrets/%FF"] {
        let answer = client.get(target);
        assert_eq!(answer.status, 400, "{target}");
        assert_eq!(answer.json().get("reqId"), None);
        assert!(!answer.headers.contains_key("etag"));
    }
    let log = fake.control("GET", "/log", &Value::Null);
    assert_eq!(log[1]["status"], 400);
}

#[test]
fn path_with_a_control_character_is_a_bad_request() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    for name in ["", "/K"] {
        let target =
            format!("/api/v4/secrets{name}?projectId={PROJECT}&environment=prod&secretPath=/a%09b");
        let (status, error, _) = client.get(&target).error();
        assert_eq!((status, error.as_str()), (400, "BadRequest"));
    }
    let body = json!({"projectId": PROJECT, "environment": "prod", "secretPath": "/a\u{1b}b",
                      "secretValue": "v"});
    assert_eq!(client.write("POST", "/api/v4/secrets/K", &body).error().0, 400);
}

#[test]
fn input_that_is_not_http_is_fastifys_400() {
    let fake = FakeInfisical::start(&[]);
    let mut stream = TcpStream::connect(&fake.public).unwrap();
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains(r#""message":"Client Error""#));
}

#[test]
fn signal_ends_the_server_cleanly() {
    for signal in ["-TERM", "-INT"] {
        assert!(FakeInfisical::start(&[]).end(signal).success(), "{signal}");
    }
}

#[test]
fn port_can_be_reused_at_once() {
    let fake = FakeInfisical::start(&[]);
    let address = fake.public.clone();
    // A live connection leaves the port in TIME_WAIT
    let mut client = fake.member();
    drop(fake);
    let again = FakeInfisical::start(&["--listen", &address]);
    assert_eq!(again.public, address);
    // The server's secret survives it, and so do tokens
    let mut reconnected = Client::connect(&address).unwrap();
    reconnected.token = client.token.take();
    assert_eq!(reconnected.get(&myapp("", "")).status, 200);
}
