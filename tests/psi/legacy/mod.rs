//! Coming from the Python PSI: what it left is taken over, and left as it was.

mod adopt;
mod keys;
mod start;
mod token;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Config, Double, Driver, World, repository};

/// Its one secret that the token sealed, and that no cache has.
const SEALED: &str = "36f34945849c779b9bfe26588";

/// A file of what the Python PSI wrote.
pub(crate) fn python_psi(name: &str) -> PathBuf {
    repository().join("tests/vectors/python-psi").join(name)
}

/// The value of each id.
pub(crate) fn expected() -> BTreeMap<String, Vec<u8>> {
    let text = fs::read_to_string(python_psi("expected.json")).unwrap();
    let encoded: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    encoded.into_iter().map(|(id, value)| (id, STANDARD.decode(value).unwrap())).collect()
}

/// The value of each id whose value is in the caches.
pub(crate) fn cached() -> BTreeMap<String, Vec<u8>> {
    expected().into_iter().filter(|(id, _)| id != SEALED).collect()
}

/// A world with the fixture's key and a provider that is gone.
pub(crate) fn world_in_an_outage() -> World {
    let mut double = Double::with(&json!({}));
    let world = World::of(&double);
    world.configure(&Config::of(&double).timeout("1s"));
    double.kill();
    world.give_key(&fs::read(python_psi("psi-cache-key")).unwrap());
    world
}

/// Puts the Python PSI's state into a folder: `cache.enc` among the mappings, as it has them.
pub(crate) fn leave_in(folder: &Path, cache: &str) {
    leave_mappings_in(folder);
    fs::copy(python_psi(cache), folder.join("cache.enc")).unwrap();
}

fn leave_mappings_in(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in fs::read_dir(python_psi("secrets")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
}

/// What the system knows of a file: whatever reading or writing it changes.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    inode: u64,
    mode: u32,
    size: u64,
    accessed: (i64, i64),
    modified: (i64, i64),
}

/// The files of a folder, by name, without a look into them.
fn traces(folder: &Path) -> BTreeMap<String, Trace> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    files
        .map(|file| {
            let about = file.metadata().unwrap();
            let trace = Trace {
                inode: about.ino(),
                mode: about.mode(),
                size: about.size(),
                accessed: (about.atime(), about.atime_nsec()),
                modified: (about.mtime(), about.mtime_nsec()),
            };
            (file.file_name().into_string().unwrap(), trace)
        })
        .collect()
}

/// The same, whoever read them.
fn contents(folder: &Path) -> BTreeMap<String, Trace> {
    let unread = |(name, trace)| (name, Trace { accessed: (0, 0), ..trace });
    traces(folder).into_iter().map(unread).collect()
}

/// The files that are kept of old caches.
fn kept(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.state()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains("cache.enc.v1-")).collect()
}

/// Asserts that the mappings in a folder have the fixture's bytes.
#[track_caller]
fn assert_mappings_are_as_they_were(folder: &Path) {
    for id in expected().keys() {
        let was = fs::read(python_psi("secrets").join(id)).unwrap();
        assert_eq!(fs::read(folder.join(id)).unwrap(), was, "{id}");
    }
}

/// Asserts that the mappings are registered, with the fixture's bytes.
#[track_caller]
fn assert_mappings_are_registered(world: &World) {
    for id in expected().keys() {
        let was = fs::read(python_psi("secrets").join(id)).unwrap();
        assert_eq!(world.registered(id), was, "{id}");
    }
}

/// Asserts that every value of the caches comes out, byte for byte.
#[track_caller]
fn assert_all_are_served(world: &World) {
    for (id, value) in cached() {
        assert_eq!(world.driver(&["lookup"]).id(&id).ok(), value, "{id}");
    }
}

/// `psi-driver migrate --from psi --cache`, with the world's credentials at hand; the last argument is the folder.
pub(crate) fn adopt(world: &World, args: &[&str]) -> Driver {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (folder, args) = args.split_last().unwrap();
    let call = [&["migrate", "--from", "psi", "--cache"], args, &["--state", folder]].concat();
    world.driver(&call).env("CREDENTIALS_DIRECTORY", world.credentials()).env("PATH", path)
}

/// The numbers of a report: of the mappings, then of the values.
#[track_caller]
fn numbers(report: &Value) -> ([usize; 4], [u64; 5]) {
    let mappings = ["taken", "already_here", "conflicting", "not_understood"]
        .map(|name| report["mappings"][name].as_array().unwrap().len());
    let values = ["taken", "already_here", "without_mapping", "sealed_in_mapping"]
        .map(|name| report["values"][name].as_u64().unwrap_or_default());
    let homeless = report["values"]["without_config"].as_object();
    let homeless = homeless.map_or(0, |found| found.values().filter_map(Value::as_u64).sum());
    let [a, b, c, d] = values;
    (mappings, [a, b, c, d, homeless])
}
