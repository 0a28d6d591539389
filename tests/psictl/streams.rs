//! Standard streams that are closed, full or abandoned, and empty or hostile environments.

use std::fs::File;
use std::process::Stdio;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, Process, Psid, id, reference};

/// A psid with one secret, so that only the streams can fail.
fn ready() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"DB_HOST": "db.example"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "DB_HOST")).ok();
    (infisical, instance, psid)
}

#[test]
fn closed_stdin_reads_as_empty() {
    let (_infisical, instance, _psid) = ready();
    let outcome = instance.driver(&["store"]).id(id(2)).through_shell("exec \"$@\" <&-");
    assert_eq!(outcome.code, 65);
    assert!(outcome.stderr.contains("stdin is empty"), "{}", outcome.stderr);
    let outcome = instance.driver(&["lookup"]).id(id(1)).through_shell("exec \"$@\" <&-");
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (0, b"db.example".as_slice()));
}

/// Rust opens /dev/null in place of a closed descriptor: a value written there would be lost with
/// exit 0.
#[test]
fn closed_stdout_fails() {
    let (_infisical, instance, _psid) = ready();
    for args in [&["lookup"][..], &["list"], &["get", &id(1)], &["cache", "status"]] {
        let outcome = instance.driver(args).id(id(1)).through_shell("exec \"$@\" >&-");
        assert_eq!(outcome.code, 74, "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("writing to stdout: "), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1);
    }
}

#[test]
fn verbs_that_print_nothing_need_no_stdout() {
    let (_infisical, instance, _psid) = ready();
    let store = instance.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "B"));
    assert_eq!(store.through_shell("exec \"$@\" >&-").code, 0);
    assert_eq!(instance.driver(&["delete"]).id(id(2)).through_shell("exec \"$@\" >&-").code, 0);
    assert_eq!(instance.driver(&["health"]).through_shell("exec \"$@\" >&- 2>&- <&-").code, 0);
}

#[test]
fn closed_stderr_keeps_the_exit_code() {
    let instance = Instance::empty();
    let outcome = instance.driver(&["lookup"]).id("bad").through_shell("exec \"$@\" 2>&-");
    assert_eq!(outcome.code, 65);
}

#[test]
fn closed_reader_is_a_failure_with_its_cause() {
    let (_infisical, instance, _psid) = ready();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = instance.driver(&["lookup"]).id(id(1)).command();
    command.stdin(Stdio::null()).stdout(writer);
    let mut process = Process::start(command);
    assert_eq!(process.wait().code(), Some(74));
    assert!(process.stderr().contains("Broken pipe"), "{}", process.stderr());
    assert_eq!(process.stderr().lines().count(), 1);
}

#[test]
fn full_disk_behind_stdout_is_a_failure_with_its_cause() {
    let (_infisical, instance, _psid) = ready();
    let mut command = instance.driver(&["lookup"]).id(id(1)).command();
    command.stdin(Stdio::null()).stdout(File::create("/dev/full").unwrap());
    let mut process = Process::start(command);
    assert_eq!(process.wait().code(), Some(74));
    assert!(process.stderr().contains("No space left"), "{}", process.stderr());
}

/// A health check's timer sets only the variables of its unit.
#[test]
fn lookup_needs_only_two_variables() {
    let (_infisical, instance, _psid) = ready();
    let lookup = instance.driver(&["lookup"]).id(id(1));
    assert_eq!(lookup.without("PSI_CONFIG").without("PSI_STATE_DIR").text(), "db.example");
}

/// Podman passes its whole environment on, and a quadlet's unit has the variables of the service
/// manager.
#[test]
fn environment_does_not_affect_a_lookup() {
    let (_infisical, instance, _psid) = ready();
    let mut lookup = instance.driver(&["lookup"]).id(id(1));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "grpc_proxy"] {
        lookup = lookup.env(name, "http://127.0.0.1:1");
    }
    for name in ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"] {
        lookup = lookup.env(name, "/nowhere");
    }
    lookup = lookup.env("LISTEN_FDS", "3").env("LISTEN_PID", "1").env("RUST_LOG", "trace");
    lookup = lookup.env("RUST_BACKTRACE", "full").env("HOME", "relative").env("PATH", "");
    assert_eq!(lookup.text(), "db.example");
}

/// Podman shares its stdout with store and delete: one byte would be in `id=$(podman secret
/// create)`.
#[test]
fn store_and_delete_print_nothing() {
    let (_infisical, instance, _psid) = ready();
    assert_eq!(instance.driver(&["store"]).id(id(3)).stdin("literal").text(), "");
    assert_eq!(instance.driver(&["delete"]).id(id(3)).text(), "");
}
