//! Listeners on the socket other than a working psid: each has its exit status, cause and remedy.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, id};

/// A listener that answers each connection with `bytes` and keeps it open.
fn impostor(instance: &Instance, bytes: &'static [u8]) {
    let listener = UnixListener::bind(instance.socket()).unwrap();
    // The thread ends with the test's process; the socket goes with the instance.
    thread::spawn(move || {
        let mut connections = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(bytes);
            connections.push(stream);
        }
    });
}

#[test]
fn missing_socket_is_69() {
    let instance = Instance::empty();
    let line = instance.driver(&["health"]).fails(69);
    let socket = instance.socket().display().to_string();
    assert_eq!(
        line,
        format!(
            "psi-driver: health: no connection to psid at {socket}: No such file or directory (os \
             error 2); start it with `systemctl start psid`"
        )
    );
}

#[test]
fn socket_without_listener_is_69() {
    let instance = Instance::empty();
    drop(UnixListener::bind(instance.socket()).unwrap());
    for args in
        [&["health"][..], &["cache", "status"], &["cache", "invalidate", "a--B"], &["restore"]]
    {
        let line = instance.driver(args).fails(69);
        assert!(
            line.contains("Connection refused") && line.contains("systemctl start psid"),
            "{line}"
        );
    }
}

/// Podman holds a host-wide lock meanwhile: `rm --all` of ten secrets took 100 s.
#[test]
fn podmans_calls_end_within_a_second_without_listener() {
    let instance = Instance::empty();
    for (case, cause) in ["No such file", "Connection refused"].iter().enumerate() {
        if case == 1 {
            drop(UnixListener::bind(instance.socket()).unwrap());
        }
        for verb in ["lookup", "store", "delete", "list"] {
            let start = Instant::now();
            let line = instance.driver(&[verb]).id(id(1)).stdin("x").fails(69);
            let took = start.elapsed();
            // The machine may be busy; a call used to take ten seconds.
            assert!(took < Duration::from_secs(4), "{verb}: {took:?}");
            assert!(took > Duration::from_millis(500), "{verb} waits for a restart: {took:?}");
            assert!(line.contains("no connection to psid at ") && line.contains(cause), "{line}");
            assert!(line.contains("systemctl start psid"), "{line}");
        }
    }
}

/// A socket unit holds the path while psid restarts, however long that takes.
#[test]
fn lookup_waits_longer_for_a_socket_held_by_systemd() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let listener = UnixListener::bind(instance.socket()).unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        let call = scope.spawn(|| (instance.driver(&["list"]).text(), start.elapsed()));
        thread::sleep(Duration::from_secs(3));
        let _psid = instance.psid().activated_by(&listener).start();
        let (list, took) = call.join().unwrap();
        assert_eq!(list, "");
        assert!(took > Duration::from_secs(3), "{took:?}");
    });
}

/// One deadline includes the retries: psid is killed repeatedly behind its socket.
#[test]
fn connect_retries_end_with_the_deadline() {
    let instance = Instance::empty();
    let listener = UnixListener::bind(instance.socket()).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let start = Instant::now();
    instance.driver(&["lookup"]).id(id(1)).fails(69);
    let took = start.elapsed();
    assert!(Duration::from_secs(8) < took && took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn silent_listener_is_69() {
    let instance = Instance::empty();
    impostor(&instance, b"");
    let line = instance.driver(&["health"]).fails(69);
    let socket = instance.socket().display().to_string();
    assert_eq!(
        line,
        format!(
            "psi-driver: health: psid at {socket} did not answer within 3 s; see `systemctl status \
             psid`"
        )
    );
}

/// N17: the Python PSI's driver was curl without a timeout, and podman's lock was held for ever.
#[test]
fn n17_silent_listener_ends_by_the_deadline() {
    let instance = Instance::empty();
    impostor(&instance, b"");
    let line = instance.driver(&["lookup"]).id(id(1)).fails(69);
    assert!(line.contains("did not answer within 10 s; see `systemctl status psid`"), "{line}");
}

#[test]
fn other_protocol_is_reported() {
    let instance = Instance::empty();
    impostor(&instance, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let lookup = instance.driver(&["lookup"]).id(id(1));
    for driver in [instance.driver(&["health"]), instance.driver(&["cache", "status"]), lookup] {
        let line = driver.fails(76);
        assert!(line.contains("does not speak psi's protocol"), "{line}");
        assert!(line.contains("check PSI_SOCKET"), "{line}");
    }
}

#[test]
fn garbage_is_reported() {
    let instance = Instance::empty();
    impostor(&instance, &[0xff; 200]);
    let line = instance.driver(&["health"]).fails(76);
    assert!(line.contains("does not speak psi's protocol"), "{line}");
}

#[test]
fn listener_that_closes_is_69() {
    let instance = Instance::empty();
    let listener = UnixListener::bind(instance.socket()).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let line = instance.driver(&["health"]).fails(69);
    assert!(line.contains("psid at ") && line.contains("; "), "{line}");
}

#[test]
fn file_as_socket_is_69() {
    let instance = Instance::empty();
    std::fs::write(instance.socket(), "").unwrap();
    assert!(instance.driver(&["health"]).fails(69).contains("Connection refused"));
}

#[test]
fn health_succeeds_only_while_psid_runs() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    assert_eq!(instance.driver(&["health"]).text(), "");
    psid.terminate();
    instance.driver(&["health"]).fails(69);
}

#[test]
fn status_without_daemon_is_read_from_the_file_header() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    psid.await_generation_after(0);
    psid.terminate();
    let down = instance.driver(&["cache", "status", "--json"]).run();
    assert_eq!((down.code, down.stderr.as_str()), (69, ""));
    let status: serde_json::Value = serde_json::from_slice(&down.stdout).unwrap();
    assert_eq!(status["daemon"], "down");
    assert!(status["reason"].as_str().unwrap().contains("no connection to psid"), "{status}");
    assert_eq!((&status["backend"], &status["format_version"]), (&json!("tpm"), &json!(2)));
    let size = std::fs::metadata(instance.cache()).unwrap().len();
    assert_eq!(status["size_bytes"], size);
    let down = instance.driver(&["cache", "status"]).run();
    assert_eq!(down.code, 69);
    let text = String::from_utf8(down.stdout).unwrap();
    assert!(text.starts_with("daemon     down: ") && text.contains("(tpm, format 2, "), "{text}");
    let line = instance.driver(&["cache", "status", "--verify"]).fails(69);
    assert!(line.contains("no connection"), "{line}");
}
