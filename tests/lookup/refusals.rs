//! A refusal by the provider itself is no outage; a secret that was never cached fails with it.

use std::thread;
use std::time::Duration;

use serde_json::json;

use psi_harness::{Clock, Config, FakeInfisical, Instance, eventually, id, reference};

#[test]
fn infisicals_404_is_no_such_secret() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    for (path, key, words) in [
        ("/myapp", "NONE", "Infisical has no secret 'NONE' in /myapp"),
        ("/nowhere", "A", "Infisical answers 404 SecretPathNotFound: Folder with path '/nowhere'"),
    ] {
        let line = instance.driver(&["get", &reference(path, key)]).fails(66);
        assert!(line.contains("infisical has no such secret: "), "{line}");
        assert!(line.contains(words) && line.contains("; check project, path and key"), "{line}");
    }
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

#[test]
fn infisicals_403_is_not_allowed() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    infisical.permit(&json!([]));
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(77);
    assert!(line.contains("infisical denies it: Infisical answers 403 PermissionDenied"), "{line}");
    assert!(line.contains("; check the identity's credentials and permissions"), "{line}");
    infisical.control(
        "PUT",
        "/permission",
        &json!({"project": psi_harness::PROJECT, "identity": psi_harness::IDENTITY, "member": false}),
    );
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(77);
    assert!(line.contains("Infisical answers 403"), "{line}");
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

/// A 4xx about the request is an answer, even if it has no value.
#[test]
fn rejected_request_is_neither_outage_nor_absence() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2", "C": "3"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    for (code, error, key) in [(400, "BadRequest", "A"), (422, "ValidationFailure", "B")] {
        infisical.faults(&json!([{
            "match": {"method": "GET"},
            "fault": {"kind": "status", "code": code, "error": error, "message": "no"},
        }]));
        infisical.clear_log();
        for _ in 0..5 {
            let line = instance.driver(&["get", &reference("/myapp", key)]).fails(75);
            assert!(line.contains("infisical rejects the request"), "{line}");
            assert!(line.contains(&format!("Infisical answers {code} {error}: no")), "{line}");
        }
        // A repeated request would have the same answer.
        assert_eq!(infisical.reads(), 1);
        assert_eq!(psid.status()["providers"][0]["up"], true);
    }
    infisical.heal();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "C")]).text(), "3");
}

#[test]
fn unknown_project_is_no_such_secret() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let text = Config::of(&infisical).to_string().replace(psi_harness::PROJECT, "no-such-project");
    std::fs::write(instance.config(), text).unwrap();
    let _psid = instance.start();
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(66);
    assert!(line.contains("no-such-project"), "{line}");
}

/// A permission that is being edited must not empty the caches of all hosts: one answer that a
/// secret is gone or denied removes no cached value, a second one a minute later does.
#[test]
fn cached_value_is_removed_by_a_second_refusal_a_minute_later() {
    thread::scope(|scope| {
        scope.spawn(|| removed_by_second_refusal(404, "NotFound", 66));
        scope.spawn(|| removed_by_second_refusal(403, "PermissionDenied", 77));
    });
}

fn removed_by_second_refusal(status: u16, error: &str, code: i32) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(
        &Config::of(&infisical).cache("refresh_interval = \"10m\"\nrefresh_jitter = \"1s\""),
    );
    let clock = Clock::of(&instance);
    let psid = clock.on(instance.psid()).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    let lookup = || instance.driver(&["lookup"]).id(id(1));
    assert_eq!(lookup().text(), "1");
    infisical.faults(&json!([{
        "match": {"method": "GET"},
        "fault": {"kind": "status", "code": status, "error": error, "message": "no"},
    }]));
    infisical.clear_log();
    clock.advance(Duration::from_secs(700));
    assert_eq!(lookup().text(), "1", "the first refusal");
    let reads = infisical.reads();
    assert!(reads > 0, "the value is not fresh any more");
    // Within the minute, psid makes no other request.
    clock.advance(Duration::from_secs(50));
    for _ in 0..5 {
        assert_eq!(lookup().text(), "1");
    }
    assert_eq!(infisical.reads(), reads);
    let status = psid.status();
    assert_eq!(status["entries"], 1);
    // The provider answered, so it is up.
    assert_eq!(status["providers"][0]["up"], true);
    clock.advance(Duration::from_secs(20));
    let line = lookup().fails(code);
    assert!(line.contains("Infisical answers"), "{line}");
    assert_eq!(psid.status()["entries"], 0);
    // A removed value causes no request at each lookup, and returns when the provider has it again.
    infisical.heal();
    infisical.clear_log();
    lookup().fails(code);
    assert!(infisical.log().is_empty());
    clock.advance(Duration::from_secs(700));
    assert_eq!(lookup().text(), "1");
}

/// Refusals within a minute of the first one remove no cached value, however many there are.
#[test]
fn cached_value_survives_a_first_refusal() {
    thread::scope(|scope| {
        scope.spawn(|| outlives(404, "NotFound"));
        scope.spawn(|| outlives(403, "PermissionDenied"));
    });
}

fn outlives(code: u16, error: &str) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).short_lived());
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    let lookup = || instance.driver(&["lookup"]).id(id(1)).text();
    assert_eq!(lookup(), "1");
    infisical.faults(&json!([{
        "match": {"method": "GET"},
        "fault": {"kind": "status", "code": code, "error": error, "message": "no"},
    }]));
    infisical.clear_log();
    eventually("the provider to refuse more than once", || {
        assert_eq!(lookup(), "1");
        (infisical.reads() >= 3).then_some(())
    });
    for _ in 0..5 {
        assert_eq!(lookup(), "1");
    }
    let status = psid.status();
    assert_eq!(status["entries"], 1);
    // The provider answered, so it is up.
    assert_eq!(status["providers"][0]["up"], true);
}

/// N6: the Python PSI refused a cached value when its provider had failed to open at the start.
#[test]
fn n6_failed_login_keeps_cached_values() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.persist_reference(&psid);
    psid.terminate();
    instance.take_client_secret();
    let psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    let line = instance.driver(&["get", &reference("/myapp", "B")]).fails(75);
    assert!(line.contains("infisical-client-secret"), "{line}");
    drop(psid);
}
