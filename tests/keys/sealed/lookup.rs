//! Lookups of sealed secrets: decrypted by the token once, then served from RAM, never written.

use std::fs;

use serde_json::Value;

use psi_harness::SealedFixture;
use psi_harness::{PIN, Token, directory_holds, eventually, repository};

const SECRET: &[u8] = b"the bootstrap secret that is nowhere but in the token's care";

/// A reference with changed bytes in its blob.
fn damaged(reference: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut members: Value = serde_json::from_str(reference).unwrap();
    let mut blob = decode(members["blob"].as_str().unwrap());
    change(&mut blob);
    members["blob"] = encode(&blob).into();
    members.to_string()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn decode(text: &str) -> Vec<u8> {
    let digit = |byte| ALPHABET.iter().position(|known| *known == byte);
    let digits: Vec<_> = text.bytes().filter_map(digit).collect();
    let decode = |four: &[usize]| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        [bits >> 16, bits >> 8, bits]
            .into_iter()
            .take(four.len() - 1)
            .map(|byte| byte as u8)
            .collect::<Vec<_>>()
    };
    digits.chunks(4).flat_map(decode).collect()
}

fn encode(bytes: &[u8]) -> String {
    let encode = |three: &[u8]| {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - three.len()));
        let digit = |place: usize| match place <= three.len() {
            true => char::from(ALPHABET[bits >> (18 - 6 * place) & 63]),
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(encode).collect()
}

#[test]
fn base64_matches_known_values() {
    for (bytes, text) in
        [(&b"fo"[..], "Zm8="), (b"foo", "Zm9v"), (b"foob\xff\0", "Zm9vYv8A"), (b"f", "Zg==")]
    {
        assert_eq!((encode(bytes).as_str(), decode(text).as_slice()), (text, bytes));
    }
}

#[test]
fn sealed_secret_is_decrypted_once_and_served_from_ram() {
    let fixture = SealedFixture::with_kryoptic();
    let psid = fixture.start();
    let sealed = fixture.seal(SECRET);
    let proven = fixture.token.calls("C_Decrypt");
    assert!(proven > 0, "sealing proves that it opens");
    fixture.register(1, &sealed);
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    let opened = fixture.token.calls("C_Decrypt");
    assert!(opened > proven);
    fixture.token.pull_out();
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    assert_eq!(fixture.token.calls("C_Decrypt"), opened);
    let status = psid.status();
    assert_eq!((&status["hits"], &status["misses"]), (&1.into(), &1.into()));
    assert_eq!(status["degraded"], serde_json::json!([]));
    // It needs no network now; after a reboot it needs the token.
    assert_eq!((&status["serves_now"], &status["survives_outage"]), (&true.into(), &false.into()));
    fixture.token.put_back();
    assert_eq!(fixture.lookup(1).ok(), SECRET);
}

