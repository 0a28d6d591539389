//! Without a metadata service, or with another answer in its place, there is no login, and cached
//! values are served.

use std::thread;

use serde_json::{Value, json};

use psi_harness::machine::{AWS, AZURE, CLOUDS, GCP, Machine, Method};
use psi_harness::{eventually, id, reference};

fn kind(kind: &str) -> Value {
    json!({"kind": kind})
}

fn status(code: u16) -> Value {
    json!({"kind": "status", "code": code, "error": "x", "message": "canary-of-a-body"})
}

#[test]
fn cached_values_are_served_when_the_metadata_connection_fails() {
    check_all(&[
        (CLOUDS[0], kind("refuse"), "the metadata service: no connection to"),
        (CLOUDS[1], kind("refuse"), "the metadata service: no connection to"),
        (CLOUDS[2], kind("refuse"), "the metadata service: no connection to"),
        // An answer of EC2 that takes too many hops never arrives.
        (AWS, kind("hang"), "the metadata service: no answer from"),
        (GCP, kind("reset"), "the metadata service: the connection to"),
        (AZURE, kind("truncate"), "the metadata service: the connection to"),
    ]);
}

#[test]
fn cached_values_are_served_for_any_metadata_answer() {
    check_all(&[
        (AWS, status(429), "answers 429: it is busy"),
        (AWS, kind("html-503"), "answers 503: it is busy"),
        (AWS, status(400), "answers 400: no session (IMDSv2)"),
        (GCP, status(429), "answers 429: it is busy"),
        (GCP, status(403), "answers 403: no identity token"),
        (AZURE, status(410), "answers 410: it is busy"),
        (AZURE, status(404), "answers 404: x: "),
        (AZURE, kind("html-404"), "answers 404: no access token"),
    ]);
}

#[test]
fn cached_values_are_served_when_a_proxy_answers_for_metadata() {
    let redirect = json!({"kind": "redirect", "location": "http://127.0.0.1:9/", "code": 302});
    check_all(&[
        (AWS, kind("captive-portal"), "answers 200: no session"),
        (GCP, kind("captive-portal"), "answers 200: it is not Google's metadata server"),
        (AZURE, kind("captive-portal"), "answers 200: no access token"),
        (AZURE, kind("garbage-json"), "answers 200: no access token"),
        (AWS, redirect.clone(), "answers 302: no session"),
        (GCP, redirect.clone(), "answers 302: no identity token"),
        (AZURE, redirect, "answers 302: no access token"),
    ]);
}

/// Each with its own fake and psid, in parallel: most of the time is waiting.
fn check_all(faults: &[(Method, Value, &str)]) {
    thread::scope(|scope| {
        for (method, fault, words) in faults {
            let name = format!("{} {}", method.name, fault["kind"]);
            let check = move || check(*method, fault, words);
            thread::Builder::new().name(name).spawn_scoped(scope, check).unwrap();
        }
    });
}

fn check(method: Method, fault: &Value, words: &str) {
    let machine = Machine::of(method, &json!({"/myapp": {"KNOWN": "1", "UNKNOWN": "2"}}));
    let instance = &machine.instance;
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "KNOWN")).ok();
    let known = || instance.driver(&["lookup"]).id(id(1)).text();
    assert_eq!(known(), "1");
    psid.await_generation_after(0);
    psid.terminate();
    // After a reboot there is no access token.
    machine.metadata_fault(fault);
    let psid = instance.start();
    assert_eq!(known(), "1");
    let unknown = instance.driver(&["get", &reference("/myapp", "UNKNOWN")]);
    let line = unknown.fails(75);
    assert!(
        line.contains(
            "the value is not cached, and psid cannot log in to infisical: there is no credential to log in with"
        ),
        "{line}"
    );
    assert!(line.contains(words), "{line}");
    assert!(!line.contains("canary-of-a-body"), "{line}");
    assert_eq!(known(), "1");
    let degraded = psid.degraded();
    assert!(degraded.contains(words), "{fault}: {degraded}");
    // Infisical received no request, so it is not down.
    assert_eq!(psid.status()["providers"][0]["up"], true);
    machine.infisical.heal();
    eventually("psid to log in", || {
        let outcome = unknown.run();
        (outcome.code == 0 && outcome.stdout == b"2").then_some(())
    });
    assert_eq!(psid.degraded(), "");
}

/// A failure must not cause more requests than success.
#[test]
fn unavailable_metadata_service_is_called_rarely() {
    let directory: serde_json::Map<_, _> =
        (0..30).map(|number| (format!("K{number}"), json!("v"))).collect();
    let machine = Machine::of(GCP, &json!({"/myapp": directory}));
    let _psid = machine.instance.start();
    machine.metadata_fault(&status(500));
    for number in 0..30 {
        machine.instance.driver(&["get", &reference("/myapp", &format!("K{number}"))]).fails(75);
    }
    let asked = machine.metadata_requests();
    assert!((1..10).contains(&asked), "{asked} requests for 30 lookups");
    assert_eq!(machine.logins(), 0);
}

/// A live token is used regardless of the metadata service.
#[test]
fn live_token_needs_no_metadata_service() {
    let machine = Machine::of(AZURE, &json!({"/myapp": {"A": "1", "B": "2"}}));
    let _psid = machine.instance.start();
    machine.instance.driver(&["get", &reference("/myapp", "A")]).ok();
    machine.metadata_fault(&kind("refuse"));
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
}
