//! The key of an old cache may be missing, another one, or a token's.

use std::fs;

use serde_json::json;

use super::{
    SEALED, adopt, assert_all_are_served, kept, leave_in, numbers, python_psi, world_in_an_outage,
};
use psi_harness::{Tpm, World};

fn psid_on(world: &World, tpm: &Tpm) -> psi_harness::Start {
    tpm.flush();
    world.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device())
}

#[test]
fn without_a_key_nothing_but_the_mappings_is_taken_over() {
    let world = world_in_an_outage();
    leave_in(&world.state(), "cache-tpm.enc");
    let key = fs::read(python_psi("psi-cache-key")).unwrap();
    world.take_key();
    let state = world.state();
    let outcome = adopt(&world, &[state.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 65);
    assert!(outcome.stderr.contains("there is no key"), "{}", outcome.stderr);
    let psid = world.start();
    assert_eq!(world.driver(&["list"]).text().lines().count(), 8, "the mappings need no key");
    psid.terminate();
    assert_eq!(fs::read(world.cache()).unwrap(), fs::read(python_psi("cache-tpm.enc")).unwrap());
    world.give_key(&key);
    adopt(&world, &[state.to_str().unwrap()]).ok();
    let psid = world.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
}

/// The file does not tell another key from damage: both are named, and the way back too.
#[test]
fn under_another_key_it_is_taken_over_when_the_key_is_found() {
    let world = world_in_an_outage();
    leave_in(&world.state(), "cache-tpm.enc");
    world.give_key(&[8; 32]);
    let state = world.state();
    let outcome = adopt(&world, &[state.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 65);
    let told =
        "it was damaged, or sealed under another key; name another cache, or its key with --key";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    let key = python_psi("psi-cache-key");
    let args = ["--json", "--key", key.to_str().unwrap(), state.to_str().unwrap()];
    assert_eq!(numbers(&adopt(&world, &args).json()), ([0, 8, 0, 0], [7, 0, 0, 0, 0]));
    let psid = world.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    let old = fs::read(python_psi("cache-tpm.enc")).unwrap();
    assert_eq!(fs::read(&kept(&world)[0]).unwrap(), old, "not a byte of it is changed");
}

#[test]
fn a_token_that_the_config_lacks_is_named() {
    let world = world_in_an_outage();
    let old = world.folder().join("old");
    leave_in(&old, "cache-hsm.enc");
    let outcome = adopt(&world, &[old.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 65);
    let told = "its key is wrapped by a token, and the config names none; describe the token in \
                [providers.nitrokeyhsm]";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

/// The Python PSI sealed its key as psi does: the same file, under the same name.
#[test]
fn a_key_that_the_tpm_sealed_opens_the_old_cache() {
    let tpm = Tpm::start();
    let world = world_in_an_outage();
    world.take_key();
    let sealed = std::process::Command::new("systemd-creds")
        .args(["encrypt", "--with-key=tpm2", "--tpm2-pcrs=7", "--name=psi-cache-key"])
        .args([python_psi("psi-cache-key"), world.sealed_key()])
        .env("SYSTEMD_TPM2_DEVICE", tpm.device())
        .status()
        .unwrap();
    assert!(sealed.success());
    leave_in(&world.state(), "cache-tpm.enc");
    let state = world.state();
    adopt(&world, &[state.to_str().unwrap()]).env("SYSTEMD_TPM2_DEVICE", tpm.device()).ok();
    let psid = psid_on(&world, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    psid.terminate();

    // Another host's, with a key of its own: the old one is named.
    let other = world_in_an_outage();
    let old = other.folder().join("old");
    leave_in(&old, "cache-tpm.enc");
    other.give_key(&[8; 32]);
    tpm.flush();
    let (key, old) = (world.sealed_key(), old.display().to_string());
    let args = ["--json", "--key", key.to_str().unwrap(), &old];
    let report = adopt(&other, &args).env("SYSTEMD_TPM2_DEVICE", tpm.device()).json();
    assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let _psid = other.start();
    assert_all_are_served(&other);
}

/// A new key, made where the old cache lies: that is kept, and the command that takes it over named.
#[test]
fn cache_init_keeps_the_old_cache_under_another_name() {
    let tpm = Tpm::start();
    let world = world_in_an_outage();
    world.take_key();
    leave_in(&world.state(), "cache-tpm.enc");
    let old = fs::read(world.cache()).unwrap();
    let init = world.driver(&["cache", "init", "--backend", "tpm"]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let told = init.env("SYSTEMD_TPM2_DEVICE", tpm.device()).env("PATH", path).text();
    let state = world.state();
    let next = format!("`psid migrate --from psi {}` takes it over", state.display());
    assert!(told.contains(&next), "{told}");
    assert_eq!(fs::read(&kept(&world)[0]).unwrap(), old);
    tpm.flush();
    let key = python_psi("psi-cache-key");
    let args = ["--json", "--key", key.to_str().unwrap(), state.to_str().unwrap()];
    let report = adopt(&world, &args).env("SYSTEMD_TPM2_DEVICE", tpm.device()).json();
    assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let psid = psid_on(&world, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    assert_eq!(psid.status()["would_fail"], json!([SEALED]));
}
