//! Secrets that psid has dropped are not in its memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::json;

use super::canaries::{canary, holds};
use psi_harness::{Config, FakeInfisical, Instance, Psid, eventually, id, reference, seed};

/// The mappings of psid that contain `needle`.
pub(super) fn holding(psid: &Psid, needle: impl AsRef<[u8]>) -> Vec<String> {
    let pid = psid.process.pid();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (address(start), address(end));
        if !rights.starts_with("rw") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if let Err(error) = memory.read_exact_at(&mut bytes, start) {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            assert!(!maps.contains(line), "{line}: {error}");
            continue;
        }
        if holds(&bytes, needle.as_ref()) {
            found.push(line.to_owned());
        }
    }
    found
}

/// Waits until no mapping contains `needle`: a call's buffers are freed when psid has closed the
/// connection, which is after the caller sees its end.
#[track_caller]
pub(super) fn await_gone(psid: &Psid, needle: impl AsRef<[u8]>) {
    let needle = needle.as_ref();
    eventually("psid's memory to be wiped", || holding(psid, needle).is_empty().then_some(()));
}

#[track_caller]
pub(super) fn assert_found(psid: &Psid, needle: &str) {
    assert_ne!(holding(psid, needle), [""; 0], "the search does not find what is there");
}

#[test]
fn deleted_literal_is_wiped_from_memory() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let literal = canary("literal");
    instance.driver(&["store"]).id(id(1)).stdin(&literal).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), literal);
    assert_found(&psid, &literal);
    instance.driver(&["delete"]).id(id(1)).ok();
    await_gone(&psid, &literal);
}

#[test]
fn invalidated_value_is_wiped_from_memory() {
    let value = canary("value");
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": value, "B": "another value"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let reference = reference("/myapp", "A");
    instance.driver(&["store"]).id(id(1)).stdin(&reference).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), value);
    psid.await_generation_after(0);
    assert_found(&psid, &value);
    instance.driver(&["cache", "invalidate", &reference]).ok();
    await_gone(&psid, &value);
}

/// A refresh reads the values of a whole directory through the HTTP client and the JSON parser.
#[test]
fn replaced_value_is_wiped_from_memory() {
    let (old, new) = (canary("old"), canary("new"));
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": old, "B": "another value"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["get", "myapp--A"]).text(), old);
    psid.await_generation_after(0);
    assert_found(&psid, &old);
    infisical.put("/myapp", "A", &new);
    let generation = psid.generation();
    instance.driver(&["cache", "refresh"]).ok();
    // The cache file is written from copies in memory.
    psid.await_generation_after(generation);
    assert_eq!(instance.driver(&["get", "myapp--A"]).text(), new);
    assert_found(&psid, &new);
    await_gone(&psid, &old);
}

/// The client secret is read for each login and then dropped.
#[test]
fn client_secret_is_in_memory_only_during_the_login() {
    let secret = canary("client");
    let mut infisical = seed(&json!({"/myapp": {"A": "value of A"}}));
    infisical["identities"][0]["clientSecrets"][0]["secret"] = json!(secret);
    let infisical = FakeInfisical::launch(&infisical, &[]);
    let instance = Instance::of(&infisical);
    instance.give_client_secret(&secret);
    let looked_up = || {
        let psid = instance.start();
        assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "value of A");
        psid
    };
    let psid = looked_up();
    await_gone(&psid, &secret);
    psid.terminate();
    // A client secret in the config itself stays in memory, and the search finds it.
    let mut config = Config::of(&infisical).without_backend();
    let credential = "client_secret_credential = \"infisical-client-secret\"";
    config.auth = config.auth.replace(credential, &format!("client_secret = \"{secret}\""));
    instance.configure(&config);
    assert_found(&looked_up(), &secret);
}
