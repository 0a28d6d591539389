//! The requests of a refresh, and the changes that it may make at once.

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, Psid, id, reference};

fn workload(secrets: &Value, options: &[&str]) -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with_options(secrets, options);
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    (infisical, instance, psid)
}

fn refresh(instance: &Instance, more: &[&str]) -> String {
    instance.driver(&[&["cache", "refresh"], more].concat()).text()
}

/// A refresh that withholds a change is no success.
fn withheld(instance: &Instance) -> String {
    let outcome = instance.driver(&["cache", "refresh"]).run();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--accept-removals"), "{}", outcome.stderr);
    String::from_utf8(outcome.stdout).unwrap()
}

/// The real server answers 304 before it checks a permission, and may keep an old value's tag. A
/// 304 proves nothing, so psid makes no conditional request.
#[test]
fn no_request_is_conditional() {
    for dialect in ["v3-only", "v4-2025", "v4-2026"] {
        let (infisical, instance, psid) =
            workload(&json!({"/myapp": {"A": "1", "B": "2"}}), &["--dialect", dialect]);
        refresh(&instance, &[]);
        let fetched = psid.status()["oldest_fetch_ms"].as_u64().unwrap();
        let output = refresh(&instance, &[]);
        assert!(output.contains("0 added, 0 changed, 2 unchanged"), "{dialect}: {output}");
        assert!(psid.status()["oldest_fetch_ms"].as_u64().unwrap() > fetched, "{dialect}");
        infisical.put("/myapp", "A", "new");
        assert!(refresh(&instance, &[]).contains("1 changed, 1 unchanged"), "{dialect}");
        assert_eq!(instance.driver(&["get", "myapp--A"]).text(), "new");
        let log = infisical.log();
        for read in log.iter().filter(|request| request.is_read()) {
            assert_eq!(read.header("if-none-match"), "", "{dialect}: {read:?}");
            assert_ne!(read.0["status"], 304, "{dialect}");
        }
    }
}

#[test]
fn refresh_caches_invalidated_entries_again() {
    let (_infisical, instance, _psid) = workload(&json!({"/myapp": {"A": "1", "B": "2"}}), &[]);
    refresh(&instance, &[]);
    instance.driver(&["cache", "invalidate", "myapp--A"]).ok();
    assert!(refresh(&instance, &[]).contains("1 added"));
}

#[test]
fn next_refresh_detects_a_removed_permission() {
    let (infisical, instance, _psid) = workload(&json!({"/myapp": {"A": "1", "B": "2"}}), &[]);
    refresh(&instance, &[]);
    infisical.permit(&json!([]));
    let outcome = instance.driver(&["cache", "refresh"]).run();
    assert_eq!(outcome.code, 75);
    assert!(String::from_utf8(outcome.stdout).unwrap().contains("Infisical answers 403"));
}

#[test]
fn changed_import_below_a_recursive_source_is_detected() {
    let mut seed = psi_harness::seed(&json!({
        "/myapp": {"OWN": "own"}, "/myapp/a": {}, "/shared": {"PORT": "old"},
    }));
    seed["projects"][0]["imports"] = json!([
        {"environment": "prod", "path": "/myapp/a", "from": {"environment": "prod", "path": "/shared"}},
    ]);
    let infisical = FakeInfisical::launch(&seed, &[]);
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", true));
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp/a", "PORT")).ok();
    for value in ["old", "new", "newer"] {
        infisical.put("/shared", "PORT", value);
        refresh(&instance, &[]);
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), value);
    }
}

/// Most of a source is gone with a 200: the values are kept and reported, and removed when an admin
/// accepts it.
#[test]
fn mass_removal_is_withheld_and_reported_until_accepted() {
    let (infisical, instance, psid) =
        workload(&json!({"/myapp": {"A": "1", "B": "2", "C": "3"}}), &[]);
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "B")).ok();
    refresh(&instance, &[]);
    for key in ["B", "C"] {
        infisical.remove("/myapp", key);
    }
    let output = withheld(&instance);
    assert!(output.contains("1 unchanged, 0 removed, 2 withheld"), "{output}");
    let status = psid.status();
    assert_eq!((&status["entries"], &status["withheld_count"]), (&json!(3), &json!(2)));
    let held = &status["withheld"][0];
    assert_eq!((&held["ids"], &held["reason"]), (&json!([id(1)]), &json!("removed")));
    assert!(held["name"].as_str().unwrap().ends_with(" prod /myapp/B"), "{held}");
    assert!(psid.degraded().contains("cache refresh --accept-removals"));
    let text = instance.driver(&["cache", "status"]).report();
    assert!(text.contains(&format!("/myapp/B ({}): removed, first reported ", id(1))), "{text}");
    // psid makes no request for withheld values, and another refresh within the minute confirms
    // nothing.
    infisical.clear_log();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "2");
    assert!(infisical.log().is_empty());
    assert!(withheld(&instance).contains("0 removed, 2 withheld"));
    assert_eq!(psid.log().matches("would take away or empty 2 secrets").count(), 1);
    let output = refresh(&instance, &["--accept-removals"]);
    assert!(output.contains("2 removed\n"), "{output}");
    let status = psid.status();
    assert_eq!((&status["entries"], &status["withheld_count"]), (&json!(1), &json!(0)));
    // Health checks cause no request for a value that a listing lacks.
    infisical.clear_log();
    for _ in 0..5 {
        instance.driver(&["lookup"]).id(id(1)).fails(66);
    }
    assert!(infisical.log().is_empty());
    infisical.put("/myapp", "B", "back");
    refresh(&instance, &[]);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "back");
}

#[test]
fn emptied_value_is_withheld_until_accepted() {
    let (infisical, instance, psid) =
        workload(&json!({"/myapp": {"A": "1", "B": "2", "C": "3"}}), &[]);
    refresh(&instance, &[]);
    infisical.put("/myapp", "A", "");
    infisical.put("/myapp", "B", "new");
    let output = withheld(&instance);
    assert!(output.contains("1 changed, 1 unchanged, 0 removed, 1 withheld"), "{output}");
    assert_eq!(psid.status()["withheld"][0]["reason"], "emptied");
    assert_eq!(instance.driver(&["get", "myapp--A"]).text(), "1");
    assert_eq!(instance.driver(&["get", "myapp--B"]).text(), "new");
    refresh(&instance, &["--accept-removals"]);
    assert_eq!(instance.driver(&["get", "myapp--A"]).text(), "");
    assert_eq!(psid.status()["withheld_count"], 0);
}

/// An unregistered secret in a directory of registered ones is neither removed nor reported.
#[test]
fn unregistered_entries_do_not_count_as_removed() {
    let mut infisical =
        FakeInfisical::with(&json!({"/x": {"A": "1", "B": "2", "C": "3", "D": "4"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/x", "A")).ok();
    for key in ["B", "C", "D"] {
        instance.driver(&["get", &reference("/x", key)]).ok();
    }
    refresh(&instance, &[]);
    let status = psid.status();
    assert_eq!((&status["entries"], &status["withheld_count"]), (&json!(4), &json!(0)));
    infisical.kill();
    assert_eq!(instance.driver(&["get", &reference("/x", "D")]).text(), "4");
}
