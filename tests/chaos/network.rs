//! A network namespace in which packets can be dropped silently.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

use psi_harness::Process;

/// Moves this thread, and everything that it starts from now on, into a new network namespace with
/// a loopback device only. The host's firewall is not changed.
pub(super) fn enter_one_of_our_own() {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && echo up && read wait"]);
    let mut keeper = {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Process::start(command)
    };
    let mut line = String::new();
    BufReader::new(keeper.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = keeper.stderr();
    assert_eq!(line, "up\n", "a network namespace takes root and iproute2: {output}");
    let namespace = File::open(format!("/proc/{}/ns/net", keeper.pid())).unwrap();
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Drops packets to this address, of old and new connections, without an error.
pub(super) fn drop_packets_to(address: &str) {
    iptables(&[
        "-A",
        "INPUT",
        "-p",
        "tcp",
        "-d",
        ip(address),
        "--dport",
        port(address),
        "-j",
        "DROP",
    ]);
}

/// The number of dropped packets.
pub(super) fn dropped() -> u64 {
    let listing = iptables(&["-L", "INPUT", "-v", "-x", "-n"]);
    let dropped = listing.lines().filter(|line| line.contains("DROP"));
    dropped.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// Ends the dropping.
pub(super) fn drop_nothing() {
    iptables(&["-F", "INPUT"]);
}

fn iptables(args: &[&str]) -> String {
    let output = Command::new("iptables").arg("-w").args(args).output();
    let output = output.unwrap_or_else(|error| panic!("iptables: {error}; run `make deps`"));
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(address: &str) -> &str {
    address.split_once(':').unwrap().0
}

fn port(address: &str) -> &str {
    address.split_once(':').unwrap().1
}
