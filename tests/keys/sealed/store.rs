//! `psictl hsm store`: sealing, and the printed `podman secret create` command.

use serde_json::Value;

use psi_harness::{Instance, Token, id};
use psi_harness::{SealedFixture, reference_in};

/// The largest secret that podman accepts.
const MOST: usize = 511_999;

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn reference_by_the_former_provider_name_is_looked_up() {
    let fixture = SealedFixture::with_kryoptic();
    let _psid = fixture.start();
    let former = fixture.seal("s3cret").replace("pkcs11", "nitrokeyhsm");
    fixture.register(1, &former);
    assert_eq!(fixture.lookup(1).ok(), b"s3cret");
    assert_eq!(fixture.driver(&["get", &former]).ok(), b"s3cret");
}

#[test]
fn sealed_secret_is_returned_byte_for_byte() {
    let fixture = SealedFixture::with_kryoptic();
    let _psid = fixture.start();
    let secrets = [b"x".to_vec(), b"line\n".to_vec(), b"\0'\"\\\r\n\xff".to_vec(), bytes(10_000)];
    for (number, secret) in (1..).zip(&secrets) {
        let reference = fixture.seal(secret);
        let members: Value = serde_json::from_str(&reference).unwrap();
        let names: Vec<_> = members.as_object().unwrap().keys().collect();
        assert_eq!(names, ["blob", "provider"]);
        assert_eq!(members["provider"], "pkcs11");
        fixture.register(number, &reference);
        assert_eq!(fixture.lookup(number).ok(), *secret);
        assert_eq!(fixture.driver(&["get", &reference]).ok(), *secret);
    }
    assert_ne!(fixture.seal("one"), fixture.seal("one"), "each has a data key of its own");
}

/// Podman's limit holds for the reference, which is longer than the secret.
#[test]
fn secret_too_large_for_podman_is_refused_with_the_limit() {
    let fixture = SealedFixture::with_kryoptic();
    let _psid = fixture.start();
    let store = |secret: Vec<u8>| fixture.driver(&["hsm", "store", "boot"]).stdin(secret);
    let line = store(bytes(MOST)).fails(65);
    let (_, rest) = line
        .split_once("the reference for a secret of 511999 bytes exceeds podman's size limit")
        .unwrap();
    let (_, rest) = rest.split_once("; seal at most ").unwrap();
    let most: usize = rest.split(' ').next().unwrap().parse().unwrap();
    store(bytes(most + 1)).fails(65);
    let secret = bytes(most);
    let reference = reference_in(&store(secret.clone()).text());
    assert!((MOST - 4..=MOST).contains(&reference.len()), "{}", reference.len());
    fixture.register(1, &reference);
    assert_eq!(fixture.lookup(1).ok(), secret);

    let line = store(bytes(MOST + 1)).fails(65);
    assert!(line.contains("stdin holds more than 511999 bytes"), "{line}");
    let line = store(Vec::new()).fails(65);
    assert!(line.contains("stdin is empty"), "{line}");
}

#[test]
fn name_invalid_for_podman_is_refused_first() {
    let instance = Instance::empty();
    for name in ["", ".boot", "a b", "a/b", "a'b", "a,b", "a=b", "boot-", &"x".repeat(254)] {
        let line = instance.driver(&["hsm", "store", name]).stdin("secret").fails(65);
        assert!(line.contains("not every podman accepts a secret of that name; use "), "{line}");
    }
    // The next step needs psid, which is not running.
    instance.driver(&["hsm", "store", "a.b_C-2"]).stdin("secret").fails(69);
}

#[test]
fn seal_failure_is_reported_with_its_remedy() {
    let fixture = SealedFixture::with_kryoptic();
    let mut psid = fixture.start();
    let store = fixture.driver(&["hsm", "store", "boot"]).stdin("secret");
    fixture.token.pull_out();
    let line = store.fails(75);
    assert!(line.starts_with("psictl: hsm store boot: no token has the label 'psi'"), "{line}");
    fixture.token.put_back();
    store.ok();

    fixture.instance.configure(&psi_harness::Config { rest: String::new(), ..fixture.config() });
    psid.reload();
    let line = store.fails(65);
    assert!(line.contains("the config has no [providers.pkcs11]; add it"), "{line}");
    fixture.instance.configure(&fixture.config());
    psid.reload();
    store.ok();
}

/// SoftHSM's key decrypts OAEP with SHA-1 only: psid seals nothing that does not open.
#[test]
fn seal_verifies_that_the_token_can_decrypt() {
    let fixture = SealedFixture::with(Token::softhsm());
    let _psid = fixture.start();
    let line = fixture.driver(&["hsm", "store", "boot"]).stdin("secret").fails(65);
    assert!(line.contains("the token does not decrypt RSA-OAEP with SHA-256"), "{line}");
    assert!(line.contains("it does RSA-OAEP with SHA-1 only; "), "{line}");
}

#[test]
fn malformed_reference_is_refused_without_the_token() {
    let fixture = SealedFixture::with_kryoptic();
    let _psid = fixture.start();
    for (members, why) in [
        (r#""blob":"*""#, "its \"blob\" is not base64"),
        (r#""blob":"aGVsbG8gd29ybGQ=""#, "its \"blob\" was not sealed by psi"),
        (r#""key":"A""#, "\"key\" is not a member of a pkcs11 reference"),
        (r#""blob":1"#, "not every member is a string"),
    ] {
        let reference = format!(r#"{{"provider":"pkcs11",{members}}}"#);
        let line = fixture.driver(&["store"]).id(id(1)).stdin(reference).fails(65);
        assert!(line.contains(why), "{line}");
    }
    assert_eq!(fixture.driver(&["list"]).text(), "");
    assert_eq!(fixture.token.calls("C_Initialize"), 0);
}
