//! Migration of an old cache whose key is missing, is another key, or is wrapped by a token.

use std::fs;

use serde_json::json;

use super::{
    SEALED, adopt, assert_all_are_served, instance_in_an_outage, kept, leave_in, numbers,
    python_psi,
};
use psi_harness::{Instance, Tpm};

fn psid_on(instance: &Instance, tpm: &Tpm) -> psi_harness::Start {
    tpm.flush();
    instance.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device())
}

#[test]
fn migration_without_key_takes_over_mappings_only() {
    let instance = instance_in_an_outage();
    leave_in(&instance.state(), "cache-tpm.enc");
    let key = fs::read(python_psi("psi-cache-key")).unwrap();
    instance.take_key();
    let state = instance.state();
    let outcome = adopt(&instance, &[state.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 65);
    assert!(outcome.stderr.contains("there is no key"), "{}", outcome.stderr);
    let psid = instance.start();
    assert_eq!(instance.driver(&["list"]).text().lines().count(), 8, "the mappings need no key");
    psid.terminate();
    assert_eq!(fs::read(instance.cache()).unwrap(), fs::read(python_psi("cache-tpm.enc")).unwrap());
    instance.give_key(&key);
    adopt(&instance, &[state.to_str().unwrap()]).ok();
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&instance);
}

/// A wrong key and a damaged file cannot be distinguished: the message names both, and the remedy.
#[test]
fn migration_completes_once_the_right_key_is_found() {
    let instance = instance_in_an_outage();
    leave_in(&instance.state(), "cache-tpm.enc");
    instance.give_key(&[8; 32]);
    let state = instance.state();
    let outcome = adopt(&instance, &[state.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 65);
    let expected =
        "it was damaged, or sealed under another key; name another cache, or its key with --key";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    let key = python_psi("psi-cache-key");
    let args = ["--json", "--key", key.to_str().unwrap(), state.to_str().unwrap()];
    assert_eq!(numbers(&adopt(&instance, &args).json()), ([0, 8, 0, 0], [7, 0, 0, 0, 0]));
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&instance);
    let old = fs::read(python_psi("cache-tpm.enc")).unwrap();
    assert_eq!(fs::read(&kept(&instance)[0]).unwrap(), old, "not a byte of it is changed");
}

#[test]
fn migration_names_token_missing_in_the_config() {
    let instance = instance_in_an_outage();
    let old = instance.directory().join("old");
    leave_in(&old, "cache-hsm.enc");
    let outcome = adopt(&instance, &[old.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 65);
    let expected = "its key is wrapped by a token, and the config names none; describe the token in \
                [providers.pkcs11]";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}

/// The Python PSI sealed its key as psi does: the same file, under the same name.
#[test]
fn migration_opens_the_old_cache_by_a_tpm_sealed_key() {
    let tpm = Tpm::start();
    let instance = instance_in_an_outage();
    instance.take_key();
    let sealed = std::process::Command::new("systemd-creds")
        .args(["encrypt", "--with-key=tpm2", "--tpm2-pcrs=7", "--name=psi-cache-key"])
        .args([python_psi("psi-cache-key"), instance.sealed_key()])
        .env("SYSTEMD_TPM2_DEVICE", tpm.device())
        .status()
        .unwrap();
    assert!(sealed.success());
    leave_in(&instance.state(), "cache-tpm.enc");
    let state = instance.state();
    adopt(&instance, &[state.to_str().unwrap()]).env("SYSTEMD_TPM2_DEVICE", tpm.device()).ok();
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&instance);
    psid.terminate();

    // Another host's cache, with a key of its own: the message names the old key.
    let other = instance_in_an_outage();
    let old = other.directory().join("old");
    leave_in(&old, "cache-tpm.enc");
    other.give_key(&[8; 32]);
    tpm.flush();
    let (key, old) = (instance.sealed_key(), old.display().to_string());
    let args = ["--json", "--key", key.to_str().unwrap(), &old];
    let report = adopt(&other, &args).env("SYSTEMD_TPM2_DEVICE", tpm.device()).json();
    assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let _psid = other.start();
    assert_all_are_served(&other);
}

/// `cache init` in the old cache's directory renames the old cache and names the migrate command.
#[test]
fn cache_init_renames_the_old_cache() {
    let tpm = Tpm::start();
    let instance = instance_in_an_outage();
    instance.take_key();
    leave_in(&instance.state(), "cache-tpm.enc");
    let old = fs::read(instance.cache()).unwrap();
    let init = instance.driver(&["cache", "init", "--backend", "tpm"]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = init.env("SYSTEMD_TPM2_DEVICE", tpm.device()).env("PATH", path).text();
    let state = instance.state();
    let next = format!("`psid migrate --from psi {}` takes it over", state.display());
    assert!(output.contains(&next), "{output}");
    assert_eq!(fs::read(&kept(&instance)[0]).unwrap(), old);
    tpm.flush();
    let key = python_psi("psi-cache-key");
    let args = ["--json", "--key", key.to_str().unwrap(), state.to_str().unwrap()];
    let report = adopt(&instance, &args).env("SYSTEMD_TPM2_DEVICE", tpm.device()).json();
    assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&instance);
    assert_eq!(psid.status()["would_fail"], json!([SEALED]));
}
