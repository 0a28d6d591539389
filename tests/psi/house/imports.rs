//! Rules 1, 2, 6 and 7: crates, calls and secrets that belong to single files.

use super::source::{Source, sources};

/// `word` is in these files (or below these folders), in each of them, and in no other.
#[track_caller]
fn only_in(word: &str, places: &[&str]) {
    let inside = |source: &Source, place: &str| {
        source.path == place || (place.ends_with('/') && source.path.starts_with(place))
    };
    let found: Vec<Source> = sources().into_iter().filter(|source| source.has(word)).collect();
    let strays: Vec<&str> = found
        .iter()
        .filter(|source| !places.iter().any(|place| inside(source, place)))
        .map(|source| source.path.as_str())
        .collect();
    assert!(strays.is_empty(), "`{word}` belongs to {places:?} and is in {strays:?}");
    for place in places {
        let used = found.iter().any(|source| inside(source, place));
        assert!(used, "`{word}` is no longer in {place}: correct the rule");
    }
}

#[test]
fn rule_1_the_shared_crates_know_neither_program_and_the_programs_not_each_other() {
    let strangers = [
        ("proto/", &["psi_common", "psi_daemon", "psi_driver"][..]),
        ("common/", &["psi_proto", "psi_daemon", "psi_driver"]),
        ("driver/", &["psi_daemon"]),
        ("daemon/", &["psi_driver"]),
    ];
    for (crate_, strangers) in strangers {
        for source in sources().iter().filter(|source| source.path.starts_with(crate_)) {
            for stranger in strangers {
                assert!(!source.has(stranger), "{} names {stranger}", source.path);
            }
        }
        let manifest = psi_harness::repository().join(crate_).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
        for stranger in strangers {
            let name = stranger.replace('_', "-");
            assert!(!dependencies.contains(&name), "{crate_} depends on {name}");
        }
    }
}

#[test]
fn rule_2_each_outside_instance_has_one_room() {
    // The wire. The messages are plain structs, which the driver's verbs print and fill in.
    only_in("tonic", &["daemon/src/grpc/", "proto/src/"]);
    only_in("psi_proto", &["driver/src/", "daemon/src/grpc/"]);
    // Podman, by its command and its files; one lookup of a name besides.
    only_in("Command::new(\"podman\")", &["driver/src/ctl/names.rs", "driver/src/ctl/podman/"]);
    only_in("secrets.json", &["driver/src/ctl/podman/store.rs"]);
    only_in("prost", &["daemon/src/storage/payload.rs", "proto/src/"]);
    // HTTP and TLS.
    only_in("reqwest", &["daemon/src/provider/infisical/"]);
    only_in("rustls", &["daemon/src/provider/infisical/"]);
    only_in("aws_sigv4", &["daemon/src/provider/infisical/auth/aws.rs"]);
    // The cipher.
    only_in("aes_gcm", &["daemon/src/crypto/aead.rs"]);
    only_in(
        "sha2",
        &[
            "daemon/src/legacy/",
            // The coordinates of what has no name but its bytes.
            "daemon/src/provider/pkcs11_sealed.rs",
            "daemon/src/crypto/rsa.rs",
            // A checksum for whoever has no key.
            "daemon/src/registry/reference_file.rs",
            // What is kept of a refused secret.
            "daemon/src/storage/refusals/mod.rs",
            "daemon/src/crypto/aead.rs",
        ],
    );
    only_in("hmac", &["daemon/src/legacy/", "daemon/src/storage/refusals/mod.rs"]);
    only_in("use rsa", &["daemon/src/crypto/rsa.rs"]);
    // The token.
    only_in("cryptoki", &["daemon/src/keys/pkcs11/"]);
    // Config.
    only_in("toml::from_str", &["daemon/src/config/", "daemon/src/cli/doctor/containers_conf.rs"]);
    only_in(
        "serde",
        &[
            "daemon/src/config/",
            "daemon/src/legacy/",
            "daemon/src/provider/infisical/",
            "daemon/src/storage/refusals/mod.rs",
        ],
    );
    // The service manager.
    only_in("libsystemd", &["daemon/src/runtime/listener.rs"]);
    only_in("sd_notify", &["daemon/src/sys/notify.rs"]);
    only_in(
        "systemd-creds",
        &[
            "daemon/src/keys/credential/",
            // Words, of what to do.
            "daemon/src/cli/doctor/sealed.rs",
            "daemon/src/keys/",
            "daemon/src/provider/infisical/auth/universal.rs",
        ],
    );
    // The log.
    only_in("tracing_subscriber", &["daemon/src/sys/logging.rs"]);
}

