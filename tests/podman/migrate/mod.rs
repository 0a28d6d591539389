//! `psictl migrate`: secrets of another store become psi's under the same ids and names, and none
//! is missing at any moment.

mod from_file;
mod from_psi;
mod rootless;
mod to_file;

use serde_json::Value;

use psi_harness::Host;
use psi_harness::{Driver, program};

/// `psictl migrate --from STORE`.
fn migrate(host: &Host, from: &str, args: &[&str]) -> Driver {
    let program = program("psi-driver");
    let always = ["migrate", "--from", from, "--program", program.to_str().unwrap()];
    host.driver(&[&always[..], args].concat())
}

/// A migration that succeeds, as JSON.
#[track_caller]
fn migrated(host: &Host, from: &str, args: &[&str]) -> Value {
    migrate(host, from, &[&["--json"], args].concat()).json()
}

/// The names in a list of moved secrets.
fn names(report: &Value) -> Vec<&str> {
    report["moved"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}
