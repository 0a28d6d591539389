//! `cache init --backend hsm`: the token wraps and signs a key and proves that it opens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{filled, init, instance_on, on, one};
use psi_harness::{Config, Instance, Token, id};

#[test]
fn init_wraps_and_proves_a_key_and_writes_an_empty_cache() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = instance_on(&infisical, &token);
    let output = init(&instance, &token, &[]).text();
    assert!(
        output.contains("the token wrapped and signed a new key, and proved that it opens"),
        "{output}"
    );
    assert!(output.contains(&format!("wrote an empty {}", instance.cache().display())), "{output}");
    assert!(output.contains("recovery key, shown only now"), "{output}");
    assert!(output.contains("\nnext: `systemctl restart psid`\n"), "{output}");
    let cache = fs::read(instance.cache()).unwrap();
    assert!(cache.starts_with(b"PSIC\x02\x02"), "version 2, backend 2");
    assert_eq!(fs::metadata(instance.cache()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!instance.sealed_key().exists(), "that is the tpm backend's");
    let psid = token.on(instance.psid()).start();
    let status = psid.status();
    assert_eq!(status["degraded"], serde_json::json!([]));
    assert_eq!(status["backend"], "hsm");
    assert_eq!((&status["generation"], &status["entries"]), (&1.into(), &0.into()));
}

#[test]
fn init_replaces_a_cache_in_use_only_with_force() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    let cache = fs::read(instance.cache()).unwrap();
    let line = init(&instance, &token, &[]).run();
    assert_ne!(line.code, 0);
    assert!(line.stderr.contains("--force sets it aside"), "{}", line.stderr);
    assert_eq!(fs::read(instance.cache()).unwrap(), cache);
    init(&instance, &token, &["--force"]).ok();
    assert_ne!(fs::read(instance.cache()).unwrap(), cache);
    // Literals contain their wrapped key: another cache does not affect them.
    let psid = token.on(instance.psid()).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

/// Each case leaves the instance unchanged.
#[test]
fn init_without_a_suitable_token_creates_nothing() {
    let infisical = one();
    let check = |instance: &Instance, token: &Token, expected: &str| {
        let line = init(instance, token, &[]).fails(65);
        assert!(line.starts_with("psid: init: ") && line.contains(expected), "{line}");
        assert!(!instance.cache().exists() && !instance.sealed_key().exists());
    };
    let token = Token::kryoptic();
    let instance = instance_on(&infisical, &token);
    token.pull_out();
    check(&instance, &token, "no token has the label 'psi'");
    token.put_back();
    token.give_pin("11111111");
    check(&instance, &token, "the token refused the PIN in ");
    let softhsm = Token::softhsm();
    let instance = instance_on(&infisical, &softhsm);
    check(&instance, &softhsm, "it does RSA-OAEP with SHA-1 only");
    let empty = Token::without_key();
    let instance = instance_on(&infisical, &empty);
    check(&instance, &empty, "the token has no private key with the label 'podman-secrets'");
}

#[test]
fn init_uses_the_token_of_the_config() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical));
    let line = on(&token, instance.driver(&["cache", "init", "--backend", "hsm"])).fails(65);
    assert!(line.contains("names no token; add [providers.pkcs11]"), "{line}");
    instance.configure(&Config::of(&infisical).hsm(&token));
    instance.take_key();
    init(&instance, &token, &[]).ok();
}