#[test]
fn rule_6_clock_environment_and_sleep_have_one_owner_each() {
    only_in("SystemTime::now", &["daemon/src/model/clock.rs", "driver/src/ctl/status/mod.rs"]);
    only_in(
        "env::var",
        &[
            "common/src/paths.rs",
            "daemon/src/cli/mod.rs",
            // systemd's own variable for the TPM, as its programs read it.
            "daemon/src/keys/credential/tpm.rs",
        ],
    );
    only_in("env::var_os", &["driver/src/args/mod.rs"]);
    only_in("thread::sleep", &["daemon/src/storage/refusals/mod.rs", "driver/src/client/mod.rs"]);
    for word in ["process::exit", "time::sleep", "env::vars", "set_var", "std::env::args"] {
        assert!(!sources().iter().any(|source| source.has(word)), "{word}");
    }
    // Who may stamp the time: where calls come in, where a task of its own begins, where a file is
    // written or named by it, and where a proof is made or looked at. Whoever is between, gets it as
    // an argument.
    only_in(
        "clock::now",
        &[
            "daemon/src/runtime/",
            "daemon/src/grpc/",
            "daemon/src/runtime/serve.rs",
            "daemon/src/storage/cache_file.rs",
            "daemon/src/provider/infisical/auth/aws.rs",
            "daemon/src/provider/infisical/auth/jwt.rs",
            "daemon/src/storage/refusals/mod.rs",
        ],
    );
}

#[test]
fn rule_7_a_secret_is_exposed_where_it_is_used_and_nowhere_else() {
    only_in(
        "expose_secret",
        &[
            "common/src/secret_bytes.rs",
            "daemon/src/keys/credential/",
            "daemon/src/grpc/driver.rs",
            // The recovery key is shown, once.
            "daemon/src/cli/init.rs",
            // What a provider would expand is told by its bytes.
            "daemon/src/import.rs",
            "daemon/src/keys/",
            "daemon/src/legacy/",
            "daemon/src/storage/payload.rs",
            "daemon/src/keys/pkcs11/",
            "daemon/src/provider/",
            "daemon/src/crypto/rsa.rs",
            "daemon/src/crypto/recovery_key.rs",
            "daemon/src/registry/mod.rs",
            "daemon/src/registry/sealing.rs",
            "daemon/src/crypto/aead.rs",
            // What is stored is told by its look: a reference is JSON.
            "daemon/src/lookup/mod.rs",
            // What a variable cannot hold is told by its bytes.
            "daemon/src/workloads/",
            "driver/src/client/mod.rs",
            // What is to be imported is parsed.
            "driver/src/ctl/import/",
            // A command's environment, and files in RAM.
            "driver/src/ctl/values/",
            // Podman's own records; the file driver's hold values.
            "driver/src/ctl/podman/",
            // What podman asks for, which is no secret, comes the same way.
            "driver/src/stdio.rs",
        ],
    );
    only_in("into_exposed", &["common/src/secret_bytes.rs", "daemon/src/grpc/admin.rs"]);
}

/// Three places tell the kernel what Rust cannot, and one the allocator; a fifth one needs a reason.
#[test]
fn unsafe_code_is_where_it_was_agreed_on() {
    let agreed = [
        "daemon/src/runtime/listener.rs",
        "daemon/src/sys/malloc.rs",
        "driver/src/ctl/podman/lock.rs",
        "driver/src/stdio.rs",
    ];
    only_in("unsafe", &agreed);
    only_in("unsafe_code", &agreed);
}
