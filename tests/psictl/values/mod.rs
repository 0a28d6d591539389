//! `psictl exec`, `psictl env` and `psictl render`: secrets for programs outside of podman.

mod env;
mod exec;
mod render;
mod template;

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use psi_harness::{Config, Driver, FakeInfisical, Instance, Psid, workload};

fn instance(secrets: &serde_json::Value, workloads: &str) -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(secrets);
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    config.rest = workloads.to_owned();
    instance.configure(&config);
    let psid = instance.start();
    (infisical, instance, psid)
}

fn myapp(secrets: &serde_json::Value) -> (FakeInfisical, Instance, Psid) {
    instance(&json!({"/myapp": secrets}), &workload("myapp", &[("/myapp", false)]))
}

/// A directory in RAM.
fn ram() -> TempDir {
    tempfile::Builder::new().prefix("psi-").tempdir_in("/dev/shm").expect("a tmpfs in /dev/shm")
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// The stdout of a command that succeeds; it may write to stderr.
#[track_caller]
fn stdout(call: &Driver) -> String {
    let outcome = call.run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    String::from_utf8(outcome.stdout).unwrap()
}
