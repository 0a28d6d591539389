//! Sources of workloads: directories, with what is below them and what they import.

use std::process::Command;

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, id, reference, seed};

fn import(into: &str, from: &str) -> Value {
    json!({"environment": "prod", "path": into, "from": {"environment": "prod", "path": from}})
}

#[test]
fn recursive_source_lists_every_subdirectory_separately() {
    let mut infisical = FakeInfisical::with(&json!({
        "/svc": {"K": "top"},
        "/svc/a": {"K": "a", "ONLY_A": "only a"},
        "/svc/a/deep": {"K": "deep"},
        "/svc/b": {"K": "b"},
        "/svcs": {"K": "another directory"},
    }));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("svc", "/svc", true));
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(infisical.reads(), 1, "one request reads them all");
    assert_eq!(psid.status()["entries"], 5);
    infisical.kill();
    for (path, value) in
        [("/svc", "top"), ("/svc/a", "a"), ("/svc/a/deep", "deep"), ("/svc/b", "b")]
    {
        assert_eq!(instance.driver(&["get", &reference(path, "K")]).text(), value);
    }
    assert_eq!(instance.driver(&["get", "svc--K"]).text(), "top");
    instance.driver(&["get", &reference("/svcs", "K")]).fails(75);
}

/// A recursive listing names its imports but not the importing directories.
#[test]
fn refresh_keeps_imports_of_subdirectories() {
    let mut seed = seed(&json!({
        "/svc": {"OWN": "own"},
        "/svc/a": {"K": "a"},
        "/shared": {"PORT": "imported"},
    }));
    seed["projects"][0]["imports"] = json!([import("/svc/a", "/shared")]);
    let mut infisical = FakeInfisical::launch(&seed, &[]);
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("svc", "/svc", true));
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/svc/a", "PORT")).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "imported");
    instance.driver(&["cache", "refresh"]).ok();
    infisical.kill();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "imported");
}

#[test]
fn recursive_listing_keeps_imports_of_each_directory_apart() {
    let mut seed = seed(&json!({
        "/svc": {},
        "/svc/a": {},
        "/for-top": {"PORT": "the top's"},
        "/for-a": {"PORT": "a's"},
    }));
    seed["projects"][0]["imports"] =
        json!([import("/svc", "/for-top"), import("/svc/a", "/for-a")]);
    let infisical = FakeInfisical::launch(&seed, &[]);
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("svc", "/svc", true));
    let _psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["get", &reference("/svc", "PORT")]).text(), "the top's");
    assert_eq!(instance.driver(&["get", &reference("/svc/a", "PORT")]).text(), "a's");
}

