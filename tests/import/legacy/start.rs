//! psid started on the state directory of the Python PSI: it takes nothing over, and names the
//! command that does.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{
    SEALED, adopt, assert_all_are_served, assert_mappings_are_as_they_were,
    assert_mappings_are_registered, cached, contents, expected, instance_in_an_outage, kept,
    leave_in, leave_mappings_in, numbers, python_psi,
};
use psi_harness::{Config, FakeInfisical, Instance, id, reference, repository};

/// `psid migrate` on the instance's own state directory.
fn take_over(instance: &Instance) -> Value {
    adopt(instance, &["--json", instance.state().to_str().unwrap()]).json()
}

fn command(instance: &Instance) -> String {
    format!("stop psid and run `psid migrate --from psi {}`", instance.state().display())
}

#[test]
fn start_sets_the_old_cache_aside_and_names_the_migrate_command() {
    let instance = instance_in_an_outage();
    leave_in(&instance.state(), "cache-tpm.enc");
    let before = contents(&instance.state());
    let psid = instance.start();
    let degraded = psid.degraded();
    let aside = kept(&instance).remove(0);
    let cache = format!("it is of psi version 1; it was set aside as {}", aside.display());
    for words in [cache, command(&instance), "has 8 mappings of psi version 1".into()] {
        assert!(degraded.contains(&words), "{degraded}");
    }
    assert_eq!(instance.driver(&["list"]).text(), "");
    assert_eq!(psid.status()["entries"], 0);
    psid.terminate();

    assert_eq!(numbers(&take_over(&instance)), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&instance);
    let status = psid.status();
    assert_eq!(status["entries"], 7);
    assert_eq!(status["oldest_fetch_ms"], json!(1_795_434_718_000_u64));
    assert_eq!(status["would_fail"], json!([SEALED]));
    psid.terminate();

    // The old files are unchanged; the cache has another name.
    let after = contents(&instance.state());
    for (name, trace) in &before {
        let now = if name == "cache.enc" { &aside } else { &instance.state().join(name) };
        assert_eq!(&after[now.file_name().unwrap().to_str().unwrap()], trace, "{name}");
    }
    assert_eq!(fs::read(&aside).unwrap(), fs::read(python_psi("cache-tpm.enc")).unwrap());
    assert_mappings_are_as_they_were(&instance.state());
    assert_mappings_are_registered(&instance);
    assert_eq!(fs::read(instance.cache()).unwrap()[..6], *b"PSIC\x02\x01");
    assert_eq!(numbers(&take_over(&instance)), ([0, 8, 0, 0], [0, 7, 0, 0, 0]), "once is enough");
}

/// psid was never started there: the command suffices, and the file keeps its bytes.
#[test]
fn state_directory_is_migrated_before_a_start() {
    let instance = instance_in_an_outage();
    leave_in(&instance.state(), "cache-tpm.enc");
    assert_eq!(numbers(&take_over(&instance)), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
    let old = fs::read(python_psi("cache-tpm.enc")).unwrap();
    assert_eq!(fs::read(&kept(&instance)[0]).unwrap(), old);
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&instance);
    assert!(instance.set_aside().is_empty());
}

/// The mappings are useful without a cache: lookups are live.
#[test]
fn start_does_not_restore_the_mapping_of_a_deleted_secret() {
    let infisical = FakeInfisical::with(&json!({"/app": {"SHARED_1": "live"}}));
    let instance = Instance::of(&infisical);
    leave_mappings_in(&instance.state());
    take_over(&instance);
    let taken = "1ee330a75e00f545b7c84b3d7";
    let psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(taken).text(), "live");
    instance.driver(&["delete"]).id(taken).ok();
    psid.terminate();
    fs::remove_dir_all(instance.state().join("deleted")).unwrap();
    let _psid = instance.start();
    let list = instance.driver(&["list"]).text();
    assert_eq!(list.lines().count(), expected().len() - 1);
    assert!(!list.contains(taken), "what was deleted does not come back");
    assert_mappings_are_as_they_were(&instance.state());
}

