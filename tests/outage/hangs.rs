//! A silent provider, network or client does not block others.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{Backlog, listen};
use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, eventually, id, reference};

/// N5: the Python PSI's server had one thread and no timeout: one idle client or one hanging
/// provider blocked every lookup and the health check.
#[test]
fn n5_idle_client_and_hanging_provider_block_no_other_call() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}, "/later": {"HANGS": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).timeout("120s"));
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    infisical.clear_log();
    let idle: Vec<_> = (0..8).map(|_| UnixStream::connect(instance.socket()).unwrap()).collect();
    infisical.faults(&json!([{"match": {"method": "GET"}, "fault": {"kind": "hang"}}]));
    thread::scope(|scope| {
        let hanging = instance.driver(&["get", &reference("/later", "HANGS")]);
        let hanging = scope.spawn(move || hanging.fails(75));
        // Its directory is listed.
        infisical.await_count("GET", "/api/v4/secrets", 1);
        for _ in 0..3 {
            assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
            assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
            instance.driver(&["health"]).ok();
            instance.driver(&["cache", "status"]).report();
        }
        instance.driver(&["store"]).id(id(3)).stdin("meanwhile").ok();
        assert!(!hanging.is_finished(), "all of that was while it hung");
        assert!(hanging.join().unwrap().contains("in time"));
    });
    drop(idle);
}

/// N17: podman holds a host-wide lock while the driver runs, and curl had no timeout. The driver's
/// deadline is shorter than the provider's, and its message names the provider.
#[test]
fn n17_hanging_provider_does_not_block_podman() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).timeout("120s"));
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    infisical.fault(&json!({"kind": "hang"}));
    let line = instance.driver(&["lookup"]).id(id(1)).fails(75);
    assert!(line.contains("infisical does not answer: it did not answer in time"), "{line}");
}

/// The network drops every packet, as behind a broken firewall.
#[test]
fn lookup_serves_stale_value_if_packets_are_dropped() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).timeout("2s"));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.terminate();
    let hole = BlackHole::open();
    let config = Config::of(&infisical).timeout("2s").short_lived().to_string();
    std::fs::write(instance.config(), config.replace(infisical.url(), &hole.url())).unwrap();
    let psid = instance.start();
    eventually("psid to notice", || {
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
        (psid.status()["providers"][0]["up"] == false).then_some(())
    });
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    let line = instance.driver(&["get", &reference("/myapp", "B")]).fails(75);
    assert!(line.contains("answer from 127.0.0.1:"), "{line}");
}

/// A stop waits neither for a silent client nor for a hanging provider; the waiting lookup is
/// served by the next psid.
#[test]
fn psid_stops_with_a_silent_client_and_a_hanging_provider() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}, "/later": {"B": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).timeout("120s"));
    let psid = instance.start();
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    infisical.clear_log();
    let _idle = UnixStream::connect(instance.socket()).unwrap();
    infisical.faults(&json!([{"match": {"method": "GET"}, "fault": {"kind": "hang"}}]));
    thread::scope(|scope| {
        let hanging = instance.driver(&["get", &reference("/later", "B")]);
        let hanging = scope.spawn(move || hanging.text());
        infisical.await_count("GET", "/api/v4/secrets", 1);
        // The stop takes far less than the provider's 120 s.
        psid.terminate();
        infisical.heal();
        let _psid = instance.start();
        assert_eq!(hanging.join().unwrap(), "2");
    });
}

/// A listening socket with a full queue: the kernel drops new connections.
struct BlackHole {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        // A backlog of 0 holds one or two connections.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
            assert!(queue.len() < 100, "the queue has no end");
        }
        Self { listener, _queue: queue }
    }

    fn url(&self) -> String {
        let address: SocketAddr = self.listener.local_addr().unwrap();
        format!("http://{address}")
    }
}