#[test]
fn refresh_applies_and_reports_changes() {
    let infisical =
        FakeInfisical::with(&json!({"/myapp": {"SAME": "1", "CHANGES": "old", "GOES": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    let refresh = || instance.driver(&["cache", "refresh"]).text();
    assert_eq!(refresh(), "myproject:/myapp: 3 added, 0 changed, 0 unchanged, 0 removed\n");
    infisical.put("/myapp", "CHANGES", "new");
    infisical.put("/myapp", "COMES", "3");
    infisical.remove("/myapp", "GOES");
    assert_eq!(refresh(), "myproject:/myapp: 1 added, 1 changed, 1 unchanged, 1 removed\n");
    assert_eq!(instance.driver(&["get", "myapp--CHANGES"]).text(), "new");
    let last = &psid.status()["last_refresh"];
    assert_eq!(
        (&last["added"], &last["removed"], &last["failed"]),
        (&json!(1), &json!(1), &json!([]))
    );
}

/// A failure is better than another secret: a database's password must not become that of another
/// one.
#[test]
fn earlier_source_does_not_replace_a_later_one_in_an_outage() {
    let common = json!({"B": "common", "ONLY": "common"});
    let mut infisical =
        FakeInfisical::with(&json!({"/common": common, "/myapp": {"A": "1", "B": "mine"}}));
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    config.rest += "[workloads.myapp]\nprovider = \"infisical\"\nsecrets = [{ project = \"myproject\", path = \"/common\" }, { project = \"myproject\", path = \"/myapp\" }]\n";
    instance.configure(&config);
    let _psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["get", "myapp--B"]).text(), "mine");
    instance.driver(&["cache", "invalidate", &reference("/myapp", "B")]).ok();
    infisical.kill();
    instance.driver(&["get", "myapp--B"]).fails(75);
    // The later source is known not to have this key.
    assert_eq!(instance.driver(&["get", "myapp--ONLY"]).text(), "common");
}

/// N3: the Python PSI never evicted what was deleted upstream. A listing is authoritative.
#[test]
fn n3_refresh_removes_secrets_missing_from_the_listing() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"GOES": "1", "STAYS": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "GOES")).ok();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    infisical.remove("/myapp", "GOES");
    instance.driver(&["cache", "refresh"]).ok();
    let line = instance.driver(&["lookup"]).id(id(1)).fails(66);
    assert!(line.contains("infisical has no such secret"), "{line}");
    let status = psid.status();
    assert_eq!((&status["entries"], &status["would_fail"]), (&json!(1), &json!([id(1)])));
}

/// While a role is edited, or a project is restored from a backup, a listing has little or nothing,
/// with a 200 (the Python PSI's PR #37: a container booted without its variable).
#[test]
fn mass_removal_is_withheld_until_confirmed() {
    let mut infisical =
        FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2", "C": "3"}, "/else": {}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    infisical.permit(&json!([{"environment": "*", "pathPrefix": "/else"}]));
    // Withheld values are left out of the count.
    let outcome = instance.driver(&["cache", "refresh"]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert!(outcome.code == 1 && output.contains("0 removed"), "{}: {output}", outcome.code);
    assert_eq!(psid.status()["entries"], 3);
    infisical.kill();
    for (key, value) in [("A", "1"), ("B", "2"), ("C", "3")] {
        assert_eq!(instance.driver(&["get", &format!("myapp--{key}")]).text(), value);
    }
}

/// The Python PSI kept an entry for each id that podman had ever made: 13,376 for 495 secrets (PR #32).
#[test]
fn refresh_removes_entries_that_nothing_refers_to() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}, "/x": {"B": "2", "C": "3"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    for (number, key) in [(1, "B"), (2, "C")] {
        instance.driver(&["store"]).id(id(number)).stdin(reference("/x", key)).ok();
        instance.driver(&["lookup"]).id(id(number)).ok();
    }
    instance.driver(&["delete"]).id(id(1)).ok();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(psid.status()["entries"], 2);
    infisical.clear_log();
    instance.driver(&["lookup"]).id(id(2)).ok();
    instance.driver(&["get", "myapp--A"]).ok();
    assert!(infisical.log().is_empty());
}

/// N13: one failing workload of the Python PSI aborted the refresh before anything was saved.
#[test]
fn n13_failing_source_does_not_affect_other_sources() {
    let mut infisical = FakeInfisical::with(&json!({"/a": {"K": "a"}, "/b": {"K": "b"}}));
    let instance = Instance::of(&infisical);
    let config =
        Config::of(&infisical).workload("a", "/a", false).workload("gone", "/nowhere", false);
    instance.configure(&config.workload("z", "/b", false));
    let psid = instance.start();
    let outcome = instance.driver(&["cache", "refresh"]).run();
    assert_eq!(outcome.code, 75);
    let lines = String::from_utf8(outcome.stdout).unwrap();
    assert!(lines.contains("myproject:/a: 1 added"), "{lines}");
    assert!(lines.contains("myproject:/nowhere: failed: Infisical answers 404"), "{lines}");
    assert!(lines.contains("myproject:/b: 1 added"), "{lines}");
    assert!(outcome.stderr.contains("1 of 3 sources failed; their entries are kept"));
    psid.await_generation_after(0);
    psid.terminate();
    infisical.kill();
    let _psid = instance.start();
    assert_eq!(instance.driver(&["get", "a--K"]).text(), "a");
    assert_eq!(instance.driver(&["get", "z--K"]).text(), "b");
}

