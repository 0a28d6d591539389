//! The reload of systemd when drop-ins changed; its failure does not stop a setup.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use psi_harness::Host;
use psi_harness::{Outcome, run};

/// A `systemctl` that records its arguments and exits with this status.
fn systemctl(directory: &Path, code: i32) -> PathBuf {
    let (bin, calls) = (directory.join("bin"), directory.join("calls"));
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join("systemctl");
    let script =
        format!("#!/bin/sh\necho \"$*\" >>{}\necho 'no bus' >&2\nexit {code}\n", calls.display());
    // By another process: see `copy_program`.
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh", &script]).arg(&path);
    assert_eq!(run(shell, b"").code, 0);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0o111);
    bin
}

/// As with a running systemd: its directory exists in the command's own mount namespace.
fn booted(host: &Host, bin: &Path, args: &[&str]) -> Outcome {
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let call = host.setup(args).env("PATH", path);
    call.through_shell(
        "exec unshare --mount sh -euc 'mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && \
         mkdir /run/systemd/system && exec \"$@\"' sh \"$@\"",
    )
}

fn calls(host: &Host) -> String {
    fs::read_to_string(host.instance.directory().join("calls")).unwrap_or_default()
}

/// PR #17 of the Python PSI: its install ran systemctl in a container, and failed halfway.
#[test]
fn pr17_failed_daemon_reload_is_a_warning_with_the_command() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let bin = systemctl(host.instance.directory(), 1);
    let Outcome { code, stdout, stderr } = booted(&host, &bin, &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let output = String::from_utf8(stdout).unwrap();
    let warning = "warning: systemd was not reloaded: no bus; run `systemctl daemon-reload`\n";
    assert!(output.contains(warning), "{output}");
    assert!(output.contains("to apply the change: systemctl restart myapp.service\n"), "{output}");
    assert_eq!(calls(&host), "daemon-reload\n");
    assert!(host.drop_in("myapp").contains("myapp--A") && host.ids().len() == 1);
}

#[test]
fn setup_reloads_systemd_once_for_a_change() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let bin = systemctl(host.instance.directory(), 0);
    for _ in 0..2 {
        assert_eq!(booted(&host, &bin, &[]).code, 0);
        assert_eq!(calls(&host), "daemon-reload\n");
    }
    assert_eq!(booted(&host, &bin, &["--dry-run"]).code, 0);
    assert_eq!(calls(&host), "daemon-reload\n");
}

/// Without a running systemd, as in an image build, systemctl is not called.
#[test]
fn setup_without_systemd_calls_no_systemctl() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let bin = systemctl(host.instance.directory(), 0);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let call = host.setup(&[]).env("PATH", path);
    let Outcome { code, stdout, .. } = call.through_shell(
        "exec unshare --mount sh -euc 'mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && \
         exec \"$@\"' sh \"$@\"",
    );
    let output = String::from_utf8(stdout).unwrap();
    assert!(code == 0 && output.contains("systemd does not run here"), "{output}");
    assert_eq!(calls(&host), "");
}

/// A unit that systemd has not reloaded still names the secret that a prune would remove.
#[test]
fn secret_is_not_removed_while_a_unit_may_name_it() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "GOES": "3"}));
    host.set_up(&[]);
    host.infisical.remove("/myapp", "GOES");
    let bin = systemctl(host.instance.directory(), 1);
    let output = String::from_utf8(booted(&host, &bin, &["--prune"]).stdout).unwrap();
    assert!(output.contains("kept myapp--GOES: its unit still refers to it"), "{output}");
    assert_eq!(host.ids().len(), 3);
}
