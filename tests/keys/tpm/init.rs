//! `cache init --backend tpm`: a key is made, sealed, proved and never lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use super::{in_use, init, instance_on, psid_on};
use psi_harness::{FakeInfisical, Instance, Tpm, id};

/// The files in the directories of config and state.
fn files(instance: &Instance) -> Vec<PathBuf> {
    let directories = [instance.directory().join("etc"), instance.state()];
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn init_seals_and_proves_a_key_and_writes_an_empty_cache() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    let (sealed, cache) = (instance.sealed_key(), instance.cache());
    let output = init(&instance, &tpm, &[]).text();
    assert!(output.contains(&format!("sealed a new key in {}", sealed.display())), "{output}");
    assert!(output.contains("tpm2, PCRs 7") && output.contains("proved that it opens"), "{output}");
    assert!(output.contains(&format!("wrote an empty {}", cache.display())), "{output}");
    assert!(output.contains("\nnext: `systemctl restart psid`\n"), "the config names it: {output}");
    let recovery = instance.state().join("recovery.enc");
    let made = [sealed.clone(), instance.config(), cache.clone(), recovery.clone()];
    assert_eq!(files(&instance), made);
    for file in [&sealed, &cache, &recovery] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(fs::read(&cache).unwrap().starts_with(b"PSIC\x02\x01"));
    let psid = psid_on(&instance, &tpm).start();
    let status = psid.status();
    assert_eq!((&status["degraded"], &status["backend"]), (&json!([]), &json!("tpm")));
    assert_eq!((&status["generation"], &status["entries"]), (&json!(1), &json!(0)));
}

#[test]
fn init_does_not_replace_a_key_in_use() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = in_use(&infisical, &tpm);
    let before = files(&instance);
    let key = fs::read(instance.sealed_key()).unwrap();
    let line = init(&instance, &tpm, &[]).run();
    assert_ne!(line.code, 0);
    assert!(line.stderr.contains("is in use; --force replaces it"), "{}", line.stderr);
    assert_eq!((line.stderr.lines().count(), line.stdout.len()), (1, 0));
    assert_eq!(files(&instance), before);
    assert_eq!(fs::read(instance.sealed_key()).unwrap(), key);
}

#[test]
fn forced_init_is_refused_while_psid_runs() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = in_use(&infisical, &tpm);
    let before = files(&instance);
    let _psid = psid_on(&instance, &tpm).start();
    let line = init(&instance, &tpm, &["--force"]).run();
    assert_ne!(line.code, 0);
    assert!(line.stderr.contains("psid is running; stop it first"), "{}", line.stderr);
    assert_eq!(files(&instance), before);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
}

#[test]
fn forced_init_sets_the_old_key_and_cache_aside() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = in_use(&infisical, &tpm);
    let old = [instance.sealed_key(), instance.cache()].map(|path| fs::read(path).unwrap());
    let output = init(&instance, &tpm, &["--force"]).text();
    assert_eq!(output.matches("set the old ").count(), 3, "{output}");
    for bytes in old {
        let kept = files(&instance).into_iter().any(|path| {
            path.to_string_lossy().contains(".old-") && fs::read(path).unwrap() == bytes
        });
        assert!(kept, "{:?}", files(&instance));
    }
    let psid = psid_on(&instance, &tpm).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("sealed under another key"), "the literal: {degraded}");
}

#[test]
fn init_without_tpm_fails_and_leaves_nothing() {
    let mut tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    let call = init(&instance, &tpm, &[]);
    tpm.power_off();
    let outcome = call.run();
    assert_ne!(outcome.code, 0);
    assert_eq!(
        (outcome.stderr.lines().count(), outcome.stdout.len()),
        (1, 0),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("sealing a key with --seal-with tpm2: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--seal-with host"), "{}", outcome.stderr);
    assert_eq!(files(&instance), [instance.config()]);
}

/// The forced init failed: the old key, which is still good, stays in place.
#[test]
fn failed_forced_init_keeps_the_old_key() {
    let mut tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = in_use(&infisical, &tpm);
    let before = files(&instance);
    let call = init(&instance, &tpm, &["--force"]);
    tpm.power_off();
    assert_ne!(call.run().code, 0);
    assert_eq!(files(&instance), before);
    tpm.power_on();
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
}

/// A cache without its key, as after a restored backup: init does not change it, and a forced init
/// sets it aside.
#[test]
fn init_replaces_a_cache_without_key_only_with_force() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = in_use(&infisical, &tpm);
    fs::remove_file(instance.sealed_key()).unwrap();
    let cache = fs::read(instance.cache()).unwrap();
    let before = files(&instance);
    let outcome = init(&instance, &tpm, &[]).run();
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("--force sets it aside"), "{}", outcome.stderr);
    assert_eq!(files(&instance), before);
    init(&instance, &tpm, &["--force"]).ok();
    let kept = files(&instance).into_iter().any(|path| {
        path.to_string_lossy().contains("cache.enc.old-") && fs::read(path).unwrap() == cache
    });
    assert!(kept, "{:?}", files(&instance));
}
