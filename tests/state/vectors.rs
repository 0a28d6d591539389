//! Files of earlier versions (`tests/vectors`, see its README): valid ones must open in this and
//! every later version, and bad ones must be refused with their message.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use psi_harness::{Config, FakeInfisical, Instance, eventually, repository};

fn vector(name: &str) -> PathBuf {
    repository().join("tests/vectors").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(vector(name)).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// An instance with the vectors' key and config, and an unreachable provider.
fn instance_of_the_vectors(expected: &Value) -> Instance {
    let instance = Instance::empty();
    let mut infisical = FakeInfisical::with(&serde_json::json!({}));
    let config = Config::of(&infisical).to_string();
    infisical.kill();
    fs::write(instance.config(), config.replace(psi_harness::PROJECT, text(&expected["project"])))
        .unwrap();
    instance.give_key(&fs::read(vector("key")).unwrap());
    fs::create_dir(instance.state()).unwrap();
    instance
}

#[test]
fn version_2_cache_opens() {
    let expected = json("expected.json");
    let instance = instance_of_the_vectors(&expected);
    fs::copy(vector("cache-v2-tpm.enc"), instance.cache()).unwrap();
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    let status = psid.status();
    let entries = expected["entries"].as_array().unwrap();
    assert_eq!(status["entries"], entries.len());
    assert_eq!(status["generation"], expected["generation"]);
    for time in ["oldest_fetch_ms", "newest_fetch_ms"] {
        assert_eq!(status[time], expected[time]);
    }
    for entry in entries {
        let reference = psi_harness::reference(text(&entry["path"]), text(&entry["key"]));
        assert_eq!(instance.driver(&["get", &reference]).text(), text(&entry["value"]));
    }
}

#[test]
fn version_2_literal_opens() {
    let expected = json("expected.json");
    let instance = instance_of_the_vectors(&expected);
    let id = text(&expected["literal"]["id"]);
    fs::create_dir(instance.state().join("secrets")).unwrap();
    fs::copy(vector("literal-v2-tpm.enc"), instance.state().join("secrets").join(id)).unwrap();
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id).text(), text(&expected["literal"]["value"]));
}

/// Registrations of users, which another program than psid wrote by the formats' descriptions.
#[test]
fn registrations_of_users_open_for_their_owner_and_root_only() {
    let expected = json("expected.json");
    let instance = instance_of_the_vectors(&expected);
    fs::create_dir(instance.state().join("secrets")).unwrap();
    let literal = &expected["users_literal"];
    let reference = &expected["users_reference"];
    let [id, of_reference] = [text(&literal["id"]), text(&reference["id"])];
    for (file, id) in [("users-literal-v2-tpm.enc", id), ("reference-2", of_reference)] {
        fs::copy(vector(file), instance.state().join("secrets").join(id)).unwrap();
    }
    fs::copy(vector("cache-v2-tpm.enc"), instance.cache()).unwrap();
    let uid = u32::try_from(literal["uid"].as_u64().unwrap()).unwrap();
    let config = fs::read_to_string(instance.config()).unwrap();
    let workloads = [(uid, "one"), (uid + 1, "two")].map(|(uid, name)| {
        format!(
            "[workloads.{name}]\nprovider = \"infisical\"\nuser = {uid}\n\
             secrets = [{{ project = \"myproject\", path = \"/myapp\" }}]\n"
        )
    });
    fs::write(instance.config(), config + &workloads.concat()).unwrap();
    let _psid = instance.psid().with_users_socket(&instance).start();
    let values = [(id, text(&literal["value"])), (of_reference, "db.example")];
    for (id, value) in values {
        let lookup = || instance.driver(&["lookup"]).id(id);
        assert_eq!(lookup().text(), value);
        assert_eq!(lookup().user(&instance, uid, uid).text(), value);
        lookup().user(&instance, uid + 1, uid + 1).fails(66);
    }
}

/// Each bad file is named by its fault and has psid's message.
#[test]
fn malformed_caches_are_set_aside_with_their_message() {
    let expected = json("expected.json");
    let words = json("malformed/messages.json");
    let words = words.as_object().unwrap();
    let mut names: Vec<_> = fs::read_dir(vector("malformed"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".enc"))
        .collect();
    names.sort();
    assert_eq!(names, words.keys().cloned().collect::<Vec<_>>(), "a file each, a sentence each");
    for (name, words) in words.iter().filter(|(name, _)| !name.starts_with("v1-")) {
        let instance = instance_of_the_vectors(&expected);
        let file = fs::read(vector("malformed").join(name)).unwrap();
        fs::write(instance.cache(), &file).unwrap();
        let psid = instance.start();
        let degraded = psid.degraded();
        let message = format!("cache.enc is not usable: it {}; ", text(words));
        assert!(degraded.contains(&message), "{name}: {degraded}");
        psid.await_log(&message);
        let aside =
            eventually("the file to be set aside", || instance.set_aside().into_iter().next());
        assert_eq!(fs::read(aside).unwrap(), file, "{name}");
    }
}

/// Only the migrate command reads version 1.
#[test]
fn malformed_version_1_caches_fail_with_their_message() {
    let expected = json("expected.json");
    let words = json("malformed/messages.json");
    for (name, words) in
        words.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("v1-"))
    {
        let instance = instance_of_the_vectors(&expected);
        let file = fs::read(vector("malformed").join(name)).unwrap();
        fs::write(instance.cache(), &file).unwrap();
        let outcome =
            psi_harness::python_psi::adopt(&instance, &[instance.cache().to_str().unwrap()]).run();
        let message = format!("cache.enc is not usable: it {}; ", text(words));
        assert_eq!(outcome.code, 65, "{name}");
        assert!(outcome.stderr.contains(&message), "{name}: {}", outcome.stderr);
        assert_eq!(fs::read(instance.cache()).unwrap(), file, "{name}");
    }
}
