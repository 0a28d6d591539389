//! One state directory, one psid.

use std::fs;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, id};

#[test]
fn second_psid_on_the_same_state_is_refused() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let _first = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    let other_socket = instance.run().join("other.sock");
    let line = instance.psid().env("PSI_SOCKET", &other_socket).fails(74);
    let state = instance.state().display().to_string();
    assert_eq!(line, format!("psid: another psid uses {state}; stop it first"));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
}

/// A lock file would outlive a crash and block every later psid.
#[test]
fn crash_leaves_no_lock() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    for _ in 0..3 {
        instance.start().crash();
    }
    let _psid = instance.start();
    instance.driver(&["health"]).ok();
}

/// A crash during a write leaves a file that the next write removes.
#[test]
fn leftover_file_of_a_crash_is_ignored() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    fs::create_dir_all(instance.state().join("secrets")).unwrap();
    fs::write(instance.state().join(".cache.enc.tmp"), "half").unwrap();
    fs::write(instance.state().join("secrets").join(format!(".{}.tmp", id(1))), "half").unwrap();
    let psid = instance.start();
    assert_eq!(instance.driver(&["list"]).text(), "");
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    instance.driver(&["get", &psi_harness::reference("/myapp", "A")]).ok();
    psid.await_generation_after(0);
    assert!(!instance.state().join(".cache.enc.tmp").exists());
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
    assert_eq!(psid.degraded(), "");
}
