//! The reload of systemd when drop-ins changed; its failure does not stop a setup.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use psi_harness::{Host, workload};
use psi_harness::{Outcome, run};

/// A `systemctl` that records its arguments and exits with this status.
fn systemctl(directory: &Path, code: i32) -> PathBuf {
    let calls = directory.join("calls");
    let script = format!("echo \"$*\" >>{}\necho 'no bus' >&2\nexit {code}\n", calls.display());
    program(directory, "systemctl", &script)
}

/// A `systemctl` of a manager that has this unit.
fn systemctl_with(directory: &Path, unit: &str) -> PathBuf {
    let script = format!("[ \"$1\" != list-unit-files ] || echo '{unit} generated -'\n");
    program(directory, "systemctl", &script)
}

/// The installed podman, which says that it has another version.
fn podman_of(directory: &Path, version: &str) -> PathBuf {
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "command -v podman"]);
    let podman = String::from_utf8(run(shell, b"").stdout).unwrap();
    let podman = podman.trim();
    let script = format!(
        "[ \"$1\" = info ] || exec {podman} \"$@\"\n\
         {podman} \"$@\" | sed 's/\"Version\": \"[0-9].*\"/\"Version\": \"{version}\"/'\n"
    );
    program(directory, "podman", &script)
}

/// A shell script as a program of this name; its directory.
fn program(directory: &Path, name: &str, script: &str) -> PathBuf {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(name);
    let script = format!("#!/bin/sh\n{script}");
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

fn reloads(host: &Host) -> usize {
    calls(host).lines().filter(|call| *call == "daemon-reload").count()
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
    assert_eq!(calls(&host), "daemon-reload\n");
    assert!(host.drop_in("myapp").contains("myapp--A") && host.ids().len() == 1);
}

#[test]
fn setup_reloads_systemd_once_for_a_change() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let bin = systemctl(host.instance.directory(), 0);
    for _ in 0..2 {
        assert_eq!(booted(&host, &bin, &[]).code, 0);
        assert_eq!(reloads(&host), 1);
    }
    assert_eq!(booted(&host, &bin, &["--dry-run"]).code, 0);
    assert_eq!(reloads(&host), 1);
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

/// `psictl setup` named units that no quadlet makes in its command to restart.
#[test]
fn setup_names_only_units_that_exist() {
    let both = workload("myapp", &[("/myapp", false)]) + &workload("other", &[("/myapp", false)]);
    let host = Host::of(&json!({"/myapp": {"A": "1"}}), &both);
    podman_of(host.instance.directory(), "5.4.2");
    let bin = systemctl_with(host.instance.directory(), "myapp.service");
    let output = String::from_utf8(booted(&host, &bin, &[]).stdout).unwrap();
    assert!(output.contains("to apply the change: systemctl restart myapp.service\n"), "{output}");
    let quadlet = host.quadlets().join("other.container");
    let line = format!(
        "other has no unit yet: its drop-in takes effect once there is {}\n",
        quadlet.display()
    );
    assert!(output.contains(&line), "{output}");
    // Where systemd does not answer, the quadlet's file counts.
    host.write_quadlet("other");
    for workload in ["myapp", "other"] {
        fs::remove_file(host.drop_in_path(workload)).unwrap();
    }
    let bin = systemctl(host.instance.directory(), 1);
    let output = String::from_utf8(booted(&host, &bin, &[]).stdout).unwrap();
    assert!(output.contains("to apply the change: systemctl restart other.service\n"), "{output}");
    assert!(output.contains("myapp has no unit yet: "), "{output}");
}

#[test]
fn setup_reports_a_podman_whose_quadlet_reads_no_drop_ins() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.write_quadlet("myapp");
    for (version, words) in [
        ("4.3.1", "podman 4.3.1 has no quadlet, so that psi's drop-ins have no effect; "),
        ("4.9.4", "the quadlet of podman 4.9.4 reads no drop-ins, so that psi's have no effect; "),
    ] {
        let bin = podman_of(host.instance.directory(), version);
        systemctl_with(host.instance.directory(), "myapp.service");
        let output = String::from_utf8(booted(&host, &bin, &[]).stdout).unwrap();
        assert!(output.contains(&format!("warning: {words}")), "{output}");
        assert!(!output.contains("systemctl restart"), "{output}");
        fs::remove_file(host.drop_in_path("myapp")).unwrap();
    }
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
