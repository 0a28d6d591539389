//! `psictl import` writes secrets to Infisical byte for byte, or refuses them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod env_files;
mod legacy;
mod quadlets;
mod sources;
mod writes;

use serde_json::Value;

use psi_harness::{Config, Driver, FakeInfisical, Instance, Psid};

/// A fake with a directory `/app`, and a psid.
fn instance(secrets: &Value, options: &[&str]) -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with_options(secrets, options);
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("app", "/app", false));
    let psid = instance.start();
    (infisical, instance, psid)
}

/// An import of an env-file of podman's with this text.
fn import(instance: &Instance, text: impl AsRef<[u8]>, options: &[&str]) -> Driver {
    let always = [
        "import",
        "env-file",
        "-",
        "--project",
        "myproject",
        "--path",
        "/app",
        "--format",
        "podman",
    ];
    instance.driver(&[&always[..], options].concat()).stdin(text)
}

/// The outcomes of a JSON report, by outcome and key.
fn fates(report: &Value) -> Vec<String> {
    let all = report["secrets"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| format!("{} {}", text(&one["outcome"]), text(&one["key"]))).collect()
}

/// The value that the provider has now.
#[track_caller]
fn value(instance: &Instance, key: &str) -> String {
    instance.driver(&["cache", "refresh"]).ok();
    instance.driver(&["get", &psi_harness::reference("/app", key)]).text()
}