/// A4: a token that was not used yet, or fails, is not reported as available.
#[test]
fn token_availability_is_unknown_before_the_first_use() {
    let fixture = SealedFixture::with_kryoptic();
    let psid = fixture.start();
    fixture.register(1, &fixture.seal(SECRET));
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    let status = psid.status();
    assert_eq!((&status["serves_now"], &status["survives_outage"]), (&true.into(), &true.into()));
    psid.terminate();
    let psid = fixture.start();
    let status = psid.status();
    let null = Value::Null;
    assert_eq!((&status["serves_now"], &status["survives_outage"]), (&null, &null));
    assert_eq!((&status["unknown_count"], &status["providers"][0]["up"]), (&1.into(), &null));
    let why = status["unknown_reasons"][0].as_str().unwrap();
    assert!(why.contains("`psictl hsm status` tests it"), "{why}");
    let text = fixture.instance.driver(&["cache", "status"]).report();
    assert!(text.contains("UNKNOWN of ") && !text.contains("would serve every"), "{text}");
    let drill = fixture.instance.driver(&["drill", "--for", "1s"]).run();
    assert_eq!(drill.code, 1, "{}", drill.stderr);
    let metrics = fixture.instance.driver(&["metrics"]).text();
    for line in [
        "psi_survives_outage{when=\"after_reboot\"} NaN",
        "psi_unknown_secrets{when=\"now\"} 1",
        "psi_would_fail_secrets{when=\"now\"} 0",
        "psi_provider_up{provider=\"pkcs11\"} NaN",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    psid.terminate();
    fixture.token.pull_out();
    let psid = fixture.start();
    fixture.lookup(1).fails(75);
    let status = psid.status();
    assert_eq!((&status["serves_now"], &status["survives_outage"]), (&false.into(), &false.into()));
    assert_eq!(fixture.instance.driver(&["cache", "status"]).run().code, 1);
}

/// The secret was sealed to the token only: the cache key must not suffice to read it.
#[test]
fn decrypted_secret_is_kept_in_ram_only() {
    let fixture = SealedFixture::with_kryoptic();
    let psid = fixture.start();
    fixture.register(1, &fixture.seal(SECRET));
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    // A store writes all pending changes, so the decrypted value would be on the disk by now.
    fixture.register(2, "a literal");
    assert_eq!(psid.status()["entries"], 1);
    psid.terminate();
    assert_eq!(directory_holds(fixture.instance.directory(), SECRET), None);

    fixture.token.pull_out();
    let psid = fixture.start();
    assert_eq!(psid.status()["entries"], 0);
    let line = fixture.lookup(1).fails(75);
    assert!(line.contains("pkcs11 is out: no token has the label 'psi'"), "{line}");
    assert!(line.contains("and the value is not cached; try again when pkcs11 is back"), "{line}");
    assert_eq!(fixture.lookup(2).ok(), b"a literal");
    fixture.token.put_back();
    let found = eventually("the token to be found again", || {
        let outcome = fixture.lookup(1).run();
        (outcome.code == 0).then_some(outcome.stdout)
    });
    assert_eq!(found, SECRET);
}

/// The blob never changes, so its value has no age.
#[test]
fn sealed_secret_never_expires() {
    let fixture = SealedFixture::with_kryoptic();
    let config = fixture.config().short_lived().cache("max_stale = \"1s\"");
    fixture.instance.configure(&config);
    let psid = fixture.start();
    fixture.register(1, &fixture.seal(SECRET));
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    fixture.token.pull_out();
    let opened = psid.status()["newest_fetch_ms"].as_u64().unwrap();
    let opened = std::time::UNIX_EPOCH + std::time::Duration::from_millis(opened);
    eventually("it to be older than max_stale", || {
        opened.elapsed().ok().filter(|age| age.as_secs() >= 2)
    });
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    assert_eq!(psid.status()["misses"], 1);
}

#[test]
fn invalidated_entry_is_decrypted_again() {
    let fixture = SealedFixture::with_kryoptic();
    let _psid = fixture.start();
    let reference = fixture.seal(SECRET);
    fixture.register(1, &reference);
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    fixture.driver(&["cache", "invalidate", &reference]).ok();
    let before = fixture.token.calls("C_Decrypt");
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    let after = fixture.token.calls("C_Decrypt");
    assert!(after > before);
    // Two registrations of one blob share one value.
    fixture.register(2, &reference);
    assert_eq!(fixture.lookup(2).ok(), SECRET);
    assert_eq!(fixture.token.calls("C_Decrypt"), after);
}

/// `tests/vectors/python-psi`: what the Python PSI sealed, psid opens.
#[test]
fn secret_sealed_by_the_python_psi_is_decrypted() {
    let id = "36f34945849c779b9bfe26588";
    let vectors = repository().join("tests/vectors/python-psi");
    let mapping = fs::read(vectors.join("secrets").join(id)).unwrap();
    let expected: Value =
        serde_json::from_slice(&fs::read(vectors.join("expected.json")).unwrap()).unwrap();
    let fixture = SealedFixture::with(Token::of_the_vectors());
    let _psid = fixture.start();
    fixture.driver(&["store"]).id(id).stdin(mapping).ok();
    let value = fixture.driver(&["lookup"]).id(id).ok();
    assert_eq!(encode(&value), expected[id].as_str().unwrap());
}

/// Three wrong PINs lock a token: psid tries each PIN once.
#[test]
fn wrong_pin_is_reported_and_not_retried_until_it_changes() {
    let fixture = SealedFixture::with_kryoptic();
    let psid = fixture.start();
    fixture.register(1, &fixture.seal(SECRET));
    psid.terminate();
    let logins = fixture.token.calls("C_Login");

    fixture.token.give_pin("00000000");
    let psid = fixture.start();
    for _ in 0..5 {
        let line = fixture.lookup(1).fails(75);
        assert!(line.contains("psid cannot log in to pkcs11"), "{line}");
        assert!(
            line.contains("the token refused the PIN in ") && line.contains("CKR_PIN_INCORRECT"),
            "{line}"
        );
    }
    assert_eq!(fixture.token.calls("C_Login"), logins + 1);
    let degraded = psid.degraded();
    assert!(degraded.contains("the token refused the PIN in "), "{degraded}");
    assert!(!degraded.contains("00000000"), "{degraded}");

    fixture.token.give_pin(PIN);
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    assert_eq!(fixture.token.calls("C_Login"), logins + 2);
    assert_eq!(psid.degraded(), "");
}

/// Not "no such secret": the reference is invalid, and an admin must correct it.
#[test]
fn damaged_or_foreign_blob_fails_alone() {
    let fixture = SealedFixture::with_kryoptic();
    let mut psid = fixture.start();
    let good = fixture.seal(SECRET);
    let foreign = {
        let other = SealedFixture::with_kryoptic();
        let _psid = other.start();
        other.seal(SECRET)
    };
    let last = |blob: &mut Vec<u8>| *blob.last_mut().unwrap() ^= 1;
    for (number, reference, why) in [
        (1, damaged(&good, last), "the sealed blob is not usable: it was damaged or tampered with"),
        (2, damaged(&good, |blob| blob[100] ^= 1), "the token cannot decrypt the data"),
        (3, foreign, "the token cannot decrypt the data"),
    ] {
        fixture.register(number, &reference);
        let line = fixture.lookup(number).fails(75);
        assert!(line.contains("pkcs11 rejects the request") && line.contains(why), "{line}");
        assert!(psid.degraded().contains(why), "{}", psid.degraded());
    }
    fixture.register(4, &good);
    assert_eq!(fixture.lookup(4).ok(), SECRET);
    assert_eq!(psid.degraded(), "");

    // The token does not get the same blob again until an admin asks for it.
    let tries = fixture.token.calls("C_Decrypt");
    for _ in 0..3 {
        fixture.lookup(2).fails(75);
    }
    assert_eq!(fixture.token.calls("C_Decrypt"), tries);
    psid.reload();
    fixture.lookup(2).fails(75);
    assert!(fixture.token.calls("C_Decrypt") > tries);
}

/// A hanging module delays only lookups that need the token.
#[test]
fn hanging_token_delays_no_other_lookup() {
    let fixture = SealedFixture::with_kryoptic();
    let psid = fixture.start();
    fixture.register(1, &fixture.seal(SECRET));
    fixture.register(2, &fixture.seal("another"));
    fixture.register(3, "a literal");
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    fixture.token.break_with("hang-C_Decrypt", "");
    let line = fixture.lookup(2).fails(75);
    assert!(line.contains("pkcs11 does not answer: "), "{line}");
    assert_eq!(fixture.lookup(1).ok(), SECRET);
    assert_eq!(fixture.lookup(3).ok(), b"a literal");
    assert_eq!(psid.status()["daemon"], "up");
    fixture.token.repair("hang-C_Decrypt");
    let found = eventually("the token to answer", || {
        let outcome = fixture.lookup(2).run();
        (outcome.code == 0).then_some(outcome.stdout)
    });
    assert_eq!(found, b"another");
}
