//! The key, the client secret and the backend: each may be missing or wrong, and psid starts.

use std::fs;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, id, reference};

fn filled() -> (FakeInfisical, Instance) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.await_generation_after(0);
    psid.terminate();
    (infisical, instance)
}

#[test]
fn missing_key_means_live_serving_and_an_unchanged_cache() {
    let (_infisical, instance) = filled();
    instance.take_key();
    let before = fs::read(instance.cache()).unwrap();
    let psid = instance.start();
    let degraded = psid.degraded();
    assert!(degraded.contains("there is no key: no credential psi-cache-key, no "), "{degraded}");
    assert!(degraded.contains("psictl cache init --backend tpm"), "{degraded}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    let line = instance.driver(&["lookup"]).id(id(2)).fails(65);
    assert!(line.contains("a sealed literal, and there is no key to open it"), "{line}");
    let status = psid.status();
    assert_eq!(status["survives_outage"], false);
    psid.terminate();
    assert_eq!(fs::read(instance.cache()).unwrap(), before);
    assert!(instance.set_aside().is_empty());
    // With the key, everything is back.
    instance.give_key(&[7; 32]);
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

/// The unit has an empty default, so that psid starts although a credential does not open.
#[test]
fn empty_credential_counts_as_missing() {
    let (_infisical, instance) = filled();
    instance.give_key(b"");
    let psid = instance.start();
    assert!(psid.degraded().contains("there is no key"), "{}", psid.degraded());
    assert!(instance.cache().exists());
}

#[test]
fn key_of_wrong_length_is_reported() {
    let (_infisical, instance) = filled();
    for length in [31, 33] {
        instance.give_key(&vec![7; length]);
        let psid = instance.start();
        let words = format!("the cache key has {length} bytes instead of 32");
        assert!(psid.degraded().contains(&words), "{}", psid.degraded());
        psid.terminate();
    }
    assert!(instance.cache().exists() && instance.set_aside().is_empty());
}

#[test]
fn other_key_decrypts_and_destroys_nothing() {
    let (_infisical, instance) = filled();
    let before = fs::read(instance.cache()).unwrap();
    instance.give_key(&[8; 32]);
    let psid = instance.start();
    assert!(psid.degraded().contains("it was sealed under another key"), "{}", psid.degraded());
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "a reference needs no key");
    let line = instance.driver(&["lookup"]).id(id(2)).fails(65);
    assert!(line.contains("does not open: it was sealed under another key"), "{line}");
    psid.terminate();
    let aside = instance.set_aside();
    assert_eq!(fs::read(&aside[0]).unwrap(), before);
    // Registered literals are kept: the right key opens them.
    instance.give_key(&[7; 32]);
    let _psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

#[test]
fn missing_backend_means_live_lookups_and_one_log_line() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).without_backend());
    let psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    let status = psid.status();
    assert_eq!((&status["backend"], &status["survives_outage"]), (&json!(null), &json!(null)));
    let text = instance.driver(&["cache", "status"]).report();
    assert!(text.contains("cache      none: every lookup asks the provider"), "{text}");
    let log = psid.terminate();
    let warnings = log.lines().filter(|line| line.contains("WARN no key backend"));
    assert_eq!(warnings.count(), 1, "{log}");
    assert!(!instance.cache().exists());
}

/// `enabled = false` caches no provider's value, neither in RAM nor on the disk. Literals are kept,
/// because psid is their only store.
#[test]
fn disabled_cache_stores_only_literals() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).cache("enabled = false"));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    for reads in 1..=3 {
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
        assert_eq!(infisical.reads(), reads);
    }
    instance.driver(&["cache", "refresh"]).run();
    let status = psid.status();
    assert_eq!((&status["entries"], &status["survives_outage"]), (&json!(0), &json!(false)));
    assert_eq!(status["would_fail"], json!([id(1)]));
    psid.terminate();
    let _psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

#[test]
fn missing_client_secret_is_reported_and_found_without_restart() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.take_client_secret();
    let psid = instance.start();
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
    assert!(line.contains("infisical-client-secret"), "{line}");
    let status = psid.status().to_string();
    assert!(status.contains("no credential infisical-client-secret"), "{status}");
    assert_eq!(infisical.logins(), 0);
    instance.give_client_secret(psi_harness::CLIENT_SECRET);
    psi_harness::eventually("the lookup to work", || {
        let outcome = instance.driver(&["get", &reference("/myapp", "A")]).run();
        (outcome.code == 0).then_some(())
    });
}

#[test]
fn missing_credential_is_named_without_a_credentials_directory() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.psid().without("CREDENTIALS_DIRECTORY").start();
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
    assert!(line.contains("no credential infisical-client-secret"), "{line}");
}
