//! A refused login is no statement about a secret: cached values are served, psid is degraded, the
//! retry is delayed across restarts, and one success ends it.

use std::thread;

use serde_json::{Value, json};

use psi_harness::{
    CLIENT_SECRET, Config, FakeInfisical, IDENTITY, Instance, Psid, fault, id, reference,
};

/// A psid that has served and persisted `A`; its config names `/myapp`.
fn served(infisical: &FakeInfisical) -> (Instance, Psid) {
    let instance = Instance::of(infisical);
    instance.configure(&Config::of(infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid.await_generation_after(0);
    (instance, psid)
}

fn secrets() -> Value {
    json!({"/myapp": {"A": "1", "B": "2"}})
}

/// Asserts that nothing was evicted or is pending, and that psid reports the refusal.
#[track_caller]
fn is_served_and_alarmed(instance: &Instance, psid: &Psid, words: &str) {
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    let outcome = instance.driver(&["cache", "refresh"]).run();
    assert_eq!(outcome.code, 75, "{}", outcome.stderr);
    let lines = outcome.stdout_text();
    assert!(lines.contains(words), "{words}: {lines}");
    let status = psid.status();
    assert_eq!((&status["entries"], &status["withheld_count"]), (&json!(2), &json!(0)), "{status}");
    assert_eq!(status["providers"][0]["up"], true, "{status}");
    assert!(psid.degraded().contains(words), "{words}: {}", psid.degraded());
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    let line = instance.driver(&["get", &reference("/myapp", "UNKNOWN")]).fails(75);
    assert!(line.contains("psid cannot log in to infisical"), "{line}");
    assert!(line.contains(words), "{line}");
}

#[test]
fn refused_client_secret_evicts_nothing_and_logs_in_once_across_restarts() {
    let infisical = FakeInfisical::with(&secrets());
    let (instance, psid) = served(&infisical);
    psid.terminate();
    infisical.change_client_secret("another-secret");
    infisical.clear_log();
    for _ in 0..4 {
        let mut psid = instance.start();
        is_served_and_alarmed(
            &instance,
            &psid,
            "the login as universal-auth client client was refused",
        );
        assert!(psid.degraded().contains("seal a new client secret"), "{}", psid.degraded());
        assert!(psid.degraded().contains("psid tries again in "), "{}", psid.degraded());
        psid.reload();
        is_served_and_alarmed(&instance, &psid, "Infisical answers 401");
        let log = psid.terminate();
        assert!(log.contains("was refused"), "{log}");
    }
    assert_eq!(infisical.logins(), 1, "whatever restarts, reloads and refreshes");
    let psid = instance.start();
    let outcome = instance.driver(&["cache", "refresh", "--retry"]).run();
    assert_eq!(outcome.code, 75, "{}", outcome.stderr);
    assert_eq!(infisical.logins(), 2, "--retry makes one try");
    // Another client secret is tried at once and ends the refusal.
    instance.give_client_secret("another-secret");
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(infisical.logins(), 3);
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    assert_eq!(psid.status()["degraded"], json!([]));
    psid.await_log("logged in again as universal-auth client client");
    // A success removes the remembered refusal.
    psid.terminate();
    let _psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
}

/// Every status by which the server may refuse a login.
#[test]
fn refused_login_is_no_statement_about_a_secret() {
    let refusals = [
        fault::refusal(401, "UnauthorizedError", "Invalid credentials"),
        fault::refusal(403, "ForbiddenError", "trust binding missing"),
        fault::refusal(400, "BadRequest", "Identity does not belong to this organization"),
        fault::refusal(404, "NotFound", "no such auth method"),
        fault::refusal(422, "ValidationFailure", "no"),
    ];
    thread::scope(|scope| {
        for refusal in &refusals {
            scope.spawn(move || {
                let infisical = FakeInfisical::with(&secrets());
                let (instance, psid) = served(&infisical);
                psid.terminate();
                infisical.fault_login(IDENTITY, refusal);
                infisical.clear_log();
                let psid = instance.start();
                let words = refusal["message"].as_str().unwrap();
                is_served_and_alarmed(&instance, &psid, words);
                assert_eq!(infisical.logins(), 1, "{refusal}");
                infisical.heal();
                instance.driver(&["cache", "refresh", "--retry"]).ok();
                assert_eq!(psid.status()["degraded"], json!([]), "{refusal}");
            });
        }
    });
}

/// The identity is locked, or rate-limited: no process logs in before the time is over.
#[test]
fn locked_identity_and_rate_limit_are_respected_across_restarts() {
    for (fault, words) in [
        (fault::locked(), "temporarily locked"),
        (fault::too_many(600), "429"),
        (fault::lock_contended(), "429"),
    ] {
        let infisical = FakeInfisical::with(&secrets());
        let (instance, psid) = served(&infisical);
        psid.terminate();
        infisical.fault_login(IDENTITY, &fault);
        infisical.clear_log();
        for _ in 0..3 {
            let psid = instance.start();
            assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
            let line = instance.driver(&["get", &reference("/myapp", "UNKNOWN")]).fails(75);
            assert!(line.contains(words), "{line}");
            psid.crash();
        }
        assert_eq!(infisical.logins(), 1, "{words}");
    }
}

/// The login succeeds, and the server refuses its token.
#[test]
fn refused_token_is_a_login_failure() {
    for (code, error, message) in [
        (401, "UnauthorizedError", "Identity is not a member of the organization"),
        (401, "UnauthorizedError", "Identity organization membership is inactive"),
        (
            401,
            "UnauthorizedError",
            "Identity access token exceeded max age, please re-authenticate",
        ),
        (404, "NotFound", "Service token with ID 'x' not found"),
    ] {
        let infisical = FakeInfisical::with(&secrets());
        let (instance, psid) = served(&infisical);
        infisical.faults(&json!([
            {"match": {"route": "list"}, "fault": fault::refusal(code, error, message)},
            {"match": {"route": "get"}, "fault": fault::refusal(code, error, message)},
        ]));
        infisical.clear_log();
        for _ in 0..3 {
            is_served_and_alarmed(&instance, &psid, message);
        }
        assert_eq!(infisical.logins(), 1, "a new login is tried once: {message}");
        infisical.heal();
        instance.driver(&["cache", "refresh"]).ok();
    }
}

#[test]
fn deleted_identity_evicts_no_cached_value() {
    let infisical = FakeInfisical::with(&secrets());
    let (instance, psid) = served(&infisical);
    infisical.delete_identity(IDENTITY);
    is_served_and_alarmed(&instance, &psid, "Infisical answers 401");
    psid.terminate();
    let psid = instance.start();
    is_served_and_alarmed(&instance, &psid, "Infisical answers 401");
}

/// A secret that no server accepts is not sent: three failures lock the identity for all hosts.
#[test]
fn malformed_client_secret_is_not_sent() {
    let infisical = FakeInfisical::with(&secrets());
    let (instance, psid) = served(&infisical);
    psid.terminate();
    infisical.clear_log();
    let psid = instance.start();
    for (secret, words) in [
        (format!("\u{feff}{CLIENT_SECRET}"), "byte order mark"),
        (format!("\"{CLIENT_SECRET}\""), "is in quotes"),
        (format!("{CLIENT_SECRET}\n{CLIENT_SECRET}\n"), "more than one line"),
        (CLIENT_SECRET.chars().flat_map(|c| [c, '\0']).collect(), "contains a NUL byte"),
        ("\n".to_owned(), "is empty"),
    ] {
        instance.give_client_secret(&secret);
        is_served_and_alarmed(&instance, &psid, words);
        assert!(psid.degraded().contains("and was not sent"), "{}", psid.degraded());
    }
    assert_eq!(infisical.logins(), 0);
    instance.give_client_secret(&format!("{CLIENT_SECRET}\n"));
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(psid.status()["degraded"], json!([]));
}
