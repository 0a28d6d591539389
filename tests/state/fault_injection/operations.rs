//! What is tried: each operation is a line of the list.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::engine::Operation;
use super::stage::{Stage, Step};
use super::tree::Tree;
use psi_harness::{FakeInfisical, World, id, reference};

/// A test for each operation.
macro_rules! operations {
    ($($test:ident: $operation:expr;)*) => {$(
        #[test]
        fn $test() {
            let operation: Operation = $operation;
            operation.prove(&provider());
        }
    )*};
}

operations! {
    cache_write: running("write of the cache", in_use, &[fetch]);
    shutdown_write: stopped("write of the cache at the end", in_use, &[fetch_and_stop]);
    start_on_a_bad_cache: Operation {
        bears: &["it was set aside"],
        ..stopped("start on a bad cache", with_bad_cache, &[start])
    };
    first_store: stopped("first start and store", new, &[start_and_store]);
    store_of_a_literal: running("store of a literal", in_use, &[store_literal]);
    store_of_a_reference: running("store of a reference", in_use, &[store_reference]);
    delete_of_a_secret: running("delete", in_use, &[delete]);
    restore_of_a_secret: running("restore", in_use, &[restore]);
    replace: running("podman secret create --replace", registered, &[delete, store_literal]);
    init_anew: stopped("cache init", without_key, &[init]);
    init_by_force: Operation {
        bears: &FORCED,
        ..stopped("cache init --force", initialised, &[init_force])
    };
    rekey_of_all: Operation {
        visible: false,
        ..running("cache rekey", initialised, &[rekey])
    };
    recovery_key: Operation {
        visible: false,
        ..running("cache recovery-key", initialised, &[make_recovery_key])
    };
    recovery: running("cache recover", with_lost_key, &[recover]);
}

/// One that a running psid is asked for.
fn running(
    name: &'static str,
    base: fn(&FakeInfisical) -> Tree,
    steps: &'static [Step],
) -> Operation {
    Operation { running: true, ..stopped(name, base, steps) }
}

/// One whose steps start psid.
fn stopped(
    name: &'static str,
    base: fn(&FakeInfisical) -> Tree,
    steps: &'static [Step],
) -> Operation {
    Operation { name, base, running: false, steps, visible: true, bears: &[] }
}

/// By force, what is sealed under the former key is out of use; until the new cache and the new recovery
/// key are there, psid says so.
const FORCED: [&str; 2] = ["it was set aside", "the recovery key is of no use"];

fn provider() -> FakeInfisical {
    FakeInfisical::with(
        &json!({"/myapp": {"A": "the value of A", "B": "the value of B", "C": "more"}}),
    )
}

/// A reference and a literal, registered; nothing was fetched or deleted.
fn registered(infisical: &FakeInfisical) -> Tree {
    with(infisical, |stage| {
        let world = &stage.world;
        world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
        world.driver(&["store"]).id(id(2)).stdin("a literal").ok();
        world.driver(&["store"]).id(id(5)).stdin("doomed").ok();
    })
}

/// Likewise, with a value in the cache and a secret that can be restored.
fn in_use(infisical: &FakeInfisical) -> Tree {
    with(infisical, |stage| {
        let world = &stage.world;
        world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
        world.driver(&["store"]).id(id(2)).stdin("a literal").ok();
        world.driver(&["store"]).id(id(5)).stdin("doomed").ok();
        world.driver(&["store"]).id(id(3)).stdin("deleted").ok();
        world.driver(&["delete"]).id(id(3)).ok();
        world.driver(&["lookup"]).id(id(1)).ok();
        stage.await_generation_after(0, "").unwrap();
    })
}

fn with_bad_cache(infisical: &FakeInfisical) -> Tree {
    let tree = in_use(infisical);
    let stage = Stage::set(&tree, None);
    fs::write(stage.world.cache(), "no cache").unwrap();
    stage.tree()
}

fn new(infisical: &FakeInfisical) -> Tree {
    let world = World::of(infisical);
    Tree::read(world.folder(), &[world.run()])
}

fn without_key(infisical: &FakeInfisical) -> Tree {
    let world = World::of(infisical);
    world.take_key();
    let stage = Stage::set(&Tree::read(world.folder(), &[world.run()]), None);
    stage.make_host_secret();
    stage.tree()
}

