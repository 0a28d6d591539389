//! Migration from the Python PSI: its files are taken over and remain unchanged.

mod adopt;
mod keys;
mod start;
mod token;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use psi_harness::Instance;
use psi_harness::python_psi::{
    SEALED, adopt, cached, expected, instance_in_an_outage, leave_in, leave_mappings_in, python_psi,
};

/// A file's metadata that reading or writing it changes.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    inode: u64,
    mode: u32,
    size: u64,
    accessed: (i64, i64),
    modified: (i64, i64),
}

/// The files of a directory, by name, without reading them.
fn traces(directory: &Path) -> BTreeMap<String, Trace> {
    let files = fs::read_dir(directory).unwrap().map(Result::unwrap);
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

/// The same without the times that a read changes.
fn contents(directory: &Path) -> BTreeMap<String, Trace> {
    let unread = |(name, trace)| (name, Trace { accessed: (0, 0), ..trace });
    traces(directory).into_iter().map(unread).collect()
}

/// Old caches that were set aside.
fn kept(instance: &Instance) -> Vec<PathBuf> {
    let files = fs::read_dir(instance.state()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains("cache.enc.v1-")).collect()
}

/// Asserts that the mappings in a directory have the fixture's bytes.
#[track_caller]
fn assert_mappings_are_as_they_were(directory: &Path) {
    for id in expected().keys() {
        let was = fs::read(python_psi("secrets").join(id)).unwrap();
        assert_eq!(fs::read(directory.join(id)).unwrap(), was, "{id}");
    }
}

/// Asserts that the mappings are registered, with the fixture's bytes.
#[track_caller]
fn assert_mappings_are_registered(instance: &Instance) {
    for id in expected().keys() {
        let was = fs::read(python_psi("secrets").join(id)).unwrap();
        assert_eq!(instance.registered(id), was, "{id}");
    }
}

/// Asserts that every value of the caches is served, byte for byte.
#[track_caller]
fn assert_all_are_served(instance: &Instance) {
    for (id, value) in cached() {
        assert_eq!(instance.driver(&["lookup"]).id(&id).ok(), value, "{id}");
    }
}

/// The counts of a report: of the mappings, then of the values.
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
