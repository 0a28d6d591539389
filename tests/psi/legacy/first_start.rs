//! psid is started on the state folder of the Python PSI.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{
    SEALED, assert_all_are_served, assert_mappings_are_as_they_were,
    assert_mappings_are_registered, cached, contents, expected, leave_in, leave_mappings_in,
    python_psi, world_in_an_outage,
};
use crate::harness::{Config, Double, World, id, reference, repository};

/// The files that are kept of old caches.
fn kept(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.state()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains("cache.enc.v1-")).collect()
}

#[test]
fn every_cached_value_comes_out_in_an_outage_and_again_after_a_restart() {
    let world = world_in_an_outage();
    leave_in(&world.state(), "cache-tpm.enc");
    let before = contents(&world.state());
    let psid = world.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    let status = psid.status();
    assert_eq!(status["entries"], 7);
    // That a value was served is written too, a while later.
    assert!(status["generation"].as_u64() >= Some(1), "{status}");
    assert_eq!(status["oldest_fetch_ms"], json!(1_795_434_718_000_u64));
    assert_eq!(status["would_fail"], json!([SEALED]));
    let ids: String = expected().keys().map(|id| format!("{id}\n")).collect();
    assert_eq!(world.driver(&["list"]).text(), ids);
    let log = psid.terminate();
    let told = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(told("INFO took over 8 mappings of the Python PSI"), 1, "{log}");
    assert_eq!(told("INFO took over 7 values of the Python PSI's"), 1, "{log}");
    assert_eq!(
        told("written at 2026-11-23T11:51:58Z; dropped 0 that no mapping names"),
        1,
        "{log}"
    );

    // The old files are as they were; that of the cache has another name.
    let after = contents(&world.state());
    let kept = kept(&world);
    assert_eq!(kept.len(), 1, "{kept:?}");
    for (name, trace) in &before {
        let now = if name == "cache.enc" { &kept[0] } else { &world.state().join(name) };
        assert_eq!(&after[now.file_name().unwrap().to_str().unwrap()], trace, "{name}");
    }
    assert_eq!(fs::read(&kept[0]).unwrap(), fs::read(python_psi("cache-tpm.enc")).unwrap());
    assert_mappings_are_as_they_were(&world.state());
    assert_mappings_are_registered(&world);
    assert_eq!(fs::read(world.cache()).unwrap()[..6], *b"PSIC\x02\x01");

    let psid = world.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    assert!(!psid.terminate().contains("took over"));
}

#[test]
fn mappings_that_lie_in_secrets_already_are_as_good() {
    let world = world_in_an_outage();
    leave_mappings_in(&world.state().join("secrets"));
    fs::copy(python_psi("cache-tpm.enc"), world.cache()).unwrap();
    let psid = world.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&world);
    assert!(!psid.terminate().contains("mappings of the Python PSI"));
    assert_mappings_are_registered(&world);
}

/// Without a cache, the mappings are worth it: lookups are live.
#[test]
fn mappings_are_taken_over_once() {
    let double = Double::with(&json!({"/app": {"SHARED_1": "live"}}));
    let world = World::of(&double);
    leave_mappings_in(&world.state());
    let taken = "1ee330a75e00f545b7c84b3d7";
    let psid = world.start();
    assert_eq!(world.driver(&["lookup"]).id(taken).text(), "live");
    world.driver(&["delete"]).id(taken).ok();
    psid.terminate();
    fs::remove_dir_all(world.state().join("deleted")).unwrap();
    let psid = world.start();
    let list = world.driver(&["list"]).text();
    assert_eq!(list.lines().count(), expected().len() - 1);
    assert!(!list.contains(taken), "what was deleted does not come back");
    assert!(!psid.terminate().contains("took over"));
    assert_mappings_are_as_they_were(&world.state());
}

