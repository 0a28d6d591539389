//! The command line itself.

use psi_harness::Instance;

#[test]
fn a_command_line_that_makes_no_sense_is_2_and_leaves_stdout_alone() {
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
            "psi-driver: cache init: which key backend? {config} names none; choose --backend tpm (a key sealed \
             to this host's TPM) or --backend hsm (a key wrapped by a PKCS#11 token)"
        )
    );
}

#[test]
fn help_and_version_are_answers() {
    let instance = Instance::empty();
    let help = instance.driver(&["--help"]).text();
    let verbs =
        ["lookup", "store", "delete", "list", "restore", "get", "health", "install", "cache"];
    for verb in verbs {
        let line = help.lines().find(|line| line.trim_start().starts_with(verb));
        assert!(line.is_some_and(|line| line.trim().len() > verb.len()), "{verb} in {help}");
        assert!(instance.driver(&[verb, "--help"]).text().contains("Usage: psi-driver"), "{verb}");
    }
    for verb in ["init", "status", "refresh", "invalidate"] {
        assert!(instance.driver(&["cache", verb, "--help"]).text().contains("Usage:"), "{verb}");
    }
    let version = instance.driver(&["--version"]).text();
    assert_eq!(version, format!("psi-driver {}\n", env!("CARGO_PKG_VERSION")));
}

/// The codes are an interface: scripts read them.
#[test]
fn help_tells_every_exit_code() {
    let help = Instance::empty().driver(&["--help"]).text();
    for code in ["0 ", "2 ", "65 ", "66 ", "69 ", "74 ", "75 ", "76 ", "77 "] {
        assert!(help.contains(code), "{code}in {help}");
    }
}

/// psid runs in psi-driver's place there, and speaks for it.
#[test]
fn a_failure_of_init_is_psi_driver_s() {
    let instance = Instance::empty();
    let line = instance.driver(&["cache", "init", "--backend", "hsm"]).fails(65);
    assert!(line.starts_with("psi-driver: cache init: ") && line.contains("config.toml"), "{line}");
}
