//! Store, list, delete and restore of an id.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;

use psi_harness::{Clock, Config, FakeInfisical, Instance, Psid, eventually, id, reference};

fn running() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    (infisical, instance, psid)
}

/// Podman never stores twice under one id, but a retry may.
#[test]
fn store_accepts_the_same_bytes_again_and_refuses_others() {
    let (_infisical, instance, psid) = running();
    let store = |number: u32, text: &str| instance.driver(&["store"]).id(id(number)).stdin(text);
    let (one, two) = (reference("/myapp", "A"), reference("/myapp", "B"));
    for _ in 0..2 {
        store(1, "literal").ok();
        store(2, &one).ok();
    }
    let refused = |number: u32, text: &str| {
        let line = store(number, text).fails(65);
        assert!(line.contains("registered already, for something else"), "{line}");
    };
    refused(1, "another literal");
    refused(1, "literal\n");
    refused(1, &one);
    refused(2, &two);
    refused(2, "literal");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "literal");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "1");
    psid.terminate();
    let _psid = instance.start();
    store(1, "literal").ok();
    store(2, &one).ok();
    refused(1, "another literal");
}

#[test]
fn list_is_sorted_and_may_be_empty() {
    let (_infisical, instance, _psid) = running();
    assert_eq!(instance.driver(&["list"]).text(), "");
    for number in [7, 0xfff, 1, 0x10] {
        instance.driver(&["store"]).id(id(number)).stdin("x").ok();
    }
    let expected = [1, 7, 0x10, 0xfff].map(|number| id(number) + "\n").concat();
    assert_eq!(instance.driver(&["list"]).text(), expected);
}

/// N11: the Python PSI kept `cache.enc` among the mappings, listed it as a secret and let a store
/// overwrite it.
#[test]
fn n11_only_ids_are_secrets() {
    let (_infisical, instance, psid) = running();
    instance.persist_reference(&psid);
    let before = fs::read(instance.cache()).unwrap();
    for name in ["cache.enc", "../cache.enc", "secrets", ".."] {
        instance.driver(&["store"]).id(name).stdin("x").fails(65);
        instance.driver(&["delete"]).id(name).fails(65);
        instance.driver(&["lookup"]).id(name).fails(65);
    }
    assert_eq!(fs::read(instance.cache()).unwrap(), before);
    psid.terminate();
    for name in ["cache.enc", "README", ".tmp", "0123456789ABCDEF012345678"] {
        fs::write(instance.state().join("secrets").join(name), "x").unwrap();
    }
    let psid = instance.start();
    assert_eq!(instance.driver(&["list"]).text(), format!("{}\n", id(1)));
    assert_eq!(psid.degraded(), "");
}

#[test]
fn delete_ends_lookups_and_accepts_an_unknown_id() {
    let (_infisical, instance, psid) = running();
    instance.driver(&["store"]).id(id(1)).stdin("literal").ok();
    assert_eq!(instance.driver(&["delete"]).id(id(1)).text(), "");
    let line = instance.driver(&["lookup"]).id(id(1)).fails(66);
    assert!(line.contains(&format!("`psictl restore {}` brings it back", id(1))), "{line}");
    // Otherwise podman could never remove a secret that its driver lost.
    let again = instance.driver(&["delete"]).id(id(1)).run();
    assert_eq!((again.code, again.stdout.len(), again.stderr.as_str()), (0, 0, ""));
    psid.terminate();
    let _psid = instance.start();
    instance.driver(&["lookup"]).id(id(1)).fails(66);
    assert_eq!(instance.driver(&["list"]).text(), "");
}

