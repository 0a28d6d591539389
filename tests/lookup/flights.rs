//! The number of requests to a provider is minimal.

use std::thread;
use std::time::Duration;

use serde_json::json;

use psi_harness::{Clock, FakeInfisical, Instance, id, reference};

#[test]
fn concurrent_lookups_of_one_secret_share_one_fetch() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "the value"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    // With different ids: podman makes a new one at each re-creation.
    for number in 0..32 {
        instance.driver(&["store"]).id(id(number)).stdin(reference("/myapp", "A")).ok();
    }
    infisical.fault(&json!({"kind": "delay", "ms": 1000}));
    thread::scope(|scope| {
        for number in 0..32 {
            let lookup = instance.driver(&["lookup"]).id(id(number));
            scope.spawn(move || assert_eq!(lookup.text(), "the value"));
        }
    });
    assert_eq!((infisical.reads(), infisical.logins()), (1, 1));
    let status = psid.status();
    let answered = status["hits"].as_u64().unwrap() + status["misses"].as_u64().unwrap();
    assert_eq!((answered, status["entries"].as_u64()), (32, Some(1)));
}

#[test]
fn different_secrets_of_a_directory_share_one_listing_and_one_login() {
    let keys: Vec<_> = (0..12).map(|number| format!("KEY_{number}")).collect();
    let directory: serde_json::Map<_, _> =
        keys.iter().map(|key| (key.clone(), json!(format!("value of {key}")))).collect();
    let infisical = FakeInfisical::with(&json!({"/myapp": directory}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    infisical.fault(&json!({"kind": "delay", "ms": 300}));
    thread::scope(|scope| {
        for key in &keys {
            let get = instance.driver(&["get", &reference("/myapp", key)]);
            scope.spawn(move || assert_eq!(get.text(), format!("value of {key}")));
        }
    });
    assert_eq!((infisical.reads(), infisical.logins()), (1, 1));
}

#[test]
fn cached_lookup_makes_no_request() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    infisical.clear_log();
    for _ in 0..20 {
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    }
    assert!(infisical.log().is_empty());
    assert_eq!(psid.status()["hits"], 20);
}

/// Health checks that look up a missing secret must not load the provider.
#[test]
fn absence_is_cached_for_5_s_doubling_each_time() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {}}));
    let instance = Instance::of(&infisical);
    let clock = Clock::of(&instance);
    let _psid = clock.on(instance.psid()).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "NONE")).ok();
    let reads_after = |seconds: u64| {
        clock.advance(Duration::from_secs(seconds));
        for _ in 0..5 {
            let line = instance.driver(&["lookup"]).id(id(1)).fails(66);
            assert!(line.contains("infisical has no such secret"), "{line}");
        }
        infisical.reads()
    };
    assert_eq!(reads_after(0), 1);
    assert_eq!(reads_after(3), 1, "within 5 s");
    assert_eq!(reads_after(3), 2);
    assert_eq!(reads_after(8), 2, "within 10 s");
    assert_eq!(reads_after(3), 3);
    assert_eq!(reads_after(15), 3, "within 20 s");
    infisical.put("/myapp", "NONE", "there");
    clock.advance(Duration::from_secs(6));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "there");
}

/// The Python PSI logged each health check's lookup and flooded the journal (PR #31).
#[test]
fn hits_are_counted_and_not_logged() {
    let lines_of_log = |lookups: u64| {
        let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
        let instance = Instance::of(&infisical);
        let psid = instance.psid().args(&["--log-format", "text"]).start();
        instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
        for _ in 0..=lookups {
            instance.driver(&["lookup"]).id(id(1)).ok();
        }
        assert_eq!(psid.status()["hits"], lookups);
        psid.terminate().lines().count()
    };
    assert_eq!(lines_of_log(20), lines_of_log(0));
}

/// A fetch that began before an invalidation may not publish the old value.
#[test]
fn invalidation_discards_a_fetch_in_flight() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "old"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    // The answer has the state of the request time and is sent later.
    infisical.faults(
        &json!([{"match": {"method": "GET"}, "fault": {"kind": "delay", "ms": 1000}, "times": 1}]),
    );
    thread::scope(|scope| {
        let lookup = instance.driver(&["lookup"]).id(id(1));
        let early = scope.spawn(move || lookup.text());
        infisical.await_count("GET", "/api/v4/secrets", 1);
        infisical.put("/myapp", "A", "new");
        instance.driver(&["cache", "invalidate", &id(1)]).ok();
        assert_eq!(early.join().unwrap(), "old");
    });
    assert_eq!(psid.status()["entries"], 0);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "new");
}
