//! Podman's lock, held by another process.

use std::fs;

use serde_json::json;

use psi_harness::{Host, lock_as_podman, program};

/// A podman that hangs in its driver holds the lock; a setup that corrects podman's record must not
/// hang too.
#[test]
fn held_lock_is_75_and_names_the_holder() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let driver = program("psi-driver");
    let path = format!(
        "--driver-opts=path={}",
        host.podman.secrets_directory().join("filedriver").display()
    );
    let create = ["secret", "create", "--driver=file", &path, "old", "-"];
    assert_eq!(host.podman.run(&create, "hunter2").code, 0);
    let lock = host.podman.secrets_directory().join("filedriver/secretsdata.lock");
    let held = fs::File::options().read(true).write(true).open(&lock).unwrap();
    lock_as_podman(&held);
    let args = ["migrate", "--from", "file", "--program", driver.to_str().unwrap()];
    let line = host.driver(&args).fails(75);
    let holder = format!("process {} (", std::process::id());
    assert!(
        line.contains(&holder) && line.contains("has held secretsdata.lock for 10 s"),
        "{line}"
    );
    assert!(line.contains("run it again later"), "{line}");
    drop(held);
    host.driver(&args).ok();
    assert_eq!(host.lookup("old"), "hunter2");
}
