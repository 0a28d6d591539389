//! Transcripts: each file in `cmd/` has commands, their output and their exit statuses.
//! `TRYCMD=overwrite` (set by `make generate`) rewrites them from the programs' output: review the
//! difference before a commit.

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, program};

/// Runs the transcripts of a directory with psid's paths of the instance.
fn run(directory: &str, instance: &Instance) {
    let cases = trycmd::TestCases::new();
    for name in ["psi-driver", "psictl", "psid"] {
        cases.register_bin(name, program(name));
    }
    cases
        .env("PSI_SOCKET", instance.socket().to_str().unwrap())
        .env("PSI_CONFIG", instance.config().to_str().unwrap())
        .env("PSI_STATE_DIR", instance.state().to_str().unwrap())
        .env("PSI_RUN_DIR", instance.run_directory().to_str().unwrap())
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100");
    cases.insert_var("[VERSION]", env!("CARGO_PKG_VERSION")).unwrap();
    cases.insert_var("[INSTANCE]", instance.directory().display().to_string()).unwrap();
    cases.case(format!("psictl/cmd/{directory}/*.trycmd"));
    cases.run();
}

#[test]
fn transcripts_without_a_daemon_match() {
    run("down", &Instance::empty());
}

#[test]
fn transcripts_with_a_daemon_match() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    run("up", &instance);
}