#[test]
fn what_is_registered_stays_and_what_is_no_mapping_is_named_and_not_shown() {
    let world = world_in_an_outage();
    leave_in(&world.state(), "cache-tpm.enc");
    let mut ids = cached().into_keys();
    let (registered, deleted) = (ids.next().unwrap(), ids.next().unwrap());
    for (folder, id) in [("secrets", &registered), ("deleted", &deleted)] {
        let folder = world.state().join(folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(id), reference("/own", "OWN")).unwrap();
    }
    fs::write(world.state().join(id(1)), "hunter2 in the clear").unwrap();
    fs::write(world.state().join(id(2)), r#"{"provider":"vault","path":"hunter2"}"#).unwrap();
    let psid = world.start();
    let list = world.driver(&["list"]).text();
    assert_eq!(list.lines().count(), expected().len() - 1);
    assert!(!list.contains(&deleted) && !list.contains(&id(1)) && !list.contains(&id(2)));
    assert_eq!(world.registered(&registered), reference("/own", "OWN").as_bytes());
    let log = psid.terminate();
    assert!(log.contains("took over 5 values of the Python PSI's"), "{log}");
    assert!(log.contains("dropped 2 that no mapping names"), "{log}");
    for id in [id(1), id(2)] {
        let path = world.state().join(id);
        assert!(log.contains(&format!("WARN {} was not taken over: ", path.display())), "{log}");
        assert!(path.exists());
    }
    assert!(!log.contains("hunter2"), "{log}");
}

/// Keys that Python escapes, other paths, empty values; and what does not go into our cache.
#[test]
fn every_kind_of_entry_finds_its_place() {
    let vectors = repository().join("tests/vectors");
    let world = world_in_an_outage();
    world.give_key(&fs::read(vectors.join("key")).unwrap());
    fs::create_dir(world.state()).unwrap();
    fs::copy(vectors.join("cache-v1-tpm.enc"), world.cache()).unwrap();
    let expected = fs::read(vectors.join("cache-v1-tpm.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let rows = expected["mappings"].as_array().unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    for (number, row) in (1..).zip(rows) {
        fs::write(world.state().join(id(number)), text(row, "mapping")).unwrap();
    }
    let psid = world.start();
    assert_eq!(psid.status()["entries"], json!(4));
    for (number, row) in (1..).zip(rows).take(4) {
        let value = STANDARD.decode(text(row, "value")).unwrap();
        assert_eq!(world.driver(&["lookup"]).id(id(number)).ok(), value, "{row}");
    }
    let log = psid.terminate();
    assert!(log.contains("took over 4 values"), "{log}");
    assert!(log.contains("dropped 1 that no mapping names and 1 that are sealed"), "{log}");
    let needs = "1 values of the Python PSI's cache need [providers.infisical.projects.elsewhere]";
    assert!(log.contains(needs), "{log}");
    // What the config lacked is not lost.
    let more =
        "[providers.infisical.projects.elsewhere]\nid = \"another\"\nenvironment = \"prod\"\n";
    let config = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), config + more).unwrap();
    let kept = kept(&world).remove(0);
    let report = super::adopt(&world, &["--json", kept.to_str().unwrap()]).json();
    assert_eq!(super::numbers(&report), ([0; 4], [1, 4, 1, 1, 0]));
    let _psid = world.start();
    assert_eq!(world.driver(&["lookup"]).id(id(5)).text(), "1");
}

#[test]
fn a_cache_that_is_off_leaves_the_old_one_alone() {
    let double = Double::with(&json!({}));
    let world = World::of(&double);
    world.configure(&Config::of(&double).cache("enabled = false"));
    leave_in(&world.state(), "cache-tpm.enc");
    let before = contents(&world.state());
    world.start().terminate();
    let mut after = contents(&world.state());
    after.retain(|name, _| name != "secrets" && name != "generation");
    assert_eq!(after, before);
    assert_eq!(fs::metadata(world.cache()).unwrap().nlink(), 1);
}