/// N1: the Python PSI's refresh could not open the cache in some set-ups and skipped it silently:
/// the file stayed empty.
#[test]
fn n1_refresh_persists_fetched_values() {
    let mut infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    psid.await_generation_after(0);
    psid.crash();
    infisical.kill();
    let psid = instance.start();
    assert_eq!(psid.status()["entries"], 2);
    assert_eq!(instance.driver(&["get", "myapp--B"]).text(), "2");
}

/// N2: the Python PSI's refresh needed podman's socket where there was none. N18: it removed and
/// created every podman secret each hour. psid's refresh calls no podman.
#[test]
fn n2_n18_refresh_does_not_call_podman() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let (podman, called) = (instance.run().join("podman"), instance.run().join("called"));
    // Another process creates it: see `copy_program`.
    let make = "printf '#!/bin/sh\\n>%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", make, "sh"]).args([&podman, &called]);
    assert!(shell.status().unwrap().success());
    let _psid = instance.psid().env("PATH", instance.run()).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    let path = instance.run();
    instance.driver(&["cache", "refresh"]).env("PATH", &path).ok();
    instance.driver(&["lookup"]).id(id(1)).env("PATH", &path).ok();
    instance.driver(&["get", "myapp--A"]).env("PATH", &path).ok();
    assert!(!called.exists());
    // The wrapper works: psid asks podman for a name that only podman knows.
    instance.driver(&["get", "unknown"]).env("PATH", &path).fails(66);
    assert!(called.exists());
}

/// The Python PSI refreshed by a timer unit that fired once; psid refreshes by itself.
#[test]
fn psid_refreshes_periodically() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).short_lived().workload("myapp", "/myapp", false));
    let _psid = instance.start();
    infisical.await_count("GET", "/api/v4/secrets", 3);
    assert_eq!(infisical.logins(), 1);
}

/// N4: `invalidate` of the Python PSI matched nothing, because its keys were hashes.
#[test]
fn n4_invalidated_entry_is_fetched_again() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "old", "B": "old", "C": "old"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["cache", "refresh"]).ok();
    for key in ["A", "B", "C"] {
        infisical.put("/myapp", key, "new");
    }
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "old");
    for target in [id(1), "myapp--B".to_owned(), reference("/myapp", "C")] {
        let before = psid.generation();
        let output = instance.driver(&["cache", "invalidate", &target]).text();
        assert_eq!(output, "removed; the next lookup fetches it\n");
        assert!(psid.generation() > before, "it is persisted when it is answered");
        assert_eq!(instance.driver(&["get", &target]).text(), "new");
    }
    let printed = instance.driver(&["cache", "invalidate", &reference("/myapp", "NEVER")]).text();
    assert_eq!(printed, "the cache has no such entry\n");
}

#[test]
fn refresh_without_sources_reports_that() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    let text = instance.driver(&["cache", "refresh"]).text();
    assert!(text.starts_with("nothing to refresh: "), "{text}");
}

/// Registered secrets outside of the workloads are refreshed too, by one listing of their
/// directory, and the rest of that directory is not cached.
#[test]
fn registered_references_are_refreshed_by_directory() {
    let mut infisical = FakeInfisical::with(&json!({"/x": {"A": "1", "B": "2", "C": "3"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    for (number, key) in (0..).zip(["A", "B"]) {
        instance.driver(&["store"]).id(id(number)).stdin(reference("/x", key)).ok();
    }
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!((infisical.reads(), psid.status()["entries"].as_u64()), (1, Some(2)));
    infisical.kill();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "2");
}
