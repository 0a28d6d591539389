//! The key of an old cache may be missing, another one, or a token's.

use std::fs;

use serde_json::json;

use super::{
    SEALED, adopt, assert_all_are_served, contents, leave_in, numbers, python_psi,
    world_in_an_outage,
};
use crate::harness::{Tpm, World};

fn psid_on(world: &World, tpm: &Tpm) -> crate::harness::Start {
    tpm.flush();
    world.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device())
}

#[test]
fn without_a_key_the_old_cache_waits_for_it() {
    let world = world_in_an_outage();
    leave_in(&world.state(), "cache-tpm.enc");
    let key = fs::read(python_psi("psi-cache-key")).unwrap();
    world.take_key();
    let before = contents(&world.state());
    let psid = world.start();
    assert!(psid.degraded().contains("there is no key"), "{}", psid.degraded());
    assert_eq!(world.driver(&["list"]).text().lines().count(), 8, "the mappings need no key");
    psid.terminate();
    let mut after = contents(&world.state());
    after.remove("secrets");
    assert_eq!(after, before);
    world.give_key(&key);
    let psid = world.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
}

/// The file does not tell another key from damage: both are named, and the way back too.
#[test]
fn under_another_key_it_is_set_aside_and_taken_over_when_the_key_is_found() {
    let world = world_in_an_outage();
    leave_in(&world.state(), "cache-tpm.enc");
    world.give_key(&[8; 32]);
    let psid = world.start();
    let degraded = psid.degraded();
    let aside = world.set_aside().remove(0);
    let (cache, at) = (world.cache().display().to_string(), aside.display());
    let told = format!(
        "{cache} is not usable: it was damaged, or sealed under another key; it was set aside as {at}; while psid is \
         stopped, `psi-driver cache adopt {at}` takes it over, with --key FILE under another key than ours"
    );
    assert!(degraded.contains(&told), "{degraded}");
    let old = fs::read(python_psi("cache-tpm.enc")).unwrap();
    assert_eq!(fs::read(&aside).unwrap(), old, "not a byte of it is changed");
    psid.terminate();
    let key = python_psi("psi-cache-key");
    let args = ["--json", "--key", key.to_str().unwrap(), aside.to_str().unwrap()];
    assert_eq!(numbers(&adopt(&world, &args).json()), ([0; 4], [7, 0, 0, 0, 0]));
    let psid = world.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    assert_eq!(fs::read(&aside).unwrap(), old);
}

/// Whoever can write to the disk can make a cache under a token's public key (N20), and put an old one
/// back: neither is believed unless an admin says so.
#[test]
fn n20_what_anybody_could_have_put_there_is_not_believed() {
    let world = world_in_an_outage();
    leave_in(&world.state(), "cache-hsm.enc");
    let psid = world.start();
    let degraded = psid.degraded();
    assert!(degraded.contains("its key is wrapped by a token, which anybody can do"), "{degraded}");
    psid.terminate();
    fs::copy(python_psi("cache-tpm.enc"), world.cache()).unwrap();
    world.start().terminate();
    fs::copy(python_psi("cache-tpm.enc"), world.cache()).unwrap();
    let psid = world.start();
    let degraded = psid.degraded();
    let told = "it is the Python PSI's, and generation 1 of ours was there before";
    assert!(degraded.contains(told), "{degraded}");
    assert_eq!(psid.status()["entries"], json!(0));
    assert!(world.set_aside().is_empty(), "neither is bad");
    let files = fs::read_dir(world.state()).unwrap().map(|file| file.unwrap().path());
    let kept = files.filter(|path| path.to_string_lossy().contains("cache.enc.v1-"));
    let kept: Vec<_> = kept.map(|path| fs::read(path).unwrap()).collect();
    for name in ["cache-hsm.enc", "cache-tpm.enc"] {
        assert!(kept.contains(&fs::read(python_psi(name)).unwrap()), "{name}");
    }
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

/// A new key, made where the old cache lies: that stays, and psid or `cache adopt` takes it over.
#[test]
fn cache_init_leaves_the_old_cache_in_its_place() {
    let tpm = Tpm::start();
    let world = world_in_an_outage();
    world.take_key();
    leave_in(&world.state(), "cache-tpm.enc");
    let old = fs::read(world.cache()).unwrap();
    let init = world.driver(&["cache", "init", "--backend", "tpm"]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let told = init.env("SYSTEMD_TPM2_DEVICE", tpm.device()).env("PATH", path).text();
    let left = format!("left {}, the Python PSI's, for psid to take over", world.cache().display());
    assert!(told.contains(&left), "{told}");
    assert_eq!(fs::read(world.cache()).unwrap(), old);
    tpm.flush();
    let (key, state) = (python_psi("psi-cache-key"), world.state());
    let args = ["--json", "--key", key.to_str().unwrap(), state.to_str().unwrap()];
    let report = adopt(&world, &args).env("SYSTEMD_TPM2_DEVICE", tpm.device()).json();
    assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let psid = psid_on(&world, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    assert_eq!(psid.status()["would_fail"], json!([SEALED]));
}
