//! A config with which psid cannot start: the unit fails and names the line, and so does each caller's answer.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, id, reference};

/// An instance whose config is broken in line 2, and the text that is good.
fn broken(infisical: &FakeInfisical) -> (Instance, String) {
    let instance = Instance::of(infisical);
    let good = Config::of(infisical).to_string();
    fs::write(instance.config(), good.replace("backend = ", "backend_ = ")).unwrap();
    (instance, good)
}

#[test]
fn unit_fails_and_its_status_names_the_line() {
    let infisical = FakeInfisical::with(&json!({}));
    let (instance, _) = broken(&infisical);
    let mut psid = instance.psid().launch();
    let path = instance.config().display().to_string();
    let text = format!("{path}:2: unknown field `backend_`");
    let status = psid.await_status(&text);
    assert!(status.contains("`psid check`"), "{status}");
    assert_eq!(psid.wait(), 65);
    assert!(psid.log().contains(&format!("psid: {text}")), "{}", psid.log());
}

#[test]
fn callers_of_the_socket_get_the_line_and_psid_ends() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let (instance, good) = broken(&infisical);
    let socket = UnixListener::bind(instance.socket()).unwrap();
    // The call waits in the backlog, as it does behind systemd's socket.
    let call = instance.driver(&["lookup"]).id(id(1));
    let line = std::thread::scope(|scope| {
        let line = scope.spawn(|| call.fails(65));
        let mut psid = instance.psid().activated_by(&socket).launch();
        assert_eq!(psid.wait(), 65);
        line.join().unwrap()
    });
    let words = format!("psid cannot start with its config: {}:2: ", instance.config().display());
    assert!(line.contains(&words) && line.contains("`psid check`"), "{line}");
    // Corrected, the next start serves.
    fs::write(instance.config(), good).unwrap();
    let _psid = instance.psid().activated_by(&socket).start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
}

/// However many callers there are: a process that never fails is never shown as failed.
#[test]
fn callers_do_not_keep_a_broken_start_alive() {
    let infisical = FakeInfisical::with(&json!({}));
    let (instance, _) = broken(&infisical);
    let socket = UnixListener::bind(instance.socket()).unwrap();
    let mut psid = instance.psid().activated_by(&socket).launch();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            while start.elapsed() < Duration::from_secs(12) {
                instance.driver(&["health"]).run();
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        assert_eq!(psid.wait(), 65);
        assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
        // A caller that comes now waits for the next start: the socket goes with the test.
        drop(socket);
        let _ = fs::remove_file(instance.socket());
        caller.join().unwrap();
    });
}
