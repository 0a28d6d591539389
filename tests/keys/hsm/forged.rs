//! N20: encryption to a public key does not authenticate the author. The Python PSI accepted any
//! cache that was wrapped for its token.

use std::fs;

use serde_json::json;

use super::{filled, instance_on, one};
use psi_harness::{FakeInfisical, Instance, Probe, Token, bytes, hex, id, reference};

/// The attacker's own data key.
const OWN: [u8; 32] = [7; 32];

/// A cache and a literal of the attacker, encrypted under the attacker's key.
struct Planted {
    cache: Vec<u8>,
    literal: Vec<u8>,
}

/// psid itself makes them, with the tpm backend and the attacker's key as its credential.
fn plant(infisical: &FakeInfisical) -> Planted {
    let instance = Instance::of(infisical);
    instance.give_key(&OWN);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a planted literal").ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "planted");
    psid.terminate();
    let literal = fs::read(instance.state().join("secrets").join(id(2))).unwrap();
    Planted { cache: fs::read(instance.cache()).unwrap(), literal }
}

/// The same two files with the hsm backend's header and this wrapped key.
fn forge(probe: &mut Probe, planted: &Planted, part: &[u8]) -> Planted {
    let mut file = |file: &[u8], literal: Option<String>| {
        let forged = probe.ok(json!({
            "do": "forge", "key": hex(&OWN), "part": hex(part), "file": hex(file), "literal": literal,
        }));
        bytes(&forged["file"])
    };
    Planted { cache: file(&planted.cache, None), literal: file(&planted.literal, Some(id(2))) }
}

fn put(instance: &Instance, forged: &Planted) {
    fs::write(instance.cache(), &forged.cache).unwrap();
    fs::write(instance.state().join("secrets").join(id(2)), &forged.literal).unwrap();
}

/// The attacker's key, wrapped; the public key suffices.
fn wrapped(probe: &mut Probe) -> Vec<u8> {
    bytes(&probe.ok(json!({ "do": "wrap", "key": hex(&OWN) }))["wrapped"])
}

fn part(wrapped: &[u8], signature: &[u8]) -> Vec<u8> {
    [&u16::try_from(wrapped.len()).unwrap().to_be_bytes(), wrapped, signature].concat()
}

/// The signature in a file that psid wrote: the last 256 of the 514 bytes of its wrapped key.
fn genuine_signature(instance: &Instance) -> Vec<u8> {
    fs::read(instance.cache()).unwrap()[24 + 258..24 + 514].to_vec()
}

/// A fake whose value differs from the attacker's.
fn infisical() -> (FakeInfisical, Planted) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "planted"}}));
    let planted = plant(&infisical);
    infisical.put("/myapp", "A", "1");
    (infisical, planted)
}

#[test]
fn n20_cache_forged_with_the_public_key_is_refused() {
    let (mut infisical, planted) = infisical();
    let token = Token::kryoptic();
    let instance = filled(&infisical, &token);
    infisical.kill();
    let mut probe = Probe::of_token(&token);
    let wrapped = wrapped(&mut probe);
    let signatures = [
        // Without a signature, as in the Python PSI; of nothing; of another wrapped key; of an
        // attacker's message that another program signed with the same key.
        Vec::new(),
        vec![0; 256],
        genuine_signature(&instance),
        bytes(&probe.ok(json!({ "do": "sign", "message": hex(&wrapped) }))["signature"]),
    ];
    for signature in signatures {
        let forged = forge(&mut probe, &planted, &part(&wrapped, &signature));
        put(&instance, &forged);
        // Encrypted under the genuine key, by which psid would find it.
        let _ = fs::remove_file(instance.state().join("secrets").join(id(1)));
        let opened = token.calls("C_Decrypt");
        let psid = token.on(instance.psid()).start();
        let degraded = psid.degraded();
        assert!(degraded.contains("is not signed by this token's key: "), "{degraded}");
        assert!(degraded.contains("or is forged; "), "{degraded}");
        for id in [id(1), id(2)] {
            let outcome = instance.driver(&["lookup"]).id(id).run();
            assert_ne!(outcome.code, 0);
            assert_eq!(String::from_utf8_lossy(&outcome.stdout), "", "nothing of the attacker's");
        }
        psid.terminate();
        assert_eq!(token.calls("C_Decrypt"), opened, "nothing was unwrapped");
        assert_eq!(fs::read(instance.cache()).unwrap(), forged.cache, "it stays for what it is");
    }
}

/// The attacker's files beside good ones: psid serves the good ones only.
#[test]
fn n20_forged_file_does_not_affect_good_files() {
    let (mut infisical, planted) = infisical();
    let token = Token::kryoptic();
    let instance = filled(&infisical, &token);
    infisical.kill();
    let genuine = fs::read(instance.state().join("secrets").join(id(2))).unwrap();
    let mut probe = Probe::of_token(&token);
    let part = part(&wrapped(&mut probe), &genuine_signature(&instance));
    put(&instance, &Planted { literal: genuine, ..forge(&mut probe, &planted, &part) });
    let psid = token.on(instance.psid()).start();
    psid.await_log("is not signed by this token's key: ");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert_ne!(instance.driver(&["lookup"]).id(id(1)).run().code, 0);
    assert!(psid.degraded().contains("sealed under another key"), "{}", psid.degraded());
    assert_eq!(instance.set_aside().len(), 1);
}

/// The same forgery with the token's signature is served: only the signature prevents it.
#[test]
fn n20_forged_cache_differs_only_by_its_signature() {
    let (mut infisical, planted) = infisical();
    let token = Token::kryoptic();
    let instance = filled(&infisical, &token);
    infisical.kill();
    let mut probe = Probe::of_token(&token);
    let kept = probe.ok(json!({ "do": "keep", "key": hex(&OWN) }));
    put(&instance, &forge(&mut probe, &planted, &bytes(&kept["part"])));
    let _psid = token.on(instance.psid()).start();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "planted");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a planted literal");
}

/// A token whose private key does not match its public key: psid accepts neither.
#[test]
fn cache_of_another_token_is_reported_as_such() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = instance_on(&infisical, &token);
    let other = filled(&infisical, &Token::kryoptic());
    fs::create_dir(instance.state()).unwrap();
    fs::copy(other.cache(), instance.cache()).unwrap();
    let psid = token.on(instance.psid()).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("it was made with another token or key, or is forged"), "{degraded}");
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1", "live");
}
