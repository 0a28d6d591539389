//! Whether the shim records everything: an unrecorded change of the disk would not be tested.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::shim::preload;
use super::trace;
use psi_harness::{FakeInfisical, Instance, Psid, eventually, id, reference};

/// Every system call that changes a file system or could do so in another way.
const CALLS: &str = "open openat openat2 creat write pwrite64 writev pwritev pwritev2 sendfile copy_file_range \
    splice fallocate ftruncate truncate fsync fdatasync sync syncfs sync_file_range msync \
    rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat rmdir mkdir \
    mkdirat mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime \
    utimes futimesat utimensat setxattr lsetxattr fsetxattr removexattr io_uring_setup";

/// The shim's name for a system call.
fn class(line: &str) -> Option<&'static str> {
    let name = line.split('(').next()?.rsplit(' ').next()?;
    Some(match name {
        "open" | "openat" | "openat2" if !line.contains("O_CREAT") && !line.contains("O_TRUNC") => {
            return None;
        }
        "open" | "openat" | "openat2" | "creat" if line.contains("O_EXCL") => "create",
        "open" | "openat" | "openat2" | "creat" => "open",
        "write" | "pwrite64" => "write",
        "fsync" | "fdatasync" => "fsync",
        "syncfs" => "sync",
        "rename" | "renameat" | "renameat2" => "rename",
        "link" | "linkat" => "link",
        "unlink" | "unlinkat" => "unlink",
        "mkdir" | "mkdirat" => "mkdir",
        "utimensat" => "date",
        "chmod" | "fchmod" | "fchmodat" => "chmod",
        "chown" | "fchown" | "lchown" | "fchownat" => "chown",
        _ => panic!("the shim does not know {line}"),
    })
}

#[test]
fn shim_records_every_change_that_the_kernel_sees() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let (psid, first) = traced(&instance, "first");
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.await_generation_after(0);
    instance.driver(&["delete"]).id(id(2)).ok();
    instance.driver(&["restore", &id(2)]).ok();
    instance.driver(&["cache", "recovery-key"]).ok();
    let first = end(psid, &first);
    fs::write(instance.cache(), "no cache").unwrap();
    let (psid, second) = traced(&instance, "second");
    let kernel = first + &end(psid, &second);

    let directory = instance.directory().display().to_string();
    let sockets = instance.run().display().to_string();
    // A call that is interrupted by another thread's has its arguments in the first part.
    let ours = |line: &&str| {
        line.contains(&directory) && !line.contains(&sockets) && !line.contains(" resumed>")
    };
    let mut seen = BTreeMap::<_, i32>::new();
    for class in kernel.lines().filter(ours).filter_map(class) {
        *seen.entry(class.to_owned()).or_default() += 1;
    }
    let mut recorded = BTreeMap::new();
    for call in trace::read(&instance) {
        *recorded.entry(call.name).or_default() += 1;
    }
    assert_eq!(recorded, seen, "{kernel}");
    for class in ["create", "write", "fsync", "rename", "unlink", "mkdir", "date"] {
        assert!(seen.contains_key(class), "no {class} proves nothing about it");
    }
}

/// A psid with the shim and with strace, which is not its parent: signals go to psid.
fn traced(instance: &Instance, name: &str) -> (Psid, PathBuf) {
    let trace = instance.run().join(name);
    let path = trace.display().to_string();
    // An older strace or another machine lacks some calls; the question mark ignores those.
    let calls = format!("trace=?{}", CALLS.split_whitespace().collect::<Vec<_>>().join(",?"));
    let wrapper = ["strace", "-D", "-f", "-y", "-o", &path, "-e", "signal=none", "-e", &calls];
    (preload(instance.psid(), instance, None).through(&wrapper).start(), trace)
}

/// Ends it; returns the whole trace of strace.
fn end(psid: Psid, trace: &Path) -> String {
    let pid = psid.process.pid().to_string();
    psid.terminate();
    eventually("the end of the trace", || {
        let text = fs::read_to_string(trace).unwrap();
        // Strace pads a short pid.
        let is_last = |line: &str| {
            line.split_once(' ').is_some_and(|(who, what)| {
                who == pid && what.trim_start() == "+++ exited with 0 +++"
            })
        };
        text.lines().any(is_last).then_some(text)
    })
}
