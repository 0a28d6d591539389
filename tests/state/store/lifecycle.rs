//! An id's life: stored, listed, deleted, restored.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;

use psi_harness::{FakeInfisical, Psid, World, eventually, id, reference};

fn running() -> (FakeInfisical, World, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let world = World::of(&infisical);
    let psid = world.start();
    (infisical, world, psid)
}

/// Podman never stores twice under one id, but a retry may.
#[test]
fn the_same_bytes_again_are_accepted_and_others_are_not() {
    let (_infisical, world, psid) = running();
    let store = |number: u32, text: &str| world.driver(&["store"]).id(id(number)).stdin(text);
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
    assert_eq!(world.driver(&["lookup"]).id(id(1)).text(), "literal");
    assert_eq!(world.driver(&["lookup"]).id(id(2)).text(), "1");
    psid.terminate();
    let _psid = world.start();
    store(1, "literal").ok();
    store(2, &one).ok();
    refused(1, "another literal");
}

#[test]
fn the_list_is_sorted_and_empty_when_there_is_nothing() {
    let (_infisical, world, _psid) = running();
    assert_eq!(world.driver(&["list"]).text(), "");
    for number in [7, 0xfff, 1, 0x10] {
        world.driver(&["store"]).id(id(number)).stdin("x").ok();
    }
    let expected = [1, 7, 0x10, 0xfff].map(|number| id(number) + "\n").concat();
    assert_eq!(world.driver(&["list"]).text(), expected);
}

/// N11: the Python PSI kept `cache.enc` among the mappings, listed it as a secret and let a store
/// overwrite it.
#[test]
fn n11_only_ids_are_secrets() {
    let (_infisical, world, psid) = running();
    world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    world.driver(&["lookup"]).id(id(1)).ok();
    psid.await_generation_after(0);
    let before = fs::read(world.cache()).unwrap();
    for name in ["cache.enc", "../cache.enc", "secrets", ".."] {
        world.driver(&["store"]).id(name).stdin("x").fails(65);
        world.driver(&["delete"]).id(name).fails(65);
        world.driver(&["lookup"]).id(name).fails(65);
    }
    assert_eq!(fs::read(world.cache()).unwrap(), before);
    psid.terminate();
    for name in ["cache.enc", "README", ".tmp", "0123456789ABCDEF012345678"] {
        fs::write(world.state().join("secrets").join(name), "x").unwrap();
    }
    let psid = world.start();
    assert_eq!(world.driver(&["list"]).text(), format!("{}\n", id(1)));
    assert_eq!(psid.degraded(), "");
}

#[test]
fn a_delete_is_final_for_lookups_and_an_unknown_id_is_no_failure() {
    let (_infisical, world, psid) = running();
    world.driver(&["store"]).id(id(1)).stdin("literal").ok();
    assert_eq!(world.driver(&["delete"]).id(id(1)).text(), "");
    let line = world.driver(&["lookup"]).id(id(1)).fails(66);
    assert!(line.contains(&format!("`psi-driver restore {}` brings it back", id(1))), "{line}");
    // Podman could never remove a secret that its driver lost.
    let again = world.driver(&["delete"]).id(id(1)).run();
    assert_eq!((again.code, again.stdout.len(), again.stderr.as_str()), (0, 0, ""));
    psid.terminate();
    let _psid = world.start();
    world.driver(&["lookup"]).id(id(1)).fails(66);
    assert_eq!(world.driver(&["list"]).text(), "");
}

/// `podman secret create --replace` deletes before it stores: a store that fails has lost the value.
#[test]
fn what_was_deleted_can_be_restored() {
    let (_infisical, world, psid) = running();
    world.driver(&["store"]).id(id(1)).stdin("literal\0").ok();
    world.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "B")).ok();
    assert_eq!(world.driver(&["restore"]).text(), "");
    for number in [1, 2] {
        world.driver(&["delete"]).id(id(number)).ok();
    }
    // A crash right after loses none of it.
    psid.crash();
    let _psid = world.start();
    let restorable = world.driver(&["restore"]).text();
    let lines: Vec<_> = restorable.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(&format!("{} (for ", id(1))), "{restorable}");
    let told = world.driver(&["restore", &id(1)]).text();
    assert!(
        told.contains(&format!("psi-driver get {} | psi-driver add NAME --literal", id(1))),
        "{told}"
    );
    world.driver(&["restore", &id(2)]).ok();
    assert_eq!(world.driver(&["lookup"]).id(id(1)).ok(), b"literal\0");
    assert_eq!(world.driver(&["lookup"]).id(id(2)).text(), "2");
    assert_eq!(world.driver(&["restore"]).text(), "");
    let line = world.driver(&["restore", &id(1)]).fails(66);
    assert!(line.contains("nothing was deleted under this id"), "{line}");
}

/// Ten minutes, by the time of the deletion; the file's own, so it outlives psid.
#[test]
fn what_was_deleted_long_ago_is_removed_for_good() {
    let (_infisical, world, psid) = running();
    for number in [1, 2] {
        world.driver(&["store"]).id(id(number)).stdin("a literal").ok();
        world.driver(&["delete"]).id(id(number)).ok();
    }
    psid.terminate();
    let grave = |number| world.state().join("deleted").join(id(number));
    let long_ago = SystemTime::now() - Duration::from_secs(601);
    fs::File::open(grave(1)).unwrap().set_modified(long_ago).unwrap();
    let _psid = world.start();
    eventually("the purge", || (!grave(1).exists()).then_some(()));
    assert!(grave(2).exists());
    assert!(world.driver(&["restore"]).text().starts_with(&id(2)));
    world.driver(&["restore", &id(1)]).fails(66);
}

#[test]
fn a_restore_never_overwrites_what_took_the_id() {
    let (_infisical, world, _psid) = running();
    world.driver(&["store"]).id(id(1)).stdin("old").ok();
    world.driver(&["delete"]).id(id(1)).ok();
    world.driver(&["store"]).id(id(1)).stdin("new").ok();
    let line = world.driver(&["restore", &id(1)]).fails(65);
    assert!(line.contains("registered already"), "{line}");
    assert_eq!(world.driver(&["lookup"]).id(id(1)).text(), "new");
}

/// A store is acknowledged only once it is durable, so a crash right after it loses nothing.
#[test]
fn an_acknowledged_store_survives_a_crash() {
    let (_infisical, world, mut psid) = running();
    for number in 0..8 {
        world.driver(&["store"]).id(id(number)).stdin(format!("literal {number}")).ok();
        psid.crash();
        psid = world.start();
    }
    for number in 0..8 {
        let value = world.driver(&["lookup"]).id(id(number)).text();
        assert_eq!(value, format!("literal {number}"));
    }
}
