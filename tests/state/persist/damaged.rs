//! An unusable `cache.enc`: psid starts, reports the reason, sets the file aside, and writes a new
//! one.

use std::fs;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, eventually, id};

/// An instance whose cache has the value of one registered reference.
fn filled() -> (FakeInfisical, Instance) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.persist_reference(&psid);
    psid.terminate();
    (infisical, instance)
}

/// Starts psid on a cache that `spoil` changed, and checks the outcome.
fn check(spoil: impl Fn(&mut Vec<u8>), words: &str) {
    let (mut infisical, instance) = filled();
    let mut file = fs::read(instance.cache()).unwrap();
    spoil(&mut file);
    fs::write(instance.cache(), &file).unwrap();
    let psid = instance.start();
    let cause = format!("{} is not usable: {words}", instance.cache().display());
    psid.await_log(&cause);
    let log = psid.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&cause)), "{log}");
    let degraded = psid.degraded();
    assert!(degraded.contains(&cause), "{degraded}");
    let aside = instance.set_aside();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(degraded.contains(&format!("set aside as {}", aside[0].display())), "{degraded}");
    assert_eq!(fs::read(&aside[0]).unwrap(), file, "not a byte of it is changed");
    let text = instance.driver(&["cache", "status"]).report();
    assert!(text.contains("DEGRADED   ") && text.contains(words), "{text}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live lookups work");
    psid.await_generation_after(0);
    psid.terminate();
    infisical.kill();
    let psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "a new cache was filled");
    assert_eq!(psid.degraded(), "");
    assert_eq!(fs::read(&aside[0]).unwrap(), file, "nor is it removed later");
}

/// N7: in the Python PSI a bad file crashed the lookup that read it, and the next good file was
/// never loaded.
#[test]
fn n7_truncated_cache_is_quarantined_and_reported() {
    check(|file| file.truncate(5), "it is truncated");
    check(|file| file.truncate(30), "it is truncated");
    check(Vec::clear, "it is truncated");
}

/// N8: the Python PSI overwrote a cache that it could not read, and the last good values with it.
#[test]
fn n8_damaged_cache_is_quarantined_and_never_overwritten() {
    check(|file| file[40] ^= 1, "it was damaged or tampered with");
    check(|file| *file.last_mut().unwrap() ^= 0x80, "it was damaged or tampered with");
    check(|file| file.push(0), "it was damaged or tampered with");
    let cut = |file: &mut Vec<u8>| file.truncate(file.len() - 1);
    check(cut, "it was damaged or tampered with");
}

/// N20: the Python PSI's header was not authenticated.
#[test]
fn n20_every_header_byte_is_authenticated() {
    check(|file| file[0] = b'X', "it is not a psi cache: it does not begin with PSIC");
    check(|file| file[4] = 9, "it is of format version 9, and only 2 is read here");
    check(|file| file[5] = 2, "it was damaged or tampered with");
    check(|file| file[5] = 7, "it is sealed by a key backend unknown here (tag 7)");
    check(|file| file[6] ^= 1, "it was sealed under another key");
    check(|file| file[24] ^= 1, "it was damaged or tampered with");
}

#[test]
fn cache_of_another_backend_is_quarantined() {
    check(|file| *file = b"-----BEGIN PGP MESSAGE-----".to_vec(), "it is not a psi cache");
    // An encrypted literal in its place: the same key, another purpose.
    let (infisical, instance) = filled();
    let psid = instance.start();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    psid.terminate();
    let literal = fs::read(instance.state().join("secrets").join(id(2))).unwrap();
    fs::write(instance.cache(), [b"PSIC", &literal[4..]].concat()).unwrap();
    let psid = instance.start();
    assert!(psid.degraded().contains("damaged or tampered with"), "{}", psid.degraded());
    drop(infisical);
}

/// Two bad files are set aside under two names.
#[test]
fn second_bad_file_does_not_replace_the_first() {
    let (_infisical, instance) = filled();
    for text in ["first", "second"] {
        fs::write(instance.cache(), text).unwrap();
        instance.start().terminate();
    }
    let mut kept: Vec<_> =
        instance.set_aside().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    kept.sort();
    assert_eq!(kept, ["first", "second"]);
}

/// A damaged registration affects one secret, with its cause; podman can remove it.
#[test]
fn damaged_registration_affects_its_own_secret_only() {
    let (_infisical, instance) = filled();
    let secrets = instance.state().join("secrets");
    for (number, bytes) in
        [(2, &b""[..]), (3, b"{\"provider\":"), (4, b"PSIL\x02"), (5, b"PSIL\x09\x01")]
    {
        fs::write(secrets.join(id(number)), bytes).unwrap();
    }
    let psid = instance.start();
    let degraded = psid.degraded();
    for (number, words) in [
        (2, "is neither a reference nor a sealed literal"),
        (3, "is neither a reference nor a sealed literal"),
        (4, "does not open: it is truncated"),
        (5, "does not open: it is of format version 9"),
    ] {
        let line = instance.driver(&["lookup"]).id(id(number)).fails(65);
        assert!(line.contains(words), "{line}");
        assert!(degraded.contains(&format!("secret {} is not usable: ", id(number))), "{degraded}");
        instance.driver(&["store"]).id(id(number)).stdin("another").fails(65);
        assert_eq!(instance.driver(&["delete"]).id(id(number)).text(), "");
    }
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["list"]).text(), format!("{}\n", id(1)));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
}

/// Not a bad file but an unreadable one: it is kept, and a later file in its place is used.
#[test]
fn directory_at_the_cache_path_is_reported_and_recovered_from_without_restart() {
    let (mut infisical, instance) = filled();
    let good = fs::read(instance.cache()).unwrap();
    fs::remove_file(instance.cache()).unwrap();
    fs::create_dir(instance.cache()).unwrap();
    infisical.kill();
    let psid = instance.start();
    let degraded = psid.degraded();
    assert!(degraded.contains("the cache cannot be read, which is tried again"), "{degraded}");
    assert!(degraded.contains("cache.enc: Is a directory"), "{degraded}");
    assert!(instance.cache().is_dir() && instance.set_aside().is_empty());
    instance.driver(&["lookup"]).id(id(1)).fails(75);
    fs::remove_dir(instance.cache()).unwrap();
    fs::write(instance.cache(), &good).unwrap();
    eventually("the cache to be read", || psid.degraded().is_empty().then_some(()));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
}

/// A file that another program changed while psid runs: psid serves from RAM, and `--verify`
/// reports it.
#[test]
fn verify_reports_changes_made_outside_psid() {
    let (_infisical, instance) = filled();
    let psid = instance.start();
    let mut file = fs::read(instance.cache()).unwrap();
    file[50] ^= 1;
    fs::write(instance.cache(), &file).unwrap();
    let outcome = instance.driver(&["cache", "status", "--verify", "--json"]).run();
    assert_eq!(outcome.code, 1);
    let status: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(status["verify"]["ok"], false);
    assert!(outcome.stderr.contains("damaged or tampered with"), "{}", outcome.stderr);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    drop(psid);
}
