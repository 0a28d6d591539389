//! `psictl secrets`: what it shows, what it filters, and that it shows no value.

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, Psid, id, reference};

const LITERAL: &str = "a literal of a canary";

/// Two references of a workload, one of which was looked up, and a literal.
fn with_three_secrets() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "canary", "B": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    for (number, data) in
        [(1, reference("/myapp", "A")), (2, reference("/myapp", "B")), (3, LITERAL.into())]
    {
        instance.driver(&["store"]).id(id(number)).stdin(data).ok();
    }
    instance.driver(&["cache", "refresh"]).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    (infisical, instance, psid)
}

fn ids(all: &Value) -> Vec<&str> {
    all.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[test]
fn each_secret_has_its_kind_workload_source_owner_times_and_last_use() {
    let (infisical, instance, psid) = with_three_secrets();
    let all = instance.driver(&["secrets", "--json"]).json();
    assert_eq!(ids(&all), [id(1), id(2), id(3)]);
    let [a, b, literal] = [&all[0], &all[1], &all[2]];
    assert_eq!((&a["kind"], &a["workloads"]), (&json!("reference"), &json!(["myapp"])));
    assert_eq!(a["source"], "infisical key=A path=/myapp project=myproject");
    assert_eq!(a["owner"], json!({"uid": 0, "name": "root"}));
    assert_eq!(a["last_use"]["user"], json!({"uid": 0, "name": "root"}));
    assert!(a["last_use"]["at_ms"].as_u64() >= a["changed_at_ms"].as_u64());
    assert!(b["last_use"].is_null() && b["fetched_at_ms"].is_u64());
    assert_eq!((&literal["kind"], &literal["workloads"]), (&json!("literal"), &json!([])));
    assert!(literal["source"].is_null() && literal["changed_at_ms"].is_u64());
    // A refresh is no change; a new value is.
    instance.driver(&["cache", "refresh"]).ok();
    infisical.put("/myapp", "B", "3");
    instance.driver(&["cache", "refresh"]).ok();
    let later = instance.driver(&["secrets", "--json"]).json();
    assert_eq!(later[0]["changed_at_ms"], a["changed_at_ms"]);
    assert!(later[0]["fetched_at_ms"].as_u64() > a["fetched_at_ms"].as_u64());
    assert!(later[1]["changed_at_ms"].as_u64() > b["changed_at_ms"].as_u64());
    // The time of the change is kept over a restart; the last use is not.
    psid.terminate();
    let _psid = instance.start();
    let restarted = instance.driver(&["secrets", "--json"]).json();
    assert_eq!(restarted[0]["changed_at_ms"], a["changed_at_ms"]);
    assert_eq!(restarted[1]["changed_at_ms"], later[1]["changed_at_ms"]);
    assert!(restarted[0]["last_use"].is_null());
    let text = instance.driver(&["secrets"]).text();
    for text in [text, all.to_string(), later.to_string()] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn filters_and_orders_select_secrets() {
    let (_infisical, instance, _psid) = with_three_secrets();
    let shown = |args: &[&str]| {
        let all = instance.driver(&[&["secrets", "--json"], args].concat()).json();
        ids(&all).into_iter().map(|id| id[24..].to_owned()).collect::<String>()
    };
    assert_eq!(shown(&["--workload", "myapp"]), "12");
    assert_eq!(shown(&["--kind", "literal"]), "3");
    assert_eq!(shown(&["--unused"]), "23");
    assert_eq!(shown(&["--owner", "root"]), "123");
    assert_eq!(shown(&["--owner", "12345"]), "");
    assert_eq!(shown(&["--sort", "used"]), "123");
    assert_eq!(shown(&[&id(3), &id(1)]), "13");
    let line = instance.driver(&["secrets", "no-such-secret"]).fails(66);
    assert!(line.ends_with("no-such-secret; see `psictl secrets`"), "{line}");
    instance.driver(&["secrets", "--owner", "no such user"]).fails(2);
    let none = instance.driver(&["secrets", "--owner", "12345"]).text();
    assert_eq!(none, "no secret is registered, or none that matches\n");
}
