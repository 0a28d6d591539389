//! Running containers: podman resolves a variable's secret again at each exec and health check, and
//! a failed lookup can kill a healthy container.

use std::os::unix::net::UnixListener;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, LIMIT, eventually, is_readable, reference};
use psi_harness::{IMAGE, Podman};

const VALUE: &str = "db.example";
/// Succeeds if the variable has the right value.
const CHECK: &str = "test \"$HOST\" = db.example";

/// A sleeping container with a secret in its variable HOST.
#[track_caller]
fn start_sleeper(podman: &Podman) {
    podman.create("host", reference("/myapp", "DB_HOST"));
    let secret = "--secret=host,type=env,target=HOST";
    let check = format!("--health-cmd={CHECK}");
    // The test runs the checks itself: a timer would need systemd.
    let args = ["run", "-d", "--name=app", secret, &check, "--health-interval=disable", IMAGE];
    podman.ok(&[&args[..], &["sleep", "1000"]].concat());
}

#[track_caller]
fn exec(podman: &Podman) {
    podman.ok(&["exec", "app", "sh", "-c", CHECK]);
}

#[track_caller]
fn check_health(podman: &Podman) {
    podman.ok(&["healthcheck", "run", "app"]);
}

fn instance() -> (FakeInfisical, Instance) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"DB_HOST": VALUE}}));
    let instance = Instance::of(&infisical);
    (infisical, instance)
}

#[test]
fn exec_and_healthcheck_are_served_from_ram() {
    let (mut infisical, instance) = instance();
    let psid = instance.start();
    let podman = Podman::of(&instance);
    start_sleeper(&podman);
    infisical.clear_log();
    let hits = || psid.status()["hits"].as_u64().unwrap();
    let before = hits();
    exec(&podman);
    assert_eq!(hits(), before + 1, "podman resolves the secret again");
    check_health(&podman);
    assert_eq!(hits(), before + 2, "podman resolves the secret again");
    assert_eq!(infisical.log().len(), 0);
    infisical.kill();
    exec(&podman);
    check_health(&podman);
    // The check can fail: it depends on the variable.
    podman.fails(&["exec", "-e", "HOST=another", "app", "sh", "-c", "test \"$HOST\" = x"], b"");
}

/// Systemd's timers, which run health checks, set only PATH; the test adds what podman needs to
/// find the test's store, and the socket's path.
#[test]
fn nearly_empty_environment_suffices() {
    let (_infisical, instance) = instance();
    let _psid = instance.start();
    let podman = Podman::of(&instance);
    start_sleeper(&podman);
    let id = podman.ok(&["secret", "inspect", "--format", "{{.ID}}", "host"]);
    let bare = instance.driver(&["lookup"]).without("PSI_CONFIG").without("PSI_STATE_DIR");
    assert_eq!(bare.id(id).text(), VALUE);
    for args in [&["healthcheck", "run", "app"][..], &["exec", "app", "sh", "-c", CHECK]] {
        let mut command = podman.command(args);
        command.env_remove("HOME").env_remove("PSI_CONFIG");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// An upgrade restarts psid while systemd holds the socket, as the test does.
#[test]
fn exec_waits_for_a_psid_that_restarts_behind_its_socket() {
    let (_infisical, instance) = instance();
    let listener = UnixListener::bind(instance.socket()).unwrap();
    let mut psid = instance.psid().activated_by(&listener).start();
    let podman = Podman::of(&instance);
    start_sleeper(&podman);
    for call in [exec as fn(&Podman), check_health] {
        psid.terminate();
        psid = std::thread::scope(|scope| {
            let call = scope.spawn(|| call(&podman));
            await_caller(&listener);
            let again = instance.psid().activated_by(&listener).start();
            call.join().unwrap();
            again
        });
    }
}

/// Without systemd's socket the driver waits too, for a second.
#[test]
fn exec_waits_for_a_psid_that_restarts_with_its_socket() {
    let (_infisical, instance) = instance();
    let psid = instance.start();
    let podman = Podman::of(&instance);
    start_sleeper(&podman);
    psid.terminate();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| exec(&podman));
        // Podman runs psi-driver while it holds its lock.
        eventually("podman to run the driver", || driver_of(&instance));
        let _psid = instance.start();
        call.join().unwrap();
    });
}

#[test]
fn containers_start_in_parallel() {
    let (infisical, instance) = instance();
    let _psid = instance.start();
    let podman = Podman::of(&instance);
    for number in 0..8 {
        podman.create(&format!("host{number}"), reference("/myapp", "DB_HOST"));
    }
    std::thread::scope(|scope| {
        for number in 0..8 {
            let podman = &podman;
            scope.spawn(move || {
                let secret = format!("--secret=host{number},type=env,target=HOST");
                podman.ok(&["run", "--rm", &secret, IMAGE, "sh", "-c", CHECK]);
            });
        }
    });
    assert_eq!(infisical.reads(), 1, "one fetch serves all who want the same value");
}

/// Waits until a connection is queued that nothing has accepted.
#[track_caller]
fn await_caller(listener: &UnixListener) {
    assert!(is_readable(listener, LIMIT), "podman did not call the driver");
}

/// The pid of a psi-driver that uses the socket of `instance`.
fn driver_of(instance: &Instance) -> Option<u32> {
    let socket = format!("PSI_SOCKET={}", instance.socket().display());
    std::fs::read_dir("/proc").unwrap().find_map(|process| {
        let directory = process.ok()?.path();
        let name = std::fs::read_to_string(directory.join("comm")).ok()?;
        let environment = std::fs::read(directory.join("environ")).ok()?;
        let has_socket =
            environment.split(|byte| *byte == 0).any(|entry| entry == socket.as_bytes());
        let pid = directory.file_name()?.to_str()?.parse().ok()?;
        (name.trim() == "psi-driver" && has_socket).then_some(pid)
    })
}
