//! `psictl metrics`, without a listener.

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, id, one_line, reference};

#[test]
fn metrics_agree_with_status() {
    let mut infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    for (number, key) in [(1, "A"), (2, "B")] {
        instance.driver(&["store"]).id(id(number)).stdin(reference("/myapp", key)).ok();
    }
    instance.driver(&["lookup"]).id(id(1)).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    instance.driver(&["lookup"]).id(id(2)).fails(66);
    instance.driver(&["cache", "refresh"]).ok();
    infisical.kill();
    instance.driver(&["get", &reference("/other", "C")]).fails(75);
    let text = instance.driver(&["metrics"]).text();
    for line in [
        "psi_up 1",
        "psi_lookups_total{from=\"ram\"} 1",
        "psi_lookups_total{from=\"provider\"} 1",
        "psi_lookups_total{from=\"stale\"} 0",
        "psi_lookups_total{from=\"nothing\"} 2",
        "psi_cache_entries 1",
        "psi_cache_write_errors_total 0",
        "psi_source_refreshes_total{outcome=\"succeeded\"} 1",
        "psi_would_fail_secrets{when=\"now\"} 1",
        "psi_would_fail_secrets{when=\"after_reboot\"} 1",
        "psi_unknown_secrets{when=\"now\"} 0",
        "psi_survives_outage{when=\"after_reboot\"} 0",
        "psi_task_crashes_total{task=\"persist\"} 0",
        "psi_task_stalled{task=\"refresh\"} 0",
        "psi_provider_up{provider=\"infisical\"} 0",
        "psi_provider_requests_total{provider=\"infisical\",outcome=\"succeeded\"} 2",
        "psi_provider_requests_total{provider=\"infisical\",outcome=\"not_found\"} 1",
        "psi_provider_requests_total{provider=\"infisical\",outcome=\"unreachable\"} 2",
        "psi_drill 0",
        "psi_refused_calls_total 0",
        "psi_trail_left_out_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    psid.terminate();
    let down = instance.driver(&["metrics"]).run();
    assert_eq!(down.code, 69);
    assert!(String::from_utf8(down.stdout).unwrap().ends_with("\npsi_up 0\n"));
    one_line(&down.stderr);
}

/// Logged once per change, with the ids that an admin needs.
#[test]
fn self_test_is_logged_once_per_change() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "B")).ok();
    for _ in 0..3 {
        instance.driver(&["cache", "refresh"]).ok();
    }
    psid.await_log("self-test: with no provider in reach, of the 2 registered secrets 1 would not");
    infisical.put("/myapp", "B", "2");
    instance.driver(&["cache", "refresh"]).ok();
    psid.await_log("each of the 2 registered secrets would resolve, now and after a reboot");
    let log = psid.terminate();
    assert_eq!(log.matches("self-test: ").count(), 2, "{log}");
    assert!(log.contains(&format!("would not resolve now ({})", id(2))), "{log}");
}