/// `podman secret create --replace` deletes before it stores: a store that fails has lost the
/// value.
#[test]
fn deleted_secret_can_be_restored() {
    let (_infisical, instance, psid) = running();
    instance.driver(&["store"]).id(id(1)).stdin("literal\0").ok();
    instance.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "B")).ok();
    assert_eq!(instance.driver(&["restore"]).text(), "");
    for number in [1, 2] {
        instance.driver(&["delete"]).id(id(number)).ok();
    }
    // A crash right after it loses nothing.
    psid.crash();
    let _psid = instance.start();
    let restorable = instance.driver(&["restore"]).text();
    let lines: Vec<_> = restorable.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(&format!("{} (for ", id(1))), "{restorable}");
    let output = instance.driver(&["restore", &id(1)]).text();
    assert!(
        output.contains(&format!("psictl get {} | psictl add NAME --literal", id(1))),
        "{output}"
    );
    instance.driver(&["restore", &id(2)]).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).ok(), b"literal\0");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "2");
    assert_eq!(instance.driver(&["restore"]).text(), "");
    let line = instance.driver(&["restore", &id(1)]).fails(66);
    assert!(line.contains("nothing was deleted under this id"), "{line}");
}

/// Ten minutes since the deletion, by the file's own time, which outlives psid.
#[test]
fn deleted_secret_is_purged_after_ten_minutes() {
    let (_infisical, instance, psid) = running();
    for number in [1, 2] {
        instance.driver(&["store"]).id(id(number)).stdin("a literal").ok();
        instance.driver(&["delete"]).id(id(number)).ok();
    }
    psid.terminate();
    let grave = |number| instance.state().join("deleted").join(id(number));
    let long_ago = SystemTime::now() - Duration::from_secs(601);
    fs::File::open(grave(1)).unwrap().set_modified(long_ago).unwrap();
    let _psid = instance.start();
    eventually("the purge", || (!grave(1).exists()).then_some(()));
    assert!(grave(2).exists());
    assert!(instance.driver(&["restore"]).text().starts_with(&id(2)));
    instance.driver(&["restore", &id(1)]).fails(66);
}

/// A running and a restarted psid agree on the ten minutes.
#[test]
fn deleted_secret_can_be_restored_for_ten_minutes() {
    let instance = Instance::empty();
    instance.configure(&Config::of(&FakeInfisical::with(&json!({}))));
    instance.give_key(&[7; 32]);
    let clock = Clock::of(&instance);
    let psid = clock.on(instance.psid()).start();
    for number in [1, 2] {
        instance.driver(&["store"]).id(id(number)).stdin("a literal").ok();
        instance.driver(&["delete"]).id(id(number)).ok();
    }
    clock.advance(Duration::from_secs(595));
    assert_eq!(instance.driver(&["restore"]).text().lines().count(), 2);
    instance.driver(&["restore", &id(1)]).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
    clock.advance(Duration::from_secs(10));
    assert_eq!(instance.driver(&["restore"]).text(), "");
    psid.terminate();
    let _psid = clock.on(instance.psid()).start();
    eventually("the purge", || {
        (!instance.state().join("deleted").join(id(2)).exists()).then_some(())
    });
    instance.driver(&["restore", &id(2)]).fails(66);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
}

#[test]
fn restore_never_overwrites_a_new_secret_of_the_id() {
    let (_infisical, instance, _psid) = running();
    instance.driver(&["store"]).id(id(1)).stdin("old").ok();
    instance.driver(&["delete"]).id(id(1)).ok();
    instance.driver(&["store"]).id(id(1)).stdin("new").ok();
    let line = instance.driver(&["restore", &id(1)]).fails(65);
    assert!(line.contains("registered already"), "{line}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "new");
}

/// A store is acknowledged only once it is durable, so a crash right after it loses nothing.
#[test]
fn acknowledged_store_survives_a_crash() {
    let (_infisical, instance, mut psid) = running();
    for number in 0..8 {
        instance.driver(&["store"]).id(id(number)).stdin(format!("literal {number}")).ok();
        psid.crash();
        psid = instance.start();
    }
    for number in 0..8 {
        let value = instance.driver(&["lookup"]).id(id(number)).text();
        assert_eq!(value, format!("literal {number}"));
    }
}
