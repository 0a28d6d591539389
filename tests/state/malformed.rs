//! `tests/vectors/malformed-*`: literals, references and configs, each named by its fault, and
//! psid's message. The caches are in `vectors.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, Probe, bytes, hex, id, repository};

/// The id that the literals were encrypted for.
const ID: &str = "0f1e2d3c4b5a69788796a5b4c";

/// The files of a directory, each with its message.
fn malformed(kind: &str) -> Vec<(String, PathBuf, Value)> {
    let directory = repository().join("tests/vectors").join(format!("malformed-{kind}"));
    let words = fs::read(directory.join("messages.json")).unwrap();
    let words: BTreeMap<String, Value> = serde_json::from_slice(&words).unwrap();
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "messages.json")
        .collect();
    names.sort();
    assert_eq!(names, words.keys().cloned().collect::<Vec<_>>(), "a file each, a sentence each");
    words.into_iter().map(|(name, words)| (name.clone(), directory.join(name), words)).collect()
}

/// An instance with the vectors' key, and an unreachable provider.
fn instance() -> Instance {
    let instance = Instance::empty();
    let mut infisical = FakeInfisical::with(&serde_json::json!({}));
    instance.configure(&Config::of(&infisical));
    infisical.kill();
    instance.give_key(&fs::read(repository().join("tests/vectors/key")).unwrap());
    instance
}

#[test]
fn malformed_literals_fail_with_their_message_and_are_kept() {
    for (name, file, words) in malformed("literals") {
        let instance = instance();
        let registered = instance.state().join("secrets").join(ID);
        fs::create_dir_all(registered.parent().unwrap()).unwrap();
        fs::copy(&file, &registered).unwrap();
        let psid = instance.start();
        let line = instance.driver(&["lookup"]).id(ID).fails(65);
        assert!(line.contains(words.as_str().unwrap()), "{name}: {line}");
        psid.terminate();
        assert_eq!(fs::read(registered).unwrap(), fs::read(file).unwrap(), "{name}");
    }
}

/// On disk, each affects its own secret only; `store --reference` refuses it.
#[test]
fn malformed_references_fail_with_their_message() {
    let instance = instance();
    let (secrets, all) = (instance.state().join("secrets"), malformed("references"));
    fs::create_dir_all(&secrets).unwrap();
    let mut probe = Probe::without_backend();
    let numbered = || (1..).zip(&all);
    for (number, (_, file, _)) in numbered() {
        let id = id(number);
        let request = json!({ "do": "encode_reference", "secret": id, "reference": hex(&fs::read(file).unwrap()) });
        fs::write(secrets.join(&id), bytes(&probe.ok(request)["file"])).unwrap();
    }
    let psid = instance.start();
    for (number, (name, file, words)) in numbered() {
        let line = instance.driver(&["lookup"]).id(id(number)).fails(65);
        assert!(line.contains(words["lookup"].as_str().unwrap()), "{name}: {line}");
        let store =
            instance.driver(&["store", "--reference"]).id(id(1_000)).stdin(fs::read(file).unwrap());
        let line = store.fails(65);
        assert!(line.contains(words["store"].as_str().unwrap()), "{name}: {line}");
    }
    let listed = instance.driver(&["list"]).text();
    assert_eq!(listed.lines().count(), all.len());
    let log = psid.terminate();
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn malformed_configs_fail_with_their_line() {
    let instance = Instance::empty();
    for (name, file, words) in malformed("configs") {
        let path = instance.config().with_file_name(&name);
        fs::copy(file, &path).unwrap();
        let line = instance.psid().args(&["--config", path.to_str().unwrap(), "check"]).fails(65);
        let message = line.split(&format!("{name}:")).nth(1).unwrap_or_default();
        assert!(message.starts_with(words.as_str().unwrap()), "{name}: {line}");
        assert!(!line.contains("hunter2") && !line.contains("12345678"), "{name}: {line}");
    }
}
