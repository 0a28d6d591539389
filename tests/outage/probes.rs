//! The number of requests to a provider that does not answer.

use std::thread;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, eventually, id, reference};

/// A dead kept-alive connection or a lost packet: the lookup succeeds.
#[test]
fn lost_request_is_retried() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    infisical.faults(&json!([
        {"match": {"method": "GET"}, "fault": {"kind": "html-502"}, "times": 1},
    ]));
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    assert_eq!(infisical.reads(), 2);
    assert_eq!(psid.status()["providers"][0]["up"], true);
    let log = psid.terminate();
    assert!(!log.contains("is out"), "it was none: {log}");
}

/// A failure must not cause more requests than success: all lookups in an outage share one request.
#[test]
fn outage_is_probed_rarely_under_many_lookups() {
    let directory: serde_json::Map<_, _> =
        (0..32).map(|number| (format!("K{number}"), json!("v"))).collect();
    let infisical = FakeInfisical::with(&json!({"/myapp": directory}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["get", &reference("/myapp", "K0")]).ok();
    infisical.fault(&json!({"kind": "html-502"}));
    let get = |number: u32| instance.driver(&["get", &reference("/myapp", &format!("K{number}"))]);
    // Simultaneous failures count as one; one more request confirms the outage.
    get(1).fails(75);
    infisical.clear_log();
    thread::scope(|scope| {
        for number in 1..32 {
            let get = get(number);
            scope.spawn(move || {
                let line = get.fails(75);
                assert!(
                    line.contains("infisical is out: a gateway in Infisical's place"),
                    "{line}"
                );
            });
        }
    });
    assert_eq!(infisical.reads(), 0);
    let provider = psid.status()["providers"][0].clone();
    let left =
        provider["next_try_ms"].as_u64().unwrap() - provider["down_since_ms"].as_u64().unwrap();
    assert!(left >= 30_000, "{provider}");
    assert_eq!(provider["failures"]["unreachable"], 2);
    let log = psid.log();
    assert_eq!(
        log.matches("infisical is unreachable, and cached values are served").count(),
        1,
        "{log}"
    );
}

/// A refresh by command does not wait for the next probe.
#[test]
fn refresh_by_command_detects_a_recovered_provider() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    infisical.fault(&json!({"kind": "refuse"}));
    instance.driver(&["get", "myapp--A"]).fails(75);
    let outcome = instance.driver(&["cache", "refresh"]).run();
    assert_eq!(outcome.code, 75, "{}", outcome.stderr);
    infisical.heal();
    instance.driver(&["get", "myapp--A"]).fails(75);
    eventually("the provider to be found", || {
        (instance.driver(&["cache", "refresh"]).run().code == 0).then_some(())
    });
    assert_eq!(psid.status()["providers"][0]["up"], true);
    assert_eq!(instance.driver(&["get", "myapp--A"]).text(), "1");
    psid.await_log("infisical is back after");
}

/// Lookups and commands obey `Please try again in N seconds`.
#[test]
fn retry_after_of_a_provider_is_respected() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    infisical.faults(&json!([{
        "match": {"method": "GET"},
        "fault": {"kind": "status", "code": 429, "error": "RateLimitExceeded",
                  "message": "Rate limit exceeded. Please try again in 600 seconds"},
    }]));
    for _ in 0..5 {
        instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert_eq!(instance.driver(&["cache", "refresh"]).run().code, 75);
    }
    // Listings and single values have separate limits: the lookup tries both, and the refresh the
    // first.
    assert!(infisical.reads() <= 3, "{}", infisical.reads());
    let provider = &psid.status()["providers"][0];
    assert_eq!((&provider["up"], &provider["failures"]["throttled"]), (&json!(true), &json!(2)));
}

/// An outage or a missing source is logged once, not at each attempt.
#[test]
fn lasting_failure_is_logged_once() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let config = Config::of(&infisical).short_lived();
    instance
        .configure(&config.workload("myapp", "/myapp", false).workload("gone", "/nowhere", false));
    let psid = instance.psid().args(&["--log-format", "text"]).start();
    eventually("both to be pulled again and again", || {
        let pulls = psid.status()["pulls"].clone();
        (pulls["succeeded"].as_u64() >= Some(3) && pulls["failed"].as_u64() >= Some(3))
            .then_some(())
    });
    infisical.fault(&json!({"kind": "refuse"}));
    instance.driver(&["get", &reference("/myapp", "B")]).fails(75);
    for _ in 0..5 {
        instance.driver(&["get", &reference("/myapp", "B")]).fails(75);
    }
    let log = psid.terminate();
    for words in ["refreshed in part", "infisical is unreachable"] {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
}

/// psid fetches a newly registered secret by itself, before an outage.
#[test]
fn newly_registered_secret_is_fetched_by_the_schedule() {
    let mut infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).short_lived());
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    eventually("the next round", || (psid.status()["survives_outage"] == true).then_some(()));
    infisical.kill();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
}
