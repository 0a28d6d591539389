//! Every failure of the provider, or of something in its place, is an outage and no statement about
//! a secret.

use std::thread;

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, eventually, id, reference};

/// A fault of the fake, and psid's message about it.
type Fault = (Value, &'static str);

fn kind(kind: &str) -> Value {
    json!({"kind": kind})
}

fn status(code: u16, error: &str, message: &str) -> Value {
    json!({"kind": "status", "code": code, "error": error, "message": message})
}

/// N12: the Python PSI recognised only a refused connection as an outage; a timeout ended its setup
/// at once.
#[test]
fn n12_connection_failures_are_an_outage() {
    check_all(&[
        (kind("refuse"), "Connection refused"),
        (kind("hang"), "in time"),
        (kind("reset"), "broke: "),
        (kind("reset-mid-body"), "broke: "),
        (kind("truncate"), "broke: "),
        (json!({"kind": "slow-drip", "bytesPerSecond": 1}), "in time"),
        (
            json!({"kind": "redirect", "location": "http://127.0.0.1:1/", "code": 302}),
            "redirects to another origin",
        ),
    ]);
}

/// N12: 500 and 504 were final for the Python PSI.
#[test]
fn n12_server_failures_are_an_outage() {
    check_all(&[
        (status(500, "InternalServerError", "Something went wrong"), "Infisical answers 500"),
        (
            status(504, "GatewayTimeoutError", "upstream"),
            "Infisical answers 504 GatewayTimeoutError",
        ),
        (kind("database-error"), "Infisical answers 500 DatabaseError"),
        (kind("garbage-json"), "a 200 answer does not match Infisical's API"),
        (kind("gzip"), "a 200 answer does not match Infisical's API"),
    ]);
}

/// N12: the Python PSI accepted any 404, and crashed at a proxy's 502 to a login (PR #23).
#[test]
fn n12_answers_of_a_proxy_are_an_outage() {
    check_all(&[
        (kind("html-502"), "a gateway in Infisical's place answers 502"),
        (kind("html-503"), "a gateway in Infisical's place answers 503"),
        (kind("html-404"), "something in Infisical's place answers 404: a proxy or firewall?"),
        (kind("html-403-waf"), "something in Infisical's place answers 403: a proxy or firewall?"),
        (kind("captive-portal"), "a captive portal?"),
    ]);
}

/// Each with its own fake and psid, in parallel: most of the time is waiting.
fn check_all(faults: &[Fault]) {
    thread::scope(|scope| {
        for (fault, words) in faults {
            let name = format!("fault {}", fault["kind"]);
            let check = move || check(fault, words);
            thread::Builder::new().name(name).spawn_scoped(scope, check).unwrap();
        }
    });
}

/// A stale value is served, an unknown one fails with the cause, a restart changes nothing, and
/// psid uses the provider again once it is back.
fn check(fault: &Value, words: &str) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"KNOWN": "1", "UNKNOWN": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).short_lived().timeout("3s"));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "KNOWN")).ok();
    let known = || instance.driver(&["lookup"]).id(id(1)).text();
    assert_eq!(known(), "1");
    infisical.fault(fault);
    // Until the entry is stale, neither a lookup nor a refresh makes a request.
    let outage = eventually("the fault to be met", || {
        assert_eq!(known(), "1", "{fault}");
        let provider = psid.status()["providers"][0].clone();
        (provider["up"] == false).then_some(provider)
    });
    for _ in 0..3 {
        assert_eq!(known(), "1", "{fault}");
    }
    assert_eq!(outage["up"], false, "{fault}");
    assert!(outage["reason"].as_str().unwrap().contains(words), "{fault}: {outage}");
    let line = instance.driver(&["get", &reference("/myapp", "UNKNOWN")]).fails(75);
    // The message names the host or this request, which psid repeats from time to time.
    let causes =
        ["infisical is out: ", "infisical does not answer: ", "infisical fails to answer "];
    assert!(causes.iter().any(|cause| line.contains(cause)), "{fault}: {line}");
    assert!(line.contains(words), "{fault}: {line}");
    assert!(line.contains("the value is not cached; try again "), "{line}");
    psid.terminate();
    let _psid = instance.start();
    assert_eq!(known(), "1", "{fault}: after a restart");
    infisical.heal();
    // psid itself tries again within two minutes; an admin's refresh need not wait, except where
    // the provider asked for it.
    eventually("psid to find the provider again", || {
        (instance.driver(&["cache", "refresh"]).run().code == 0).then_some(())
    });
    assert_eq!(instance.driver(&["get", &reference("/myapp", "UNKNOWN")]).text(), "2", "{fault}");
}

/// A lockout is no revocation: the identity may be valid.
#[test]
fn locked_identity_is_an_outage_and_is_not_retried() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    infisical.faults(&json!([{
        "match": {"method": "POST"},
        "fault": {"kind": "status", "code": 401, "error": "UnauthorizedError",
                  "message": "This identity auth method is temporarily locked, please try again later"},
    }]));
    for _ in 0..5 {
        let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains("temporarily locked"), "{line}");
    }
    assert_eq!(infisical.logins(), 1);
}

/// In maintenance, reads work and logins do not. An identity with a token is served.
#[test]
fn login_during_maintenance_is_reported_and_affects_no_other_identity() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    infisical.fault(&json!({"kind": "maintenance"}));
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
    assert!(line.contains("psid cannot log in to infisical"), "{line}");
    assert!(line.contains("failed: Infisical answers 500"), "{line}");
    infisical.heal();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
}

/// A listing of several MiB is accepted.
#[test]
fn huge_listing_is_accepted() {
    let infisical = FakeInfisical::with(&json!({"/": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/", false));
    let psid = instance.start();
    infisical.fault(&json!({"kind": "huge-list", "entries": 5000}));
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(psid.status()["entries"], 5001);
    assert_eq!(
        instance.driver(&["get", "myapp--GENERATED_4999"]).text(),
        "generated value number 4999"
    );
}
