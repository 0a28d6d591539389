//! The server's manners below the API.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Client, Double, PROJECT, myapp};
use serde_json::{Value, json};

#[test]
fn status_is_open_and_a_trailing_slash_is_nothing() {
    let double = Double::start(&[]);
    let mut client = double.client();
    let answer = client.get("/api/status/");
    assert_eq!(answer.json()["message"], "Ok");
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(client.get("/api/status").status, 200);
    assert_eq!(client.get("/nothing/here").json().get("reqId"), None);
}

#[test]
fn bodies_that_are_no_json_or_too_large_end_in_500() {
    let double = Double::start(&[]);
    let mut client = double.client();
    let login = "/api/v1/auth/universal-auth/login";
    let internal =
        |status: u16| (status, "InternalServerError".to_owned(), "Something went wrong".to_owned());
    let json = [("content-type", "application/json")];
    let large = vec![b' '; (1 << 20) + 1];
    for (headers, body) in [
        (&json[..], &b"{\"clientId\":"[..]),
        (&json, b""),
        (&json, &large),
        (&[("content-type", "text/plain")], b"{}"),
    ] {
        let answer = client.send_raw("POST", login, headers, body).unwrap();
        assert_eq!(answer.error(), internal(500));
    }
    // A token is asked for before the body is looked at
    let target = format!("/api/v4/secrets/K?projectId={PROJECT}");
    let answer = client.send_raw("POST", &target, &json, b"{").unwrap();
    assert_eq!(answer.error().2, "Token missing");
    let log = double.control("GET", "/log", &Value::Null);
    assert_eq!((&log[2]["bodyBytes"], &log[2]["body"]), (&json!(large.len()), &json!("")));
}

#[test]
fn wrong_types_are_a_list_of_issues() {
    let double = Double::start(&[]);
    let mut client = double.client();
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
fn rate_limits_are_off_until_set_and_then_per_address_and_category() {
    let double = Double::start(&[]);
    let mut client = double.member();
    assert!(!client.get(&myapp("", "")).headers.contains_key("x-ratelimit-limit"));

    double.settings(json!({"rateLimit": {"secret": 2}}));
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
    assert_eq!(client.get("/api/status").status, 200);
    let elsewhere = [("x-forwarded-for", "10.1.1.1")];
    let answer = client.send("GET", &myapp("", ""), &elsewhere, None).unwrap();
    assert_eq!(answer.status, 200);
    double.advance(60);
    assert_eq!(client.get(&myapp("", "")).status, 200);
}

#[test]
fn what_is_not_http_gets_fastifys_400() {
    let double = Double::start(&[]);
    let mut stream = TcpStream::connect(&double.public).unwrap();
    stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains(r#""message":"Client Error""#));
}

#[test]
fn a_signal_ends_it_in_order() {
    for signal in ["-TERM", "-INT"] {
        assert!(Double::start(&[]).end(signal).success(), "{signal}");
    }
}

#[test]
fn a_port_can_be_taken_over_at_once() {
    let double = Double::start(&[]);
    let address = double.public.clone();
    // A live connection leaves the port in TIME_WAIT behind it
    let mut client = double.member();
    drop(double);
    let again = Double::start(&["--listen", &address]);
    assert_eq!(again.public, address);
    // The server's secret outlives it, so tokens do too
    let mut reconnected = Client::connect(&address).unwrap();
    reconnected.token = client.token.take();
    assert_eq!(reconnected.get(&myapp("", "")).status, 200);
}
