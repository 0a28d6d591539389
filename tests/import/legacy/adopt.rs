//! `psictl migrate --from psi --cache --state DIR` while psid is stopped and DIR is a directory of
//! its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    adopt, assert_all_are_served, assert_mappings_are_as_they_were, assert_mappings_are_registered,
    cached, expected, instance_in_an_outage, leave_in, leave_mappings_in, numbers, python_psi,
    traces,
};
use psi_harness::{FakeInfisical, Instance, id, reference, repository};

/// An old state directory beside the instance's own.
fn old(instance: &Instance) -> PathBuf {
    instance.directory().join("old")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The first run takes over everything and the second run nothing; neither changes the old
/// directory.
#[test]
fn migration_is_complete_and_keeps_the_old_directory_unchanged() {
    let instance = instance_in_an_outage();
    let old = old(&instance);
    leave_in(&old, "cache-tpm.enc");
    fs::write(old.join(".token.1.json"), "an access token").unwrap();
    let before = traces(&old);
    for run in [&["--dry-run", "--json"][..], &["--json"]] {
        let report = adopt(&instance, &[run, &[text(&old)]].concat()).json();
        assert_eq!(numbers(&report), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
        assert_eq!(report["dry_run"], json!(run.len() == 2));
        assert_eq!(report["from"], json!(text(&old)));
        assert_eq!(report["mappings"]["taken"], json!(expected().into_keys().collect::<Vec<_>>()));
        assert_eq!(report["values"]["cache"], json!(text(&old.join("cache.enc"))));
        assert_eq!(report["values"]["written_at_ms"], json!(1_795_434_718_000_u64));
        assert_eq!(report["values"]["mappings_without_value"], json!([]));
        let providers = json!({
            "infisical": {"mappings": 7, "values": 7},
            "nitrokeyhsm": {"mappings": 1, "values": 0},
        });
        assert_eq!(report["providers"], providers);
        assert_eq!(instance.state().exists(), run.len() == 1, "a dry run writes nothing");
    }
    let own = traces(&instance.state());
    let report = adopt(&instance, &["--json", text(&old)]).json();
    assert_eq!(numbers(&report), ([0, 8, 0, 0], [0, 7, 0, 0, 0]));
    assert_eq!(
        traces(&instance.state()).keys().collect::<Vec<_>>(),
        own.keys().collect::<Vec<_>>()
    );
    assert_eq!(traces(&old), before, "no file was written, nor its reading noted");
    assert_mappings_are_as_they_were(&old);
    assert_mappings_are_registered(&instance);
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    assert_all_are_served(&instance);
}

#[test]
fn migration_report_is_readable() {
    let instance = instance_in_an_outage();
    let old = old(&instance);
    // The other layout: mappings below `secrets`, the cache beside it.
    leave_mappings_in(&old.join("secrets"));
    fs::copy(python_psi("cache-tpm.enc"), old.join("cache.enc")).unwrap();
    let at = old.display();
    let words = |done: &str, last: &str| {
        format!(
            "mappings   8 {done}taken over, 0 already here, 0 conflicting, 0 not understood\n\
             values     7 {done}taken over, 0 already here, 0 that no mapping names \
             ({at}/cache.enc, written 2026-11-23T11:51:58Z)\n\
             provider   infisical: 7 mappings, 7 values {done}taken over\n\
             provider   nitrokeyhsm: 1 mappings, the values are sealed in them\n{last}"
        )
    };
    let dry = adopt(&instance, &["--dry-run", text(&old)]).text();
    assert_eq!(dry, words("would be ", &format!("nothing was changed: {at}\n")));
    let output = adopt(&instance, &[text(&old)]).text();
    assert_eq!(output, words("", &format!("nothing in the old place was changed: {at}\n")));
    let _psid = instance.start();
    assert_all_are_served(&instance);
}

#[test]
fn conflicts_and_unknown_files_are_reported_and_kept() {
    let instance = instance_in_an_outage();
    let old = old(&instance);
    leave_in(&old, "cache-tpm.enc");
    fs::write(old.join(id(1)), "hunter2 in the clear").unwrap();
    fs::write(old.join(id(2)), reference("/app", "NEVER_CACHED")).unwrap();
    let mut ids = cached().into_keys();
    let (same, other, deleted) = (ids.next().unwrap(), ids.next().unwrap(), ids.next().unwrap());
    let psid = instance.start();
    instance.driver(&["store"]).id(&same).stdin(fs::read(old.join(&same)).unwrap()).ok();
    instance.driver(&["store"]).id(&other).stdin("a literal").ok();
    instance.driver(&["store"]).id(&deleted).stdin(fs::read(old.join(&deleted)).unwrap()).ok();
    instance.driver(&["delete"]).id(&deleted).ok();
    psid.terminate();
    let report = adopt(&instance, &["--json", text(&old)]).json();
    let mappings = &report["mappings"];
    assert_eq!(numbers(&report), ([6, 1, 1, 2], [7, 0, 0, 0, 0]));
    assert_eq!(mappings["already_here"], json!([same]));
    assert_eq!(mappings["conflicting"], json!([other]));
    assert_eq!(report["values"]["mappings_without_value"], json!([id(2)]));
    let unrecognised = &mappings["not_understood"];
    assert_eq!((&unrecognised[0]["id"], &unrecognised[1]["id"]), (&json!(id(1)), &json!(deleted)));
    assert!(unrecognised[1]["why"].as_str().unwrap().contains("psictl restore"), "{unrecognised}");
    assert!(!report.to_string().contains("hunter2"));
    let output = adopt(&instance, &[text(&old)]).text();
    for line in [
        format!("{other} is registered here for something else, which stays"),
        format!("{} is left: it is not a JSON object of strings", id(1)),
        format!("{} has none: its first lookup asks the provider", id(2)),
    ] {
        assert!(output.contains(&format!("\n           {line}")), "{output}");
    }
    let _psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(&other).text(), "a literal");
    assert_eq!(instance.driver(&["lookup"]).id(&same).ok(), cached()[&same]);
}

/// The vector's cache is of 2023, the fixture's of 2026: the newer value is kept in either order.
#[test]
fn migration_keeps_the_newer_value() {
    let vectors = repository().join("tests/vectors");
    let key = vectors.join("key");
    for newest_first in [true, false] {
        let instance = instance_in_an_outage();
        let (older, newer) = (instance.directory().join("2023"), instance.directory().join("2026"));
        leave_in(&newer, "cache-tpm.enc");
        fs::create_dir(&older).unwrap();
        fs::copy(vectors.join("cache-v1-tpm.enc"), older.join("cache.enc")).unwrap();
        fs::write(older.join(id(1)), reference("/app", "SHARED_1")).unwrap();
        let take_newer = || numbers(&adopt(&instance, &["--json", text(&newer)]).json());
        let take_older = || {
            let args = ["--json", "--key", text(&key), text(&older)];
            numbers(&adopt(&instance, &args).json())
        };
        if newest_first {
            assert_eq!(take_newer(), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
            assert_eq!(take_older(), ([1, 0, 0, 0], [0, 1, 6, 0, 0]));
        } else {
            assert_eq!(take_older(), ([1, 0, 0, 0], [1, 0, 6, 0, 0]));
            assert_eq!(take_newer(), ([8, 0, 0, 0], [7, 0, 0, 0, 0]));
        }
        let psid = instance.start();
        assert_eq!(psid.status()["entries"], json!(7));
        assert_all_are_served(&instance);
    }
}

#[test]
fn migration_fails_while_psid_runs() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let old = old(&instance);
    leave_in(&old, "cache-tpm.enc");
    let psid = instance.start();
    for args in [&[text(&old)][..], &["--dry-run", text(&old)]] {
        let line = adopt(&instance, args).fails(65);
        let expected = "psid: migrate: psid is running; stop it first, `systemctl stop psid`";
        assert_eq!(line, expected);
    }
    psid.terminate();
    assert!(!instance.state().join("secrets").exists());
}

/// Whatever is wrong with the cache, the mappings are registered and the message has a remedy.
#[test]
fn migration_registers_mappings_if_the_cache_does_not_open() {
    let key = python_psi("psi-cache-key");
    let spoil = |file: &mut Vec<u8>| file[40] ^= 1;
    type Spoil = fn(&mut Vec<u8>);
    let cases: [(&str, Option<&[u8]>, Spoil); 6] = [
        ("it was damaged, or sealed under another key", None, spoil),
        ("it was damaged, or sealed under another key", Some(&[8; 32]), |_| {}),
        ("it is truncated", None, |file| file.truncate(20)),
        ("it is not a psi cache", None, |file| *file = b"hunter2".to_vec()),
        ("it is of format version 2, and the Python PSI's is 1", None, |file| file[4] = 2),
        (
            "does not open: the key has 31 bytes instead of 32; name its key with --key",
            Some(&[8; 31]),
            |_| {},
        ),
    ];
    for (words, credential, spoil) in cases {
        let instance = instance_in_an_outage();
        let old = old(&instance);
        leave_in(&old, "cache-tpm.enc");
        let mut file = fs::read(old.join("cache.enc")).unwrap();
        spoil(&mut file);
        fs::write(old.join("cache.enc"), &file).unwrap();
        if let Some(key) = credential {
            instance.give_key(key);
        }
        let outcome = adopt(&instance, &["--json", text(&old)]).run();
        assert_eq!(outcome.code, 65, "{}", outcome.stderr);
        let line = psi_harness::one_line(&outcome.stderr);
        assert!(line.starts_with("psid: migrate: ") && line.contains(words), "{line}");
        let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
        assert_eq!(report["mappings"]["taken"].as_array().unwrap().len(), 8);
        assert!(report["values"]["error"].as_str().unwrap().contains(words), "{report}");
        assert_eq!(fs::read(old.join("cache.enc")).unwrap(), file);
        assert!(!instance.cache().exists());
        assert_eq!(fs::read_dir(instance.state().join("secrets")).unwrap().count(), 8);
    }
    // With the key in place, the same command completes the migration.
    let instance = instance_in_an_outage();
    instance.take_key();
    let old = old(&instance);
    leave_in(&old, "cache-tpm.enc");
    let line = adopt(&instance, &[text(&old)]).run().stderr;
    assert!(line.contains("there is no key: no credential psi-cache-key"), "{line}");
    instance.give_key(&fs::read(key).unwrap());
    let report = adopt(&instance, &["--json", text(&old)]).json();
    assert_eq!(numbers(&report), ([0, 8, 0, 0], [7, 0, 0, 0, 0]));
}

#[test]
fn missing_state_directory_is_reported() {
    let instance = instance_in_an_outage();
    let missing = instance.directory().join("missing");
    let line = adopt(&instance, &[text(&missing)]).fails(65);
    assert!(line.contains(&format!("{}: No such file", missing.display())), "{line}");
    assert!(line.contains("name the old state directory"), "{line}");
    let line = adopt(&instance, &["--dry-run", text(&instance.credentials())]).text();
    assert!(line.contains("mappings   0 would be taken over"), "{line}");
    assert!(line.contains("values     none: there is no cache"), "{line}");
    fs::write(instance.config(), "[cache\n").unwrap();
    let line = adopt(&instance, &[text(&missing)]).fails(65);
    assert!(line.contains("config.toml:1: "), "{line}");
    assert_eq!(instance.driver(&["migrate", "--from", "file", "--cache"]).run().code, 2);
}

/// N11: the Python PSI listed `cache.enc` as a secret. psid does not.
#[test]
fn n11_cache_file_is_not_listed_as_a_secret() {
    let instance = instance_in_an_outage();
    leave_in(&instance.state(), "cache-tpm.enc");
    let _psid = instance.start();
    assert!(!instance.driver(&["list"]).text().contains("cache"));
    instance.driver(&["lookup"]).id("cache.enc").fails(65);
    assert!(!instance.state().join("secrets/cache.enc").exists());
}
