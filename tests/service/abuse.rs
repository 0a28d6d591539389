//! Clients that send garbage, disconnect or stay connected do not affect others.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Process, Signal, eventually, id, reference};

/// A program that opens as many connections as it can, and keeps them.
const HOLD: &str = r#"
    use Socket;
    my @held;
    for (1..200) {
        socket(my $client, AF_UNIX, SOCK_STREAM, 0) or die $!;
        connect($client, pack_sockaddr_un($ARGV[0])) or last;
        push @held, $client;
    }
    print STDERR scalar(@held), " held\n";
    sleep;
"#;

#[test]
fn malformed_bytes_on_the_socket_affect_no_other_client() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let malformed = [
        b"".as_slice(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4096],
        &preface[..10],
        preface,
        // A frame that announces 16 MiB, and a headers frame of garbage.
        &[preface, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]].concat(),
        &[preface, &[0, 0, 8, 1, 4, 0, 0, 0, 1], &[0xff; 8]].concat(),
    ];
    let mut held = Vec::new();
    for bytes in malformed {
        for _ in 0..3 {
            let mut stream = UnixStream::connect(instance.socket()).unwrap();
            // It may have disconnected already.
            let _ = stream.write_all(bytes);
            held.push(stream);
        }
        instance.driver(&["health"]).ok();
    }
    drop(held);
    instance.driver(&["health"]).ok();
    let log = psid.terminate();
    assert!(!log.contains("ERROR") && !log.contains("internal error (panic)"), "{log}");
}

/// The Python PSI logged a traceback for each client that disconnected (PR #25).
#[test]
fn killed_driver_leaves_psid_unaffected() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    infisical.faults(
        &json!([{"match": {"method": "GET"}, "fault": {"kind": "delay", "ms": 800}, "times": 1}]),
    );
    let mut lookup = instance.driver(&["lookup"]).id(id(1)).command();
    lookup.stdin(Stdio::null()).stdout(Stdio::null());
    let mut lookup = Process::start(lookup);
    infisical.await_count("GET", "/api/v4/secrets", 1);
    lookup.signal(Signal::SIGKILL);
    lookup.wait();
    // Its fetch completes, and the next lookup uses the value.
    eventually("the fetch to land", || (psid.status()["entries"] == 1).then_some(()));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(infisical.reads(), 1);
    let log = psid.terminate();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn many_idle_clients_are_tolerated() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let idle: Vec<_> = (0..300).map(|_| UnixStream::connect(instance.socket()).unwrap()).collect();
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
    psid.terminate();
    drop(idle);
}

/// A user without a workload must not use up the connections of others.
#[test]
fn unauthorized_connections_do_not_block_callers() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload_of(23_456, "web", "/web"));
    let few = ["/bin/sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
    let _psid = instance.psid().with_users_socket(&instance).through(&few).start();
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    let mut unauthorized = Command::new("setpriv");
    unauthorized.args([
        "--reuid",
        "12345",
        "--regid",
        "12345",
        "--clear-groups",
        "perl",
        "-e",
        HOLD,
    ]);
    unauthorized.arg(instance.users_socket()).stdin(Stdio::null()).stdout(Stdio::null());
    let unauthorized = Process::start(unauthorized);
    unauthorized.await_stderr(" held");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
    instance.driver(&["health"]).ok();
}
