//! Core dumps and debuggers read no memory of psid.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use psi_harness::{
    FakeInfisical, Instance, Process, Signal, copy_program, eventually, id, reference, run,
};

/// An unprivileged user.
const USER: u32 = 1234;
const FATAL: [Signal; 4] = [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGQUIT, Signal::SIGBUS];

/// Runs its arguments with unlimited core dumps, in the given directory.
const UNLIMITED: &str = "ulimit -c unlimited && cd \"$1\" && shift && exec \"$@\"";

fn instance() -> (FakeInfisical, Instance) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "value of A"}}));
    let instance = Instance::of(&infisical);
    (infisical, instance)
}

fn hanging_reads() -> Value {
    json!([{"match": {"method": "GET"}, "fault": {"kind": "hang"}}])
}

/// A lookup whose provider hangs, started through `wrapper`.
fn lookup_in_mid_call(infisical: &FakeInfisical, instance: &Instance, wrapper: &[&str]) -> Process {
    infisical.clear_log();
    let lookup = instance.driver(&["lookup"]).id(id(1)).command();
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(lookup.get_program()).args(lookup.get_args());
    let environment = lookup.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(environment).stdin(Stdio::null()).stdout(Stdio::null());
    let process = Process::start(command);
    infisical.await_count("GET", "/api/v", 1);
    process
}

/// Whether the kernel wrote a core dump, by the exit status and by the directory.
#[track_caller]
fn dumps(mut process: Process, signal: Signal, directory: &Path) -> bool {
    // Repeated: Rust's runtime answers the first SIGSEGV by removing its own handler.
    eventually("a process to fall", || {
        let fallen = process.has_ended_within(Duration::ZERO);
        if !fallen {
            process.signal(signal);
        }
        fallen.then_some(())
    });
    let status = process.wait();
    assert_eq!(status.signal(), Some(signal as i32));
    let files = fs::read_dir(directory).unwrap().count();
    status.core_dumped() || files > 0
}

#[track_caller]
fn limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line.split_whitespace().skip(4).take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn psid_and_psi_driver_leave_no_core_dump() {
    let (infisical, instance) = instance();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let unlimited = ["/bin/sh", "-c", UNLIMITED, "sh", path];
    for signal in FATAL {
        let psid = instance.psid().through(&unlimited).start();
        instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
        infisical.faults(&hanging_reads());
        let lookup = lookup_in_mid_call(&infisical, &instance, &unlimited);
        infisical.heal();
        for pid in [psid.process.pid(), lookup.pid()] {
            assert_eq!(limit(pid), "0 0");
        }
        assert!(!dumps(lookup, signal, directory.path()), "psi-driver dumps at {signal:?}");
        assert!(!dumps(psid.process, signal, directory.path()), "psid dumps at {signal:?}");
    }
    // Another program does leave a core dump here.
    let mut dumped = Command::new(unlimited[0]);
    dumped.args(&unlimited[1..]).args(["sleep", "1000"]);
    let dumped = Process::start(dumped);
    eventually("sleep to run", || is(dumped.pid(), "sleep").then_some(()));
    assert_eq!(limit(dumped.pid()), "unlimited unlimited");
    assert!(
        dumps(dumped, Signal::SIGABRT, directory.path()),
        "this host writes no core dumps at all, so nothing was shown: see core_pattern(5)"
    );
}

/// The kernel gives the files in /proc of a non-dumpable process to root: another process of the
/// same user, such as a container's root, reads neither its memory nor its environment.
#[test]
fn process_of_the_same_user_cannot_read_memory() {
    let (infisical, instance) = instance();
    // psid runs as this user, from a copy that the user can execute.
    let copy = instance.run().join("psid");
    copy_program("psid", &copy);
    let (uid, gid) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    let as_user = ["setpriv", &uid, &gid, "--clear-groups"];
    let start = instance.psid().with_program(&copy).through(&as_user);
    give(instance.directory());
    let psid = start.start();
    let lookup = |args: &[&str]| instance.driver(args).id(id(1)).user(&instance, USER, USER);
    lookup(&["store"]).stdin(reference("/myapp", "A")).ok();
    assert_eq!(psid.status()["references"], 1);
    infisical.faults(&hanging_reads());
    let mut command = lookup(&["lookup"]).command();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let driver = Process::start(command);
    infisical.await_count("GET", "/api/v", 1);
    let mut other = Command::new(as_user[0]);
    other.args(&as_user[1..]).args(["sleep", "1000"]);
    let other = Process::start(other);
    eventually("sleep to run", || is(other.pid(), "sleep").then_some(()));

    let owner = |pid: u32| fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    let runs_as = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().any(|line| line.starts_with(&format!("Uid:\t{USER}\t{USER}\t")))
    };
    let user_reads = |pid: u32| {
        let mut cat = Command::new(as_user[0]);
        cat.args(&as_user[1..]).args(["cat", &format!("/proc/{pid}/environ")]);
        run(cat, b"").code == 0
    };
    for pid in [psid.process.pid(), driver.pid()] {
        assert!(runs_as(pid));
        assert_eq!((owner(pid), user_reads(pid)), (0, false));
    }
    assert!(runs_as(other.pid()));
    assert_eq!((owner(other.pid()), user_reads(other.pid())), (USER, true));
}

fn is(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == name
}

/// Changes the owner of a directory tree to the user.
fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}
