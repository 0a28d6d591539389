//! The command line itself.

use std::fs;

use psi_harness::{Instance, copy_program, program};

#[test]
fn invalid_command_line_is_2_without_stdout() {
    let instance = Instance::empty();
    let cases: [&[&str]; 8] = [
        &[],
        &["frobnicate"],
        &["lookup", "--quickly"],
        &["lookup", "too", "much"],
        &["store", "--literal", "--reference"],
        &["get"],
        &["cache", "status", "--yaml"],
        &["cache", "init", "--backend", "floppy"],
    ];
    for args in cases {
        let outcome = instance.driver(args).run();
        assert_eq!((outcome.code, outcome.stdout.len()), (2, 0), "{args:?}");
        assert!(outcome.stderr.contains("--help"), "{args:?}: {}", outcome.stderr);
    }
}

#[test]
fn cache_init_without_a_backend_names_the_two() {
    let instance = Instance::empty();
    let line = instance.driver(&["cache", "init"]).fails(65);
    let config = instance.config().display().to_string();
    assert_eq!(
        line,
        format!(
            "psid: init: {config} names no key backend; choose --backend tpm (a key sealed to this \
             host's TPM) or --backend hsm (a key wrapped by a PKCS#11 token)"
        )
    );
}

#[test]
fn help_and_version_are_0() {
    let instance = Instance::empty();
    let help = instance.driver(&["--help"]).text();
    let verbs =
        ["lookup", "store", "delete", "list", "restore", "get", "health", "install", "cache"];
    for verb in verbs {
        let line = help.lines().find(|line| line.trim_start().starts_with(verb));
        assert!(line.is_some_and(|line| line.trim().len() > verb.len()), "{verb} in {help}");
        assert!(instance.driver(&[verb, "--help"]).text().contains("Usage: psictl"), "{verb}");
    }
    for verb in ["init", "status", "refresh", "invalidate"] {
        assert!(instance.driver(&["cache", verb, "--help"]).text().contains("Usage:"), "{verb}");
    }
    for name in ["psi-driver", "psictl"] {
        let version = instance.driver(&["--version"]).with_program(program(name)).text();
        assert_eq!(version, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

/// The exit statuses are an interface for scripts.
#[test]
fn help_lists_every_exit_code() {
    let help = Instance::empty().driver(&["--help"]).text();
    for code in ["0 ", "2 ", "65 ", "66 ", "69 ", "74 ", "75 ", "76 ", "77 "] {
        assert!(help.contains(code), "{code}in {help}");
    }
}

/// psictl runs psid, and passes on its message and exit status.
#[test]
fn init_failure_is_reported_by_psid() {
    let instance = Instance::empty();
    let line = instance.driver(&["cache", "init", "--backend", "hsm"]).fails(65);
    assert!(line.starts_with("psid: init: ") && line.contains("config.toml"), "{line}");
}

/// Every command line from before the split works: psi-driver replaces itself by the psictl beside
/// it.
#[test]
fn psi_driver_runs_psictl_for_other_commands() {
    let instance = Instance::empty();
    let by_driver = |args: &[&str]| instance.driver(args).with_program(program("psi-driver"));
    let commands: [&[&str]; 8] = [
        &["cache", "status"],
        &["cache", "status", "--json"],
        &["cache", "init"],
        &["install", "--stdout"],
        &["delete", "abc", "--force"],
        &["--help"],
        &["frobnicate"],
        &[],
    ];
    for args in commands {
        let (direct, through) =
            (instance.driver(args).with_program(program("psictl")), by_driver(args));
        let (direct, through) = (direct.run(), through.run());
        assert_eq!(direct.code, through.code, "{args:?}");
        assert_eq!(direct.stdout_text(), through.stdout_text(), "{args:?}");
        assert_eq!(direct.stderr, through.stderr, "{args:?}");
    }
    assert!(by_driver(&["--help"]).text().contains("Usage: psictl"));
    let line = by_driver(&["restore"]).fails(69);
    assert!(line.starts_with("psictl: restore: no connection to psid"), "{line}");
}

/// No variable leads psi-driver to another program, and its own verbs work without psictl.
#[test]
fn missing_psictl_is_69_and_names_the_package() {
    let instance = Instance::empty();
    let alone = instance.directory().join("psi-driver");
    copy_program("psi-driver", &alone);
    let elsewhere = program("psictl").parent().unwrap().to_owned();
    let by_copy =
        |args: &[&str]| instance.driver(args).with_program(alone.clone()).env("PATH", &elsewhere);
    let psictl = fs::canonicalize(instance.directory()).unwrap().join("psictl");
    let line = by_copy(&["cache", "status"]).fails(69);
    assert_eq!(
        line,
        format!(
            "psi-driver: cache: running {}: No such file or directory; install the package psid, which has psictl",
            psictl.display()
        )
    );
    let line = by_copy(&[]).fails(69);
    assert!(line.starts_with("psi-driver: no command: running "), "{line}");
    let line = by_copy(&["health"]).fails(69);
    assert!(line.starts_with("psi-driver: health: no connection to psid"), "{line}");
    assert!(by_copy(&["--version"]).text().starts_with("psi-driver "));
}
