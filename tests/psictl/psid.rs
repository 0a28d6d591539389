//! psid's command line, and its messages when it does not start.

use std::fs;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, id};

#[test]
fn check_accepts_a_good_config_and_warns_about_a_risky_one() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    let good = format!("{} is good\n", instance.config().display());
    assert_eq!(check(&instance), good);
    config.auth = config.auth.replace(
        "client_secret_credential = \"infisical-client-secret\"",
        "client_secret = \"hunter2\"",
    );
    instance.configure(&config);
    let warning = "warning: client_secret is in the config in clear text: use \
                   client_secret_credential\n";
    assert_eq!(check(&instance), format!("{warning}{good}"));
}

fn check(instance: &Instance) -> String {
    let outcome = instance.psid().args(&["check"]).run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    String::from_utf8(outcome.stdout).unwrap()
}

#[test]
fn config_error_is_reported_with_its_line() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let text = Config::of(&infisical).to_string().replace("backend = ", "backend_ = ");
    fs::write(instance.config(), text).unwrap();
    let expected = format!("psid: {}:2: unknown field `backend_`", instance.config().display());
    for args in [&["check"][..], &[]] {
        let line = instance.psid().args(args).fails(65);
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[test]
fn missing_config_is_reported() {
    let instance = Instance::empty();
    let line = instance.psid().args(&["check"]).fails(65);
    let path = instance.config().display().to_string();
    assert_eq!(line, format!("psid: {path}: No such file or directory (os error 2)"));
}

#[test]
fn binary_config_is_reported_in_one_line() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    fs::write(instance.config(), b"\xff\xfe[cache]\n").unwrap();
    let line = instance.psid().args(&["check"]).fails(65);
    assert!(line.contains("UTF-8"), "{line}");
    fs::remove_file(instance.config()).unwrap();
    fs::create_dir(instance.config()).unwrap();
    let line = instance.psid().args(&["check"]).fails(65);
    assert!(line.contains("Is a directory"), "{line}");
}

#[test]
fn config_path_is_read_from_the_command_line() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let elsewhere = instance.directory().join("elsewhere.toml");
    fs::rename(instance.config(), &elsewhere).unwrap();
    let config = elsewhere.display().to_string();
    let outcome = instance.psid().args(&["--config", &config, "check"]).run();
    assert_eq!(outcome.stdout, format!("{config} is good\n").as_bytes());
}

#[test]
fn second_psid_on_one_socket_is_refused() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let _first = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin("literal").ok();
    let line = instance.psid().fails(74);
    assert!(line.contains("another psid listens on it"), "{line}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "literal");
}

#[test]
fn file_at_the_sockets_path_is_kept() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    fs::write(instance.socket(), "precious").unwrap();
    let line = instance.psid().fails(74);
    assert!(line.contains("it exists and is not a socket"), "{line}");
    assert_eq!(fs::read_to_string(instance.socket()).unwrap(), "precious");
}

/// systemd's variables name the directories unless psi's own do.
#[test]
fn directories_of_the_service_manager_are_used() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance
        .psid()
        .without("PSI_STATE_DIR")
        .without("PSI_RUN_DIR")
        .env("STATE_DIRECTORY", instance.state())
        .env("RUNTIME_DIRECTORY", instance.run().join("psid"))
        .start();
    assert!(instance.run().join("psid/boot").exists());
    instance.driver(&["store"]).id(id(1)).stdin("literal").ok();
    assert!(instance.state().join("secrets").join(id(1)).exists());
    psid.terminate();
}

/// One JSON record per line, if configured (the Python PSI's PR #34).
#[test]
fn json_log_has_one_object_per_line() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.psid().args(&["--log-format", "json", "--log-level", "debug"]).start();
    instance.driver(&["lookup"]).id(id(1)).fails(66);
    let log = psid.terminate();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(record["timestamp"].is_string() && record["level"].is_string(), "{line}");
    }
}
