//! The system calls of a write: only they show whether a power cut could lose the file.

use std::fs;
use std::process::Command;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, Process, eventually, id, reference};

/// The beginnings of the calls in a trace. A call that another thread's interrupts continues, with
/// its result, in a `<... resumed>` line. One thread makes all calls for one file.
fn calls(trace: &str) -> Vec<&str> {
    trace.lines().filter(|line| line.contains('(') && !line.contains(" resumed>")).collect()
}

fn position(calls: &[&str], what: &str, fits: impl Fn(&str) -> bool) -> usize {
    calls.iter().position(|call| fits(call)).unwrap_or_else(|| panic!("no {what} in {calls:#?}"))
}

/// N15: the Python PSI renamed its file into place and did not fsync the directory: after a power
/// cut the file could be gone. A file without an fsync before the rename could be empty.
#[test]
fn n15_file_is_durable_before_its_name() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let trace = instance.run().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-p", &psid.process.pid().to_string(), "-o"]).arg(&trace);
    strace.args(["-e", "trace=openat,fsync,fdatasync,rename,renameat,renameat2"]);
    let strace = Process::start(strace);
    strace.await_stderr("attached");
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    psid.await_generation_after(0);
    instance.driver(&["delete"]).id(id(1)).ok();
    let text = eventually("the trace of the deletion", || {
        let text = fs::read_to_string(&trace).unwrap();
        let renamed = text.find("/deleted/")?;
        (text[renamed..].matches("fsync(").count() >= 2).then_some(text)
    });
    let calls = calls(&text);
    let state = instance.state().display().to_string();
    for (directory, name) in
        [(format!("{state}/secrets"), id(1)), (state.clone(), "cache.enc".to_owned())]
    {
        let temporary = format!("{directory}/.{name}.tmp");
        let made = position(&calls, "private file", |call| {
            call.contains("openat(")
                && call.contains(&temporary)
                && call.contains("O_EXCL")
                && call.contains(", 0600")
        });
        let synced = position(&calls, "fsync of the file", |call| {
            call.contains("fsync(") && call.contains(&format!("<{temporary}>"))
        });
        let renamed = position(&calls, "rename", |call| {
            call.contains("rename")
                && call.contains(&format!("\"{temporary}\""))
                && call.contains(&format!("\"{directory}/{name}\""))
        });
        let durable = position(&calls[renamed..], "fsync of the directory", |call| {
            call.contains("fsync(") && call.contains(&format!("<{directory}>"))
        });
        assert!(made < synced && synced < renamed, "{name}: {made}, {synced}, {renamed}");
        assert!(durable > 0);
    }
    let buried =
        position(&calls, "burial", |call| call.contains("rename") && call.contains("/deleted/"));
    for directory in [format!("{state}/secrets"), format!("{state}/deleted")] {
        position(&calls[buried..], "fsync after the burial", |call| {
            call.contains("fsync(") && call.contains(&format!("<{directory}>"))
        });
    }
}
