//! `recovery.enc`, and typed recovery keys.

use psi_common::SecretBytes;
use psi_daemon::testing::crypto::aead::DataKey;
use psi_daemon::testing::crypto::recovery_key::{self, RecoveryKey};

use crate::{Body, assert_words, choice};

/// The vectors' file, and the keys that open it.
const FILE: &[u8] = include_bytes!("../../../vectors/recovery-v1.enc");
const KEY: &[u8] = include_bytes!("../../../vectors/key");
const TYPED: &[u8] = include_bytes!("../../../vectors/recovery-key");
const DIGITS: &[u8] = b"cbdefghijklnrtuv";

/// 0: a typed recovery key. Anything else: a file.
pub(crate) fn open() -> Body {
    let key = DataKey::from_secret(&SecretBytes::new(KEY.to_vec())).unwrap();
    let recovery = RecoveryKey::parse(&SecretBytes::new(TYPED.to_vec())).unwrap();
    Box::new(move |input| match choice(input) {
        (0, typed) => typing(typed),
        _ => file(&recovery, &key, input),
    })
}

/// A key is accepted if it has 64 of the digits, and is returned in its canonical form.
fn typing(typed: &[u8]) {
    let digits: Vec<u8> = typed.to_ascii_lowercase();
    let digits = digits.iter().filter(|digit| !digit.is_ascii_whitespace() && **digit != b'-');
    let digits: Vec<u8> = digits.copied().collect();
    let good = digits.len() == 64 && digits.iter().all(|digit| DIGITS.contains(digit));
    match RecoveryKey::parse(&SecretBytes::new(typed.to_vec())) {
        Ok(key) => {
            assert!(good);
            let text = key.to_text();
            assert_eq!(text.expose_secret().split(|byte| *byte == b'-').flatten().count(), 64);
            assert!(text.expose_secret().iter().filter(|byte| **byte != b'-').eq(&digits));
        }
        Err(error) => {
            assert!(!good, "{error}");
            assert_words(&error.to_string());
        }
    }
}

/// Only unchanged files open or verify.
fn file(recovery: &RecoveryKey, key: &DataKey, file: &[u8]) {
    let outcomes = [
        recovery_key::open(file, recovery).map(|keys| {
            assert!(keys.iter().all(|found| found.to_secret().same_as(&key.to_secret())));
        }),
        recovery_key::check(file, &[key]),
    ];
    for outcome in outcomes {
        match outcome {
            Ok(()) => assert_eq!(file, FILE, "a forgery opens"),
            Err(error) => assert_words(&error.to_string()),
        }
    }
    if let Ok(again) = recovery_key::rewrap(file, &[key], &[key]) {
        recovery_key::check(&again, &[key]).unwrap();
    }
}
