//! `psictl migrate`: secrets of another store become psi's, by their ids and names, and at no moment is
//! one of them missing.

mod from_file;
mod from_psi;

use serde_json::Value;

use psi_harness::Host;
use psi_harness::{Driver, program};

/// `psictl migrate --from STORE`.
fn migrate(host: &Host, from: &str, args: &[&str]) -> Driver {
    let program = program("psi-driver");
    let always = ["migrate", "--from", from, "--program", program.to_str().unwrap()];
    host.driver(&[&always[..], args].concat())
}

/// One that must succeed, as JSON.
#[track_caller]
fn migrated(host: &Host, from: &str, args: &[&str]) -> Value {
    migrate(host, from, &[&["--json"], args].concat()).json()
}

/// The names in a list of what was moved.
fn names(told: &Value) -> Vec<&str> {
    told["moved"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}
