//! Rekey and recovery of a data key that a token wraps.

use std::fs;

use super::{filled, init, instance_on, one};
use psi_harness::{Config, Instance, Token, id, reference};

/// The backend's part of a file's header; see envelope.rs.
fn part(file: &[u8]) -> &[u8] {
    let length = usize::from(u16::from_be_bytes([file[22], file[23]]));
    &file[24..24 + length]
}

fn literal(instance: &Instance) -> Vec<u8> {
    fs::read(instance.state().join("secrets").join(id(2))).unwrap()
}

#[test]
fn every_file_has_the_wrapped_key() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    let cache = fs::read(instance.cache()).unwrap();
    assert_eq!(part(&cache).len(), 2 + 256 + 256, "length, wrapping, signature");
    assert_eq!(part(&cache), part(&literal(&instance)));
    // Without a cache, the literals open nevertheless.
    fs::remove_file(instance.cache()).unwrap();
    let _psid = token.on(instance.psid()).start();
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

#[test]
fn rekey_replaces_the_wrapped_key_of_every_file() {
    let (mut infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    infisical.kill();
    let old = part(&literal(&instance)).to_vec();
    let psid = token.on(instance.psid()).start();
    instance.driver(&["cache", "rekey"]).ok();
    psid.terminate();
    for file in [fs::read(instance.cache()).unwrap(), literal(&instance)] {
        assert_ne!(part(&file), old);
    }
    let psid = token.on(instance.psid()).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

/// The token is lost and replaced by another.
#[test]
fn other_token_opens_nothing_until_recovery() {
    let (mut infisical, token) = (one(), Token::kryoptic());
    let instance = instance_on(&infisical, &token);
    let output = init(&instance, &token, &[]).text();
    let recovery = output.lines().map(str::trim).find(|line| line.len() == 71).unwrap().to_owned();
    let psid = token.on(instance.psid()).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.terminate();
    infisical.kill();
    let other = Token::kryoptic();
    instance.configure(&Config::of(&infisical).hsm(&other));
    let psid = other.on(instance.psid()).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("is not signed by this token's key: "), "{degraded}");
    assert!(degraded.contains("psictl cache recover"), "{degraded}");
    instance.driver(&["cache", "recover"]).stdin(format!("{recovery}\n")).ok();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid.terminate();
    let psid = other.on(instance.psid()).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}
