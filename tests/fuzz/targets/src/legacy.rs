//! Files of the Python PSI: version 1 of `cache.enc`, the hybrid envelope in it, and mappings.

use psi_common::SecretBytes;
use psi_daemon::testing::crypto::aead::{Aead, DataKey};
use psi_daemon::testing::crypto::hybrid::Hybrid;
use psi_daemon::testing::legacy::{self, LegacyError, SealedCache, mapping};
use psi_daemon::testing::model::reference::Reference;

use crate::{Body, assert_words, choice};

const HEADER: &[u8] = b"PSIC\x01\x01";
const NONCE: [u8; 12] = [7; 12];

/// 0: a mapping. 1: correctly sealed JSON. 2: a hybrid envelope. Anything else: a file.
pub(crate) fn open() -> Body {
    let key = SecretBytes::new(include_bytes!("../../../vectors/key").to_vec());
    let key = DataKey::from_secret(&key).unwrap();
    let known = crate::vectors();
    Box::new(move |input| match choice(input) {
        (0, bytes) => mapped(bytes),
        (1, json) => behind_a_good_seal(&key, json),
        (2, envelope) => hybrid(envelope),
        _ => file(&key, &known, input),
    })
}

/// A mapping is a reference, and its canonical form is equivalent ASCII JSON.
fn mapped(bytes: &[u8]) {
    match mapping::parse(bytes) {
        Ok(reference) => {
            assert_eq!(Reference::parse(bytes).as_ref(), Some(&reference));
            let canonical = mapping::canonical(&reference);
            assert!(canonical.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{canonical}");
            assert_eq!(Reference::parse(canonical.as_bytes()), Some(reference));
        }
        Err(error) => assert_words(&error.to_string()),
    }
}

fn behind_a_good_seal(key: &DataKey, json: &[u8]) {
    let mut file = [HEADER, &NONCE].concat();
    Aead::new(key).seal(NONCE, &[], &SecretBytes::new(json.to_vec()), &mut file);
    assert!(legacy::is_old_cache(&file));
    let cache = match SealedCache::parse(&file).unwrap().open(key) {
        Ok(cache) => cache,
        Err(error) => {
            assert!(!matches!(error, LegacyError::Truncated | LegacyError::NotAuthentic));
            return assert_words(&error.to_string());
        }
    };
    let mapping = Reference::new("infisical", [("project", "p"), ("path", "/"), ("key", "K")]);
    let (entries, named) = (cache.len(), cache.value(&mapping).is_some());
    let mapped = cache.by_mapping([&mapping, &mapping]);
    assert_eq!(
        (mapped.found.len(), mapped.without_mapping),
        (named.into(), entries - usize::from(named))
    );
}

/// It is split at its lengths, and no byte may remain.
fn hybrid(bytes: &[u8]) {
    match Hybrid::parse(bytes) {
        Ok(envelope) => {
            let length = u16::from_be_bytes([bytes[0], bytes[1]]).into();
            assert_eq!(envelope.wrapped(), &bytes[2..][..length]);
            assert!(envelope.open(&DataKey::generate().unwrap()).is_err());
        }
        Err(error) => assert_words(&error.to_string()),
    }
}

/// The header of version 1 is not authenticated; the rest is.
fn file(key: &DataKey, known: &[Vec<u8>], file: &[u8]) {
    match SealedCache::parse(file).and_then(|sealed| sealed.open(key)) {
        Ok(_) => {
            assert!(known.iter().any(|known| known.get(6..) == file.get(6..)), "a forgery opens");
        }
        Err(error) => assert_words(&error.to_string()),
    }
}
