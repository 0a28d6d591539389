//! Migration from the Python PSI's hsm backend, and of secrets that a token sealed.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{
    adopt, assert_mappings_are_as_they_were, expected, instance_in_an_outage, kept, leave_in,
    numbers, python_psi, traces,
};
use psi_harness::{Driver, Instance, Start, Token};

/// An instance with the token that made the fixture, in an outage; the key of its cache is in
/// `backend`.
fn instance_with(token: &Token, backend: &str) -> Instance {
    let instance = instance_in_an_outage();
    let config = fs::read_to_string(instance.config()).unwrap();
    let config = config.replace("backend = \"tpm\"", &format!("backend = \"{backend}\""));
    fs::write(instance.config(), config + &token.config()).unwrap();
    instance
}

fn with(token: &Token, driver: Driver) -> Driver {
    token.environment().iter().fold(driver, |driver, (name, value)| driver.env(name, value))
}

fn psid_with(token: &Token, instance: &Instance) -> Start {
    token.on(instance.psid())
}

/// Every value of the fixture: those of the cache and the sealed one.
#[track_caller]
fn assert_everything_is_served(instance: &Instance) {
    for (id, value) in expected() {
        assert_eq!(instance.driver(&["lookup"]).id(&id).ok(), value, "{id}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `cache init` makes the key; the migration opens the old cache by the same token.
#[test]
fn migration_is_complete_with_the_hsm_backend() {
    let token = Token::of_the_vectors();
    let instance = instance_with(&token, "hsm");
    leave_in(&instance.state(), "cache-hsm.enc");
    with(&token, instance.driver(&["cache", "init", "--backend", "hsm"])).ok();
    let state = instance.state();
    let report = with(&token, adopt(&instance, &["--json", text(&state)])).json();
    assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    assert_eq!(
        fs::read(&kept(&instance)[0]).unwrap(),
        fs::read(python_psi("cache-hsm.enc")).unwrap()
    );
    assert_mappings_are_as_they_were(&instance.state());
    assert_eq!(fs::read(instance.cache()).unwrap()[..6], *b"PSIC\x02\x02");
    for _ in 0..2 {
        let psid = psid_with(&token, &instance).start();
        assert_eq!(psid.degraded(), "");
        assert_everything_is_served(&instance);
        psid.terminate();
    }
}

#[test]
fn token_cache_is_migrated_from_another_directory() {
    let token = Token::of_the_vectors();
    let instance = instance_with(&token, "tpm");
    let old = instance.directory().join("old");
    leave_in(&old, "cache-hsm.enc");
    let before = traces(&old);
    let take = || with(&token, adopt(&instance, &["--json", text(&old)])).json();
    assert_eq!(numbers(&take()), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    assert_eq!(numbers(&take()), ([0, 8, 0, 0], [0, 7, 0, 0, 0]));
    assert_eq!(traces(&old), before);
    let psid = psid_with(&token, &instance).start();
    assert_eq!(psid.degraded(), "");
    assert_everything_is_served(&instance);
    assert_eq!(psid.status()["would_fail"], json!([]));
}

/// N20: anyone with a token's public key can make such a cache, so only an admin's command takes it
/// over.
#[test]
fn n20_start_does_not_migrate_a_token_wrapped_cache() {
    let token = Token::of_the_vectors();
    let instance = instance_with(&token, "tpm");
    leave_in(&instance.state(), "cache-hsm.enc");
    let psid = psid_with(&token, &instance).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("`psid migrate --from psi "), "{degraded}");
    assert_eq!(psid.status()["entries"], json!(0));
    psid.terminate();
    let kept = kept(&instance).remove(0);
    let report = with(&token, adopt(&instance, &["--json", text(&kept)])).json();
    assert_eq!(numbers(&report), ([0; 4], [0, 0, 7, 0, 0]), "no mapping names them yet");
    let state = instance.state();
    let report = with(&token, adopt(&instance, &["--json", text(&state)])).json();
    assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let psid = psid_with(&token, &instance).start();
    assert_eq!(psid.degraded(), "");
    assert_everything_is_served(&instance);
}

#[test]
fn migration_reports_wrong_and_missing_token() {
    let vectors = Token::of_the_vectors();
    let instance = instance_with(&vectors, "tpm");
    let old = instance.directory().join("old");
    leave_in(&old, "cache-hsm.enc");
    vectors.lose_storage();
    let away = with(&vectors, adopt(&instance, &[text(&old)])).run();
    assert_eq!(away.code, 65);
    let line = away.stderr.lines().last().unwrap();
    assert!(line.contains("cache.enc does not open: ") && line.contains("; "), "{line}");
    vectors.find_storage();
    let other = Token::kryoptic();
    let instance = instance_with(&other, "tpm");
    let outcome = with(&other, adopt(&instance, &[text(&old)])).run();
    assert_eq!(outcome.code, 65);
    let line = outcome.stderr.lines().last().unwrap();
    assert!(line.contains("cache.enc does not open: "), "{line}");
    assert!(!instance.cache().exists());
}