#[test]
fn migration_keeps_registered_secrets_and_reports_other_files() {
    let instance = instance_in_an_outage();
    let mut ids = cached().into_keys();
    let (registered, deleted) = (ids.next().unwrap(), ids.next().unwrap());
    let psid = instance.start();
    for id in [&registered, &deleted] {
        instance.driver(&["store"]).id(id).stdin(reference("/own", "OWN")).ok();
    }
    instance.driver(&["delete"]).id(&deleted).ok();
    psid.terminate();
    leave_in(&instance.state(), "cache-tpm.enc");
    fs::write(instance.state().join(id(1)), "hunter2 in the clear").unwrap();
    fs::write(instance.state().join(id(2)), r#"{"provider":"vault","path":"hunter2"}"#).unwrap();
    let report = take_over(&instance);
    assert_eq!(report["mappings"]["conflicting"], json!([registered]));
    assert_eq!(report["mappings"]["not_understood"].as_array().unwrap().len(), 3, "{report}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
    let _psid = instance.start();
    let list = instance.driver(&["list"]).text();
    assert_eq!(list.lines().count(), expected().len() - 1);
    assert!(!list.contains(&deleted) && !list.contains(&id(1)) && !list.contains(&id(2)));
    assert_eq!(instance.registered(&registered), reference("/own", "OWN").as_bytes());
}

/// Keys that Python escapes, other paths, empty values, and entries that psid's cache does not
/// accept.
#[test]
fn every_kind_of_entry_is_migrated() {
    let vectors = repository().join("tests/vectors");
    let instance = instance_in_an_outage();
    instance.give_key(&fs::read(vectors.join("key")).unwrap());
    fs::create_dir(instance.state()).unwrap();
    fs::copy(vectors.join("cache-v1-tpm.enc"), instance.cache()).unwrap();
    let expected = fs::read(vectors.join("cache-v1-tpm.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let rows = expected["mappings"].as_array().unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    for (number, row) in (1..).zip(rows) {
        fs::write(instance.state().join(id(number)), text(row, "mapping")).unwrap();
    }
    // One key has a control character, which a reference may not have; one project is not in the
    // config.
    let report = take_over(&instance);
    assert_eq!(numbers(&report).1, [3, 0, 1, 1, 2]);
    let left = report["values"]["without_config"].to_string();
    assert!(left.contains("[providers.infisical.projects.elsewhere]"), "{left}");
    let psid = instance.start();
    assert_eq!(psid.status()["entries"], json!(3));
    for (number, row) in (1..).zip(rows).take(4).filter(|(number, _)| *number != 2) {
        let value = STANDARD.decode(text(row, "value")).unwrap();
        assert_eq!(instance.driver(&["lookup"]).id(id(number)).ok(), value, "{row}");
    }
    psid.terminate();
    // Entries of unconfigured projects are not lost.
    let more =
        "[providers.infisical.projects.elsewhere]\nid = \"another\"\nenvironment = \"prod\"\n";
    let config = fs::read_to_string(instance.config()).unwrap();
    fs::write(instance.config(), config + more).unwrap();
    assert_eq!(numbers(&take_over(&instance)).1, [1, 3, 1, 1, 1]);
    let _psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(5)).text(), "1");
}

#[test]
fn start_without_cache_leaves_the_old_cache_alone() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).cache("enabled = false"));
    leave_in(&instance.state(), "cache-tpm.enc");
    let before = contents(&instance.state());
    instance.start().terminate();
    assert_eq!(contents(&instance.state()), before);
}

/// An old cache that is restored in place of psid's cache is not read.
#[test]
fn start_never_reads_a_restored_old_cache() {
    let instance = instance_in_an_outage();
    leave_in(&instance.state(), "cache-tpm.enc");
    take_over(&instance);
    instance.start().terminate();
    fs::copy(python_psi("cache-tpm.enc"), instance.cache()).unwrap();
    let psid = instance.start();
    assert!(psid.degraded().contains(&command(&instance)), "{}", psid.degraded());
    assert_eq!(psid.status()["entries"], 0);
}
