//! An error of one directory, key or identity affects nothing else: other values are served,
//! refreshed, rotated and revoked.

use std::thread;

use serde_json::{Value, json};

use psi_harness::{
    Config, FakeInfisical, Instance, PROJECT, eventually, fault, id, reference,
    seed_with_two_identities,
};

fn two_directories() -> Value {
    json!({"/bad": {"B": "1"}, "/good": {"G": "1", "GONE": "1", "KEPT": "1"}})
}

/// Each with its own fake and psid, in parallel: some of the time is waiting.
#[test]
fn error_of_one_directory_affects_no_other() {
    let faults = [
        (fault::server_error(), "Infisical answers 500"),
        (fault::gateway_page(), "a proxy or firewall?"),
        (fault::odd_200(), "a 200 answer does not match Infisical's API"),
        (json!({"kind": "html-404"}), "a proxy or firewall?"),
        (json!({"kind": "truncate"}), "broke: "),
        (fault::slow(6_000), "in time"),
        (fault::refusal(401, "UnauthorizedError", "no"), "Infisical answers 401"),
    ];
    thread::scope(|scope| {
        for (fault, words) in &faults {
            scope.spawn(move || stops_no_other(fault, words));
        }
    });
}

fn stops_no_other(fault: &Value, words: &str) {
    let infisical = FakeInfisical::with(&two_directories());
    let instance = Instance::of(&infisical);
    let config = Config::of(&infisical).timeout("2s");
    instance.configure(&config.workload("bad", "/bad", false).workload("good", "/good", false));
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    infisical.fault_directory("/bad", fault);
    for round in 2..5 {
        infisical.put("/good", "G", &round.to_string());
        infisical.put("/good", &format!("NEW{round}"), "new");
        let outcome = instance.driver(&["cache", "refresh"]).run();
        assert_eq!(outcome.code, 75, "{fault}: {}", outcome.stderr);
        let lines = outcome.stdout_text();
        let of = |source: &str| lines.lines().find(|line| line.starts_with(source)).unwrap();
        assert!(of("myproject:/bad").contains(words), "{fault}: {lines}");
        assert!(of("myproject:/good").contains("1 added, 1 changed"), "{fault}: {lines}");
        assert!(outcome.stderr.contains("1 of 2 sources failed"), "{}", outcome.stderr);
        assert_eq!(instance.driver(&["get", "good--G"]).text(), round.to_string(), "{fault}");
        assert_eq!(instance.driver(&["get", "bad--B"]).text(), "1", "{fault}: what is cached");
        // A key that no refresh has listed.
        let uncached = format!("UNSEEN{round}");
        infisical.put("/good", &uncached, "unseen");
        let got = instance.driver(&["get", &reference("/good", &uncached)]).text();
        assert_eq!(got, "unseen", "{fault}");
    }
    infisical.remove("/good", "GONE");
    let outcome = instance.driver(&["cache", "refresh"]).run();
    assert!(outcome.stdout_text().contains("1 removed"), "{}", outcome.stdout_text());
    let status = psid.status();
    assert_eq!(status["providers"][0]["up"], true, "{fault}: {status}");
    assert_eq!(status["withheld_count"], 0, "{fault}: the error is no statement about a secret");
    infisical.heal();
    eventually("the directory to be refreshed", || {
        (instance.driver(&["cache", "refresh"]).run().code == 0).then_some(())
    });
}

