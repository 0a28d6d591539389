//! `psi-driver hsm store`: sealing, and what podman is to be given.

use serde_json::Value;

use psi_harness::{Stage, reference_in};
use psi_harness::{Token, World, id};

/// What podman takes.
const MOST: usize = 511_999;

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_secret_is_sealed_into_a_reference_that_gives_it_back_byte_for_byte() {
    let stage = Stage::new();
    let _psid = stage.start();
    let secrets = [b"x".to_vec(), b"line\n".to_vec(), b"\0'\"\\\r\n\xff".to_vec(), bytes(10_000)];
    for (number, secret) in (1..).zip(&secrets) {
        let reference = stage.seal(secret);
        let members: Value = serde_json::from_str(&reference).unwrap();
        let names: Vec<_> = members.as_object().unwrap().keys().collect();
        assert_eq!(names, ["blob", "provider"]);
        assert_eq!(members["provider"], "nitrokeyhsm");
        stage.register(number, &reference);
        assert_eq!(stage.lookup(number).ok(), *secret);
        assert_eq!(stage.driver(&["get", &reference]).ok(), *secret);
    }
    assert_ne!(stage.seal("one"), stage.seal("one"), "each has a data key of its own");
}

/// Podman's limit holds for the reference, which is longer than the secret.
#[test]
fn what_podman_would_not_take_is_refused_and_the_most_is_named() {
    let stage = Stage::new();
    let _psid = stage.start();
    let store = |secret: Vec<u8>| stage.driver(&["hsm", "store", "boot"]).stdin(secret);
    let line = store(bytes(MOST)).fails(65);
    let (_, rest) =
        line.split_once("a secret of 511999 bytes makes a reference that is longer").unwrap();
    let (_, rest) = rest.split_once("; seal at most ").unwrap();
    let most: usize = rest.split(' ').next().unwrap().parse().unwrap();
    store(bytes(most + 1)).fails(65);
    let secret = bytes(most);
    let reference = reference_in(&store(secret.clone()).text());
    assert!((MOST - 4..=MOST).contains(&reference.len()), "{}", reference.len());
    stage.register(1, &reference);
    assert_eq!(stage.lookup(1).ok(), secret);

    let line = store(bytes(MOST + 1)).fails(65);
    assert!(line.contains("stdin holds more than 511999 bytes"), "{line}");
    let line = store(Vec::new()).fails(65);
    assert!(line.contains("stdin holds nothing"), "{line}");
}

#[test]
fn a_name_that_podman_would_not_take_is_refused_before_anything_is_done() {
    let world = World::empty();
    for name in ["", ".boot", "a b", "a/b", "a'b", "a,b", "a=b", "boot-", &"x".repeat(254)] {
        let line = world.driver(&["hsm", "store", name]).stdin("secret").fails(65);
        assert!(line.contains("podman takes no secret of that name; use "), "{line}");
    }
    // The next thing is psid, and there is none.
    world.driver(&["hsm", "store", "a.b_C-2"]).stdin("secret").fails(69);
}

#[test]
fn what_keeps_psid_from_sealing_is_told_with_its_remedy() {
    let stage = Stage::new();
    let mut psid = stage.start();
    let store = stage.driver(&["hsm", "store", "boot"]).stdin("secret");
    stage.token.pull_out();
    let line = store.fails(75);
    assert!(line.starts_with("psi-driver: hsm store boot: no token has the label 'psi'"), "{line}");
    stage.token.put_back();
    store.ok();

    stage.world.configure(&psi_harness::Config { rest: String::new(), ..stage.config() });
    psid.reload();
    let line = store.fails(65);
    assert!(line.contains("the config has no [providers.nitrokeyhsm]; add it"), "{line}");
    stage.world.configure(&stage.config());
    psid.reload();
    store.ok();
}

/// SoftHSM's key undoes OAEP with SHA-1 only: nothing may be sealed that will not open.
#[test]
fn a_token_that_could_not_open_it_again_is_found_out_at_once() {
    let stage = Stage::with(Token::softhsm());
    let _psid = stage.start();
    let line = stage.driver(&["hsm", "store", "boot"]).stdin("secret").fails(65);
    assert!(line.contains("the token does not undo RSA-OAEP with SHA-256"), "{line}");
    assert!(line.contains("it does RSA-OAEP with SHA-1 only; "), "{line}");
}

#[test]
fn a_reference_that_makes_no_sense_is_refused_without_the_token() {
    let stage = Stage::new();
    let _psid = stage.start();
    for (members, why) in [
        (r#""blob":"*""#, "its \"blob\" is not base64"),
        (r#""blob":"aGVsbG8gd29ybGQ=""#, "its \"blob\" was not sealed by psi"),
        (r#""key":"A""#, "\"key\" is no member of a nitrokeyhsm reference"),
        (r#""blob":1"#, "not every member is a string"),
    ] {
        let reference = format!(r#"{{"provider":"nitrokeyhsm",{members}}}"#);
        let line = stage.driver(&["store"]).id(id(1)).stdin(reference).fails(65);
        assert!(line.contains(why), "{line}");
    }
    assert_eq!(stage.driver(&["list"]).text(), "");
    assert_eq!(stage.token.calls("C_Initialize"), 0);
}
