//! sd_notify(3): the notifications of psid, and when it sends them.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Signal};

fn status_line(message: &[String]) -> &str {
    message.iter().find_map(|line| line.strip_prefix("STATUS=")).unwrap_or_default()
}

#[test]
fn ready_is_notified_with_a_status_once_calls_are_answered() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let mut psid = instance.psid().launch();
    let ready = psid.await_notification("READY=1");
    // Calls are answered from this moment on: `health` does not retry.
    instance.driver(&["health"]).ok();
    assert_eq!(status_line(&ready), "serving 0 secrets, 0 values cached");
}

#[test]
fn degraded_psid_is_ready_and_reports_the_reason() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    instance.take_key();
    let mut psid = instance.psid().launch();
    let ready = psid.await_notification("READY=1");
    let status = status_line(&ready);
    assert!(status.starts_with("serving 0 secrets, DEGRADED: there is no key"), "{status}");
}

#[test]
fn stopping_is_notified() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let mut psid = instance.start();
    psid.process.signal(Signal::SIGTERM);
    let stopping = psid.await_notification("STOPPING=1");
    assert!(status_line(&stopping).contains("stopping"), "{stopping:?}");
    assert_eq!(psid.process.wait().code(), Some(0));
}

/// `Type=notify-reload`: RELOADING=1 with a timestamp, then READY=1.
#[test]
fn reload_is_notified_with_its_time() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let mut psid = instance.start();
    let clock = || {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        u64::try_from(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000).unwrap()
    };
    let before = clock();
    psid.process.signal(Signal::SIGHUP);
    let reloading = psid.await_notification("RELOADING=1");
    let since = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let since: u64 = since.unwrap_or_else(|| panic!("{reloading:?}")).parse().unwrap();
    assert!(before <= since && since <= clock(), "{before} {since}");
    psid.await_notification("READY=1");
}

#[test]
fn watchdog_is_notified() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).timeout("120s"));
    let mut psid = instance.psid().env("WATCHDOG_USEC", "200000").start();
    // A hanging provider does not stop the notifications.
    infisical.fault(&json!({"kind": "hang"}));
    let mut get = instance.driver(&["get", &psi_harness::reference("/myapp", "A")]).command();
    get.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let _hanging = psi_harness::Process::start(get);
    infisical.await_count("POST", "/api/v1/auth", 1);
    for _ in 0..3 {
        psid.await_notification("WATCHDOG=1");
    }
}

/// psid notifies at half of WATCHDOG_USEC, as sd_watchdog_enabled(3) recommends.
#[test]
fn watchdog_is_notified_at_half_its_interval() {
    const ROUNDS: u32 = 8;
    let interval = Duration::from_millis(400);
    let instance = Instance::of(&FakeInfisical::with(&json!({})));
    let mut psid = instance.psid().env("WATCHDOG_USEC", "400000").start();
    psid.await_notification("WATCHDOG=1");
    let start = Instant::now();
    for _ in 0..ROUNDS {
        psid.await_notification("WATCHDOG=1");
    }
    let each = start.elapsed() / ROUNDS;
    assert!(each > interval / 3 && each < interval, "{each:?}");
}

/// WATCHDOG_PID names the process for which the watchdog is.
#[test]
fn watchdog_of_another_process_is_ignored() {
    let instance = Instance::of(&FakeInfisical::with(&json!({})));
    let psid = instance.psid().env("WATCHDOG_USEC", "20000").env("WATCHDOG_PID", "1");
    let mut psid = psid.start();
    assert!(!psid.notifies_within("WATCHDOG=1", Duration::from_millis(500)));
}

#[test]
fn psid_runs_without_a_service_manager() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.psid().without("NOTIFY_SOCKET").launch();
    psi_harness::eventually("psid to answer", || {
        (instance.driver(&["health"]).run().code == 0).then_some(())
    });
    psid.terminate();
}
