//! The operations under test: each is one line of the list.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::engine::Operation;
use super::fixture::{Fixture, Step};
use super::tree::Tree;
use psi_harness::{FakeInfisical, Instance, id, reference};

/// Makes a test of each operation.
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

/// An operation of a running psid.
fn running(
    name: &'static str,
    base: fn(&FakeInfisical) -> Tree,
    steps: &'static [Step],
) -> Operation {
    Operation { running: true, ..stopped(name, base, steps) }
}

/// An operation whose steps start psid.
fn stopped(
    name: &'static str,
    base: fn(&FakeInfisical) -> Tree,
    steps: &'static [Step],
) -> Operation {
    Operation { name, base, running: false, steps, visible: true, bears: &[] }
}

/// After a forced init, literals under the old key are unusable; psid reports it until the new
/// cache and recovery key exist.
const FORCED: [&str; 2] = ["it was set aside", "the recovery key does not open the data key"];

fn provider() -> FakeInfisical {
    FakeInfisical::with(
        &json!({"/myapp": {"A": "the value of A", "B": "the value of B", "C": "more"}}),
    )
}

/// A registered reference and a literal; nothing was fetched or deleted.
fn registered(infisical: &FakeInfisical) -> Tree {
    with(infisical, |fixture| {
        let instance = &fixture.instance;
        instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
        instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
        instance.driver(&["store"]).id(id(5)).stdin("doomed").ok();
    })
}

/// The same with a cached value and a secret that can be restored.
fn in_use(infisical: &FakeInfisical) -> Tree {
    with(infisical, |fixture| {
        let instance = &fixture.instance;
        instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
        instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
        instance.driver(&["store"]).id(id(5)).stdin("doomed").ok();
        instance.driver(&["store"]).id(id(3)).stdin("deleted").ok();
        instance.driver(&["delete"]).id(id(3)).ok();
        instance.driver(&["lookup"]).id(id(1)).ok();
        fixture.await_generation_after(0, "").unwrap();
    })
}

fn with_bad_cache(infisical: &FakeInfisical) -> Tree {
    let tree = in_use(infisical);
    let fixture = Fixture::set(&tree, None);
    fs::write(fixture.instance.cache(), "no cache").unwrap();
    fixture.tree()
}

fn new(infisical: &FakeInfisical) -> Tree {
    let instance = Instance::of(infisical);
    Tree::read(instance.directory(), &[instance.run()])
}

fn without_key(infisical: &FakeInfisical) -> Tree {
    let instance = Instance::of(infisical);
    instance.take_key();
    let fixture = Fixture::set(&Tree::read(instance.directory(), &[instance.run()]), None);
    fixture.make_host_secret();
    fixture.tree()
}

fn initialised(infisical: &FakeInfisical) -> Tree {
    let fixture = Fixture::set(&without_key(infisical), None);
    let outcome = fixture.prepare().args(&INIT).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    let recovery = output.lines().find(|line| line.trim().len() == 71).unwrap();
    fs::write(recovery_of(&fixture), recovery).unwrap();
    let instance = &fixture.instance;
    let psid = fixture.prepare().start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["store"]).id(id(3)).stdin("deleted").ok();
    instance.driver(&["delete"]).id(id(3)).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.terminate();
    fixture.tree()
}

/// The file with the admin's copy of the recovery key.
fn recovery_of(fixture: &Fixture) -> PathBuf {
    fixture.instance.credentials().join("recovery")
}

/// The host secret is another one and does not open the key.
fn with_lost_key(infisical: &FakeInfisical) -> Tree {
    let fixture = Fixture::set(&initialised(infisical), None);
    fs::remove_file(fixture.instance.credentials().join("host.secret")).unwrap();
    fixture.make_host_secret();
    fixture.tree()
}

/// The files that a psid leaves after `act` and a stop.
fn with(infisical: &FakeInfisical, act: impl FnOnce(&mut Fixture)) -> Tree {
    let mut fixture = Fixture::set(&new(infisical), None);
    fixture.start().unwrap();
    act(&mut fixture);
    fixture.stop().unwrap();
    fixture.tree()
}

/// A start, which sets a bad cache aside.
fn start(fixture: &mut Fixture) -> Result<(), String> {
    fixture.start()?;
    match fixture.status() {
        Some((_, why)) if why.contains("cannot be set aside") => Err(why),
        _ => Ok(()),
    }
}

fn start_and_store(fixture: &mut Fixture) -> Result<(), String> {
    fixture.start()?;
    store_literal(fixture)
}

/// A miss and the following write. After a failed write, another change is needed to make psid try
/// again at once.
fn fetch(fixture: &mut Fixture) -> Result<(), String> {
    let (before, degraded) = fixture.status().unwrap_or_default();
    let key = if degraded.is_empty() { "B" } else { "C" };
    let get = fixture.instance.driver(&["get", &reference("/myapp", key)]);
    fixture.call(&get, b"")?;
    fixture.await_generation_after(before, &degraded)
}

/// A miss, and a stop before the write.
fn fetch_and_stop(fixture: &mut Fixture) -> Result<(), String> {
    fixture.start()?;
    let get = fixture.instance.driver(&["get", &reference("/myapp", "B")]);
    fixture.call(&get, b"")?;
    let log = fixture.stop()?;
    if log.contains("cannot be written") { Err(log) } else { Ok(()) }
}

fn store_literal(fixture: &mut Fixture) -> Result<(), String> {
    let store = fixture.instance.driver(&["store"]).id(id(4));
    fixture.call(&store, b"a new literal")
}

fn store_reference(fixture: &mut Fixture) -> Result<(), String> {
    let store = fixture.instance.driver(&["store"]).id(id(4));
    fixture.call(&store, reference("/myapp", "A").as_bytes())
}

fn delete(fixture: &mut Fixture) -> Result<(), String> {
    let delete = fixture.instance.driver(&["delete"]).id(id(5));
    fixture.call(&delete, b"")
}

fn restore(fixture: &mut Fixture) -> Result<(), String> {
    let restore = fixture.instance.driver(&["restore", &id(3)]);
    fixture.call(&restore, b"")
}

const INIT: [&str; 5] = ["init", "--backend", "tpm", "--seal-with", "host"];

fn init(fixture: &mut Fixture) -> Result<(), String> {
    fixture.run(&INIT)
}

fn init_force(fixture: &mut Fixture) -> Result<(), String> {
    fixture.run(&[&INIT[..], &["--force"]].concat())
}

fn rekey(fixture: &mut Fixture) -> Result<(), String> {
    let rekey = fixture.instance.driver(&["cache", "rekey"]);
    fixture.call(&rekey, b"")
}

fn make_recovery_key(fixture: &mut Fixture) -> Result<(), String> {
    let make = fixture.instance.driver(&["cache", "recovery-key"]);
    fixture.call(&make, b"")
}

fn recover(fixture: &mut Fixture) -> Result<(), String> {
    let key = fs::read(recovery_of(fixture)).unwrap();
    let recover = fixture.instance.driver(&["cache", "recover", "--seal-with", "host"]);
    fixture.call(&recover, &key)
}