fn initialised(infisical: &FakeInfisical) -> Tree {
    let stage = Stage::set(&without_key(infisical), None);
    let told = stage.prepare().args(&INIT).run();
    let told = String::from_utf8(told.stdout).unwrap();
    let recovery = told.lines().find(|line| line.trim().len() == 71).unwrap();
    fs::write(recovery_of(&stage), recovery).unwrap();
    let world = &stage.world;
    let psid = stage.prepare().start();
    world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    world.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    world.driver(&["store"]).id(id(3)).stdin("deleted").ok();
    world.driver(&["delete"]).id(id(3)).ok();
    world.driver(&["lookup"]).id(id(1)).ok();
    psid.terminate();
    stage.tree()
}

/// Where a base keeps what its admin wrote down.
fn recovery_of(stage: &Stage) -> PathBuf {
    stage.world.credentials().join("recovery")
}

/// The host is another one, and does not open the key.
fn with_lost_key(infisical: &FakeInfisical) -> Tree {
    let stage = Stage::set(&initialised(infisical), None);
    fs::remove_file(stage.world.credentials().join("host.secret")).unwrap();
    stage.make_host_secret();
    stage.tree()
}

/// What a psid leaves that did this and stopped.
fn with(infisical: &FakeInfisical, act: impl FnOnce(&mut Stage)) -> Tree {
    let mut stage = Stage::set(&new(infisical), None);
    stage.start().unwrap();
    act(&mut stage);
    stage.stop().unwrap();
    stage.tree()
}

/// A start, which puts a bad cache out of the way.
fn start(stage: &mut Stage) -> Result<(), String> {
    stage.start()?;
    match stage.status() {
        Some((_, why)) if why.contains("could not be set aside") => Err(why),
        _ => Ok(()),
    }
}

fn start_and_store(stage: &mut Stage) -> Result<(), String> {
    stage.start()?;
    store_literal(stage)
}

/// A miss, and the write that follows. After one that failed it takes another change to make psid try
/// again at once.
fn fetch(stage: &mut Stage) -> Result<(), String> {
    let (before, degraded) = stage.status().unwrap_or_default();
    let key = if degraded.is_empty() { "B" } else { "C" };
    let get = stage.world.driver(&["get", &reference("/myapp", key)]);
    stage.call(&get, b"")?;
    stage.await_generation_after(before, &degraded)
}

/// A miss, and the end before the write.
fn fetch_and_stop(stage: &mut Stage) -> Result<(), String> {
    stage.start()?;
    let get = stage.world.driver(&["get", &reference("/myapp", "B")]);
    stage.call(&get, b"")?;
    let log = stage.stop()?;
    if log.contains("cannot be written") { Err(log) } else { Ok(()) }
}

fn store_literal(stage: &mut Stage) -> Result<(), String> {
    let store = stage.world.driver(&["store"]).id(id(4));
    stage.call(&store, b"a new literal")
}

fn store_reference(stage: &mut Stage) -> Result<(), String> {
    let store = stage.world.driver(&["store"]).id(id(4));
    stage.call(&store, reference("/myapp", "A").as_bytes())
}

fn delete(stage: &mut Stage) -> Result<(), String> {
    let delete = stage.world.driver(&["delete"]).id(id(5));
    stage.call(&delete, b"")
}

fn restore(stage: &mut Stage) -> Result<(), String> {
    let restore = stage.world.driver(&["restore", &id(3)]);
    stage.call(&restore, b"")
}

const INIT: [&str; 5] = ["init", "--backend", "tpm", "--seal-with", "host"];

fn init(stage: &mut Stage) -> Result<(), String> {
    stage.run(&INIT)
}

fn init_force(stage: &mut Stage) -> Result<(), String> {
    stage.run(&[&INIT[..], &["--force"]].concat())
}

fn rekey(stage: &mut Stage) -> Result<(), String> {
    let rekey = stage.world.driver(&["cache", "rekey"]);
    stage.call(&rekey, b"")
}

fn make_recovery_key(stage: &mut Stage) -> Result<(), String> {
    let make = stage.world.driver(&["cache", "recovery-key"]);
    stage.call(&make, b"")
}

fn recover(stage: &mut Stage) -> Result<(), String> {
    let key = fs::read(recovery_of(stage)).unwrap();
    let recover = stage.world.driver(&["cache", "recover", "--seal-with", "host"]);
    stage.call(&recover, &key)
}