/// The schedule alone: a failing directory is pulled ever less, the other one as always.
#[test]
fn schedule_continues_for_healthy_directories() {
    let infisical = FakeInfisical::with(&two_directories());
    let instance = Instance::of(&infisical);
    let config = Config::of(&infisical).short_lived();
    instance.configure(&config.workload("bad", "/bad", false).workload("good", "/good", false));
    let psid = instance.start();
    eventually("a first refresh", || (psid.status()["entries"] == 4).then_some(()));
    infisical.fault_directory("/bad", &fault::gateway_page());
    for round in 2..5 {
        infisical.put("/good", "G", &round.to_string());
        eventually("the rotation", || {
            assert_eq!(instance.driver(&["get", "bad--B"]).text(), "1");
            (instance.driver(&["get", "good--G"]).text() == round.to_string()).then_some(())
        });
    }
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

#[test]
fn error_of_one_key_affects_no_other_and_is_retried_rarely() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"BAD": "1", "GOOD": "2"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let rules = json!([
        {"match": {"secretPath": "/myapp", "key": "BAD"}, "fault": fault::server_error()},
        {"match": {"secretPath": "/myapp", "route": "list"}, "fault": fault::server_error()},
    ]);
    infisical.faults(&rules);
    infisical.clear_log();
    for _ in 0..10 {
        instance.driver(&["get", &reference("/myapp", "BAD")]).run();
    }
    assert!(infisical.reads() <= 6, "{} reads", infisical.reads());
    assert_eq!(instance.driver(&["get", &reference("/myapp", "GOOD")]).text(), "2");
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

#[test]
fn rate_limit_of_one_identity_does_not_affect_another() {
    let infisical =
        FakeInfisical::launch(&seed_with_two_identities(&json!({"/myapp": {"A": "1"}})), &[]);
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical).workload("myapp", "/myapp", false);
    config.rest += &format!(
        "[providers.infisical.projects.second]\nid = \"{PROJECT}\"\nenvironment = \"prod\"\n\
         [providers.infisical.projects.second.auth]\nmethod = \"universal-auth\"\n\
         client_id = \"other-client\"\nclient_secret_credential = \"infisical-client-secret\"\n"
    );
    instance.configure(&config);
    let psid = instance.start();
    infisical.fault_identity("other", &fault::too_many(600));
    let other =
        json!({"provider": "infisical", "project": "second", "path": "/nowhere", "key": "A"});
    for _ in 0..5 {
        let line = instance.driver(&["get", &other.to_string()]).fails(75);
        assert!(line.contains("429"), "{line}");
    }
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["get", "myapp--A"]).text(), "1");
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

/// A6: a refresh by command makes a request, also right after a failure and after a restart in the
/// outage; skipped sources are not reported as failed.
#[test]
fn refresh_in_an_outage_makes_one_attempt_and_reports_skipped_sources() {
    let infisical = FakeInfisical::with(&two_directories());
    let instance = Instance::of(&infisical);
    instance.configure(
        &Config::of(&infisical).workload("bad", "/bad", false).workload("good", "/good", false),
    );
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    infisical.fault(&json!({"kind": "html-502"}));
    infisical.clear_log();
    let mut lines = String::new();
    for asked in 1..=4 {
        let outcome = instance.driver(&["cache", "refresh"]).run();
        assert_eq!(outcome.code, 75);
        assert!(infisical.reads() >= asked, "refresh {asked} made no request");
        lines = outcome.stdout_text();
    }
    assert!(lines.contains("myproject:/bad: failed: a gateway in Infisical's place"), "{lines}");
    assert!(lines.contains("myproject:/good: failed: not asked: infisical is out"), "{lines}");
    psid.terminate();
    let _psid = instance.start();
    infisical.clear_log();
    for asked in 1..=3 {
        instance.driver(&["cache", "refresh"]).run();
        assert!(infisical.logins() >= asked, "refresh {asked} after a restart made no request");
    }
    infisical.heal();
    instance.driver(&["cache", "refresh"]).ok();
}

/// B5: a source that fails permanently does not keep deleted values.
#[test]
fn deleted_values_are_removed_despite_a_failing_source() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("gone", "/nowhere", false));
    let psid = instance.start();
    for (number, key) in [(1, "A"), (2, "B")] {
        instance.driver(&["store"]).id(id(number)).stdin(reference("/myapp", key)).ok();
        instance.driver(&["lookup"]).id(id(number)).ok();
    }
    assert_eq!(psid.status()["entries"], 2);
    instance.driver(&["delete"]).id(id(1)).ok();
    assert_eq!(instance.driver(&["cache", "refresh"]).run().code, 75);
    assert_eq!(psid.status()["entries"], 1);
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "2");
}
