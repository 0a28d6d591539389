//! `psictl init` that is killed with its children, at each of its steps, and run again.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::staged_host::StagedHost;

const STEPS: usize = 10;

/// Runs `psictl init` until it printed a line that begins so, and kills it and its children.
fn kill_at(host: &StagedHost, flags: &[&str], is_reached: impl Fn(&str) -> bool) {
    let mut command = host.command(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut was_reached = false;
    for line in lines.map_while(Result::ok) {
        was_reached |= is_reached(&line);
        if was_reached {
            break;
        }
    }
    let group = Pid::from_raw(child.id().try_into().unwrap());
    let _ = killpg(group, Signal::SIGKILL);
    child.wait().unwrap();
    assert!(was_reached, "it ended before: {}", host.logs());
}

/// What an interrupted run left is whole: the config is the packaged one or the new one, and no secret is in clear.
#[track_caller]
fn assert_whole(host: &StagedHost, when: &str) {
    let config = host.sh("cat /etc/psi/config.toml");
    let is_new = config.starts_with("# Written by `psictl init`.") && config.ends_with("}]");
    assert!(is_new || !config.contains("\nbackend = "), "{when}: {config}");
    let found = host.sh(&format!(
        "grep -rl {} /etc/psi /var/lib/psi /run/psid || true",
        psi_harness::CLIENT_SECRET
    ));
    assert_eq!(found, "", "{when}: the client secret in clear");
}

#[track_caller]
fn assert_goes_on(host: &StagedHost) {
    let (report, _) = host.init_ends(0, &host.flags(), &[]);
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken", "{report}");
    let listed = host.sh("podman secret ls --format '{{.Name}} {{.Driver}}' | sort");
    assert_eq!(listed, "myapp--DB_HOST shell\nmyapp--TOKEN shell", "a probe is left");
    assert_eq!(host.run(&["psictl", "status"], "").code, 0);
}

#[test]
fn killed_in_each_step_the_next_run_goes_on() {
    let host = StagedHost::new();
    let flags = host.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for number in 1..=STEPS {
        let begun = format!("[{number}/{STEPS}] ");
        kill_at(&host, &flags, |line| line.starts_with(&begun));
        assert_whole(&host, &begun);
    }
    assert_goes_on(&host);
}

#[test]
fn killed_after_each_step_the_next_run_skips_what_is_done() {
    let host = StagedHost::new();
    let flags = host.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for number in 1..=STEPS {
        let (begun, is_in) = (format!("[{number}/{STEPS}] "), std::cell::Cell::new(false));
        kill_at(&host, &flags, |line| {
            is_in.set(is_in.get() || line.starts_with(&begun));
            is_in.get() && (line.starts_with("  ok: ") || line.starts_with("  done already: "))
        });
        assert_whole(&host, &begun);
    }
    assert_goes_on(&host);
}
