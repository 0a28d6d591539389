//! Formats, modes and owners of the files and the socket.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Psid, directory_holds, id, reference};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn with_everything() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "the value of A"}}));
    let instance = Instance::of(&infisical);
    // A permissive umask must have no effect.
    let psid = instance.psid().through(&["/bin/sh", "-c", "umask 0; exec \"$@\"", "sh"]).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["store"]).id(id(3)).stdin("deleted").ok();
    instance.driver(&["delete"]).id(id(3)).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.await_generation_after(0);
    (infisical, instance, psid)
}

#[test]
fn cache_file_has_a_header_and_no_plaintext_value() {
    let (_infisical, instance, psid) = with_everything();
    let cache = fs::read(instance.cache()).unwrap();
    assert_eq!(&cache[..6], b"PSIC\x02\x01");
    let status = psid.status();
    assert_eq!(status["path"], instance.cache().display().to_string());
    assert_eq!(status["size_bytes"], cache.len());
    assert_eq!((&status["backend"], &status["format_version"]), (&json!("tpm"), &json!(2)));
    for text in ["the value of A", "/myapp", "myproject"] {
        assert!(!cache.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    assert_eq!(directory_holds(&instance.state(), b"the value of A"), None);
    let verified = instance.driver(&["cache", "status", "--verify"]).report();
    assert!(verified.contains("verify     ok: generation "), "{verified}");
}

#[test]
fn disabled_persistence_needs_no_file() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let _psid = instance.psid().start();
    assert!(!instance.cache().exists());
    let verified = instance.driver(&["cache", "status", "--verify"]).report();
    assert!(verified.contains("verify     ok: there is no file"), "{verified}");
}

#[test]
fn every_file_is_private_regardless_of_the_umask() {
    let (_infisical, instance, _psid) = with_everything();
    let state = instance.state();
    for directory in [state.clone(), state.join("secrets"), state.join("deleted")] {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
    }
    let secrets = state.join("secrets");
    for file in [
        instance.cache(),
        secrets.join(id(1)),
        secrets.join(id(2)),
        state.join("deleted").join(id(3)),
    ] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
    }
    let names: Vec<_> =
        fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "no remnant: {names:?}");
}

/// N14: the Python PSI bound its socket and changed its mode later. (A unit test checks that it
/// appears with its mode; this one checks the mode, and that the kernel refuses others.)
#[test]
fn n14_private_socket_is_private() {
    let (_infisical, instance, _psid) = with_everything();
    assert_eq!(mode(&instance.socket()), 0o600);
    let line = instance.driver(&["lookup"]).id(id(1)).user(&instance, 65534, 65534).fails(77);
    assert!(line.contains("Permission denied (os error 13)"), "{line}");
    assert!(line.contains("run it as root"), "{line}");
    let names: Vec<_> =
        fs::read_dir(instance.run()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names.iter().any(|name| name.to_string_lossy().starts_with(".psid.sock")),
        "{names:?}"
    );
}

#[test]
fn each_write_has_its_own_nonce() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    let mut nonces = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let before = psid.generation();
        instance.driver(&["cache", "refresh"]).ok();
        psid.await_generation_after(before);
        let file = fs::read(instance.cache()).unwrap();
        let header = 6 + 16 + 2;
        nonces.insert(file[header..header + 12].to_vec());
    }
    assert_eq!(nonces.len(), 4);
}

/// A reader of the file sees a complete generation at every moment: `--verify` reads it back.
#[test]
fn cache_file_is_whole_at_every_moment() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let _psid = instance.start();
    instance.driver(&["cache", "refresh"]).ok();
    instance.driver(&["cache", "status", "--verify"]).report();
    let mut generations = Vec::new();
    std::thread::scope(|scope| {
        let refreshing = scope.spawn(|| {
            for _ in 0..10 {
                instance.driver(&["cache", "refresh"]).ok();
            }
        });
        while !refreshing.is_finished() {
            let status = instance.driver(&["cache", "status", "--verify", "--json"]).report_json();
            assert_eq!(status["verify"]["ok"], true, "{}", status["verify"]["detail"]);
            generations.push(status["generation"].as_u64().unwrap());
            // Other programs, such as a backup, never read half of it.
            let file = fs::read(instance.cache()).unwrap();
            assert!(file.starts_with(b"PSIC\x02\x01") && file.len() > 52, "{} bytes", file.len());
        }
    });
    assert!(generations.is_sorted(), "{generations:?}");
}
