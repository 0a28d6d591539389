//! Preloaded C libraries that change psid's system calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use parking_lot::Mutex;

use crate::{program, repository};

/// The library of a C source, a path in the repository; compiled once per run.
pub fn preload_library(source: &str) -> PathBuf {
    static MADE: LazyLock<Mutex<BTreeMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    MADE.lock().entry(source.to_owned()).or_insert_with(|| compile(source)).clone()
}

fn compile(source: &str) -> PathBuf {
    let directory = program("psid").parent().unwrap().to_owned();
    let made = tempfile::Builder::new().prefix("psi-preload-").tempfile_in(&directory).unwrap();
    let status = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared", "-o"])
        .arg(made.path())
        .arg(repository().join(source))
        .status()
        .unwrap_or_else(|error| panic!("cc: {error}; tests/deps.sh installs it"));
    assert!(status.success(), "cc {source}: {status}");
    // Another run of the tests may compile it at the same time: the name always belongs to a
    // complete file.
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    let library = directory.join(format!("psi-preload-{name}.so"));
    made.persist(&library).unwrap();
    library
}
