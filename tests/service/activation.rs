//! Socket activation: the manager holds the socket, so a restart of psid is a short wait.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, Psid, id, reference};

fn activated() -> (FakeInfisical, Instance, UnixListener) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let listener = UnixListener::bind(instance.socket()).unwrap();
    (infisical, instance, listener)
}

#[test]
fn activated_socket_is_served_and_outlives_psid() {
    let (_infisical, instance, listener) = activated();
    for _ in 0..2 {
        let psid = instance.psid().activated_by(&listener).start();
        instance.driver(&["health"]).ok();
        psid.terminate();
        assert!(instance.socket().exists());
    }
}

/// Calls that arrive before the start wait in the socket's queue, and are answered.
#[test]
fn call_before_the_start_is_answered_after_it() {
    let (_infisical, instance, listener) = activated();
    thread::scope(|scope| {
        let early = instance.driver(&["list"]);
        let early = scope.spawn(move || early.text());
        // Serving begins only when the connection is in the queue.
        psi_harness::eventually("the call to be queued", || {
            psi_harness::is_readable(&listener, Duration::ZERO).then_some(())
        });
        let _psid = instance.psid().activated_by(&listener).start();
        assert_eq!(early.join().unwrap(), "");
    });
}

/// The Python PSI's remedy was a restart with a gap of 30 s (PR #35). Behind its socket, psid may
/// be stopped or killed during 16 lookups, and none of them fails.
fn restarts_that_nobody_notices(stop: fn(Psid)) {
    let (_infisical, instance, listener) = activated();
    let mut psid = instance.psid().activated_by(&listener).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.await_generation_after(0);
    let (done, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    let _last = thread::scope(|scope| {
        let drivers: Vec<_> = (0..16)
            .map(|number| {
                let (instance, done, answered) = (&instance, &done, &answered);
                scope.spawn(move || {
                    let (name, value) =
                        if number % 2 == 0 { (id(1), "1") } else { (id(2), "a literal") };
                    while !done.load(Ordering::Relaxed) {
                        let outcome = instance.driver(&["lookup"]).id(&name).run();
                        if outcome.stdout != value.as_bytes() || outcome.code != 0 {
                            done.store(true, Ordering::Relaxed);
                            panic!("{}: {}", outcome.code, outcome.stderr);
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..12 {
            let before = answered.load(Ordering::Relaxed);
            psi_harness::eventually("some lookups between two restarts", || {
                let enough = answered.load(Ordering::Relaxed) >= before + 16;
                (enough || done.load(Ordering::Relaxed)).then_some(())
            });
            stop(psid);
            psid = instance.psid().activated_by(&listener).start();
        }
        done.store(true, Ordering::Relaxed);
        // The last psid is needed until the last lookup is answered.
        for driver in drivers {
            driver.join().unwrap();
        }
        psid
    });
}

#[test]
fn stop_behind_an_activated_socket_fails_no_lookup() {
    restarts_that_nobody_notices(|psid| drop(psid.terminate()));
}

#[test]
fn kill_behind_an_activated_socket_fails_no_lookup() {
    restarts_that_nobody_notices(Psid::crash);
}

#[test]
fn descriptor_other_than_a_unix_socket_is_refused() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = instance.psid().activated_by(&tcp).fails(74);
    assert!(line.contains("a descriptor that is not usable: it is not a unix socket"), "{line}");
}

#[test]
fn sockets_are_taken_by_their_names() {
    let (_infisical, instance, admin) = activated();
    let users = UnixListener::bind(instance.users_socket()).unwrap();
    let psid = instance.psid().activated_by_both([&admin, &users], "admin:users").start();
    instance.driver(&["health"]).ok();
    instance.driver(&["health"]).env("PSI_SOCKET", instance.users_socket()).ok();
    psid.terminate();
    // In any order; a psid.socket without a name of its own is the admin's.
    let psid = instance.psid().activated_by_both([&users, &admin], "users:psid.socket").start();
    instance.driver(&["health"]).ok();
    psid.terminate();
    for (names, why) in [
        ("admin:other", "it is named other, which psid does not know"),
        ("admin:admin", "there are two named admin"),
    ] {
        let mut psid = instance.psid().activated_by_both([&admin, &users], names).launch();
        assert_eq!(psid.wait(), 74);
        assert!(psid.log().contains(why), "{}", psid.log());
    }
}
