//! psictl runs psid as a child: as which user, and until when.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use psi_harness::{Instance, copy_program, eventually};

/// A uid other than root's.
const OTHER: u32 = 12_345;

/// A copy of psictl with this script as the psid beside it.
fn psictl_with(instance: &Instance, script: &str) -> PathBuf {
    let (psictl, psid) = (instance.run().join("psictl"), instance.run().join("psid"));
    if !psictl.exists() {
        copy_program("psictl", &psictl);
    }
    let text = instance.run().join("script");
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    // By another process: a descriptor for writing that a concurrent child inherits would make it busy.
    assert!(Command::new("cp").arg(&text).arg(&psid).status().unwrap().success());
    fs::set_permissions(&psid, Permissions::from_mode(0o755)).unwrap();
    psictl
}

#[test]
fn psid_ends_with_psictl() {
    let instance = Instance::empty();
    let pid = instance.run().join("pid");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 600", pid.display());
    let psictl = psictl_with(&instance, &script);
    let call = instance.driver(&["cache", "init"]).with_program(psictl);
    let mut call = call.command().spawn().unwrap();
    let pid = eventually("psid to start", || fs::read_to_string(&pid).ok());
    let state = format!("/proc/{}/stat", pid.trim());
    assert!(fs::exists(&state).unwrap());
    call.kill().unwrap();
    call.wait().unwrap();
    // Without an init process, a zombie may be left.
    eventually("psid to end", || match fs::read_to_string(&state) {
        Err(_) => Some(()),
        Ok(state) => state.contains(") Z ").then_some(()),
    });
}

/// The owner of the run directory is psid's user; the helper opens its credentials.
#[test]
fn preflight_runs_as_psids_user_if_the_helper_is_there() {
    let instance = Instance::empty();
    let psictl = psictl_with(&instance, "id -u");
    let run = |args: &[&str]| instance.driver(args).with_program(psictl.clone()).text();
    fs::create_dir_all(instance.run_directory()).unwrap();
    chown(instance.run_directory(), Some(OTHER), Some(OTHER)).unwrap();
    assert_eq!(run(&["hsm", "preflight"]), "0\n", "without the helper");
    let _helper = UnixListener::bind(instance.run().join("creds.sock")).unwrap();
    assert_eq!(run(&["hsm", "preflight"]), format!("{OTHER}\n"));
    assert_eq!(run(&["cache", "init"]), "0\n", "it writes the config");
    chown(instance.run_directory(), Some(0), Some(0)).unwrap();
    assert_eq!(run(&["hsm", "preflight"]), "0\n");
}
