//! `cache.enc` and encrypted literals: the file, and its contents.

use std::time::Duration;

use psi_common::{BackendTag, SecretBytes};
use psi_daemon::testing::cache::{Cache, Policy, Snapshot};
use psi_daemon::testing::crypto::aead::DataKey;
use psi_daemon::testing::crypto::envelope::{
    AadContext, Envelope, EnvelopeError, WrappedKeyHeader,
};
use psi_daemon::testing::crypto::keyring::Keyring;
use psi_daemon::testing::model::clock::{self, Timestamp};
use psi_daemon::testing::storage::payload;

use crate::{Body, assert_words, choice, fixture};

/// The id of the vectors' literal.
const ID: &str = "0f1e2d3c4b5a69788796a5b4c";
const ID_LEN: usize = ID.len();
/// The user of the vectors' literal of a user.
const UID: u32 = 1_000;
const CONTENTS: [AadContext<'_>; 3] =
    [AadContext::Cache, AadContext::Literal(ID), AadContext::UsersLiteral(ID, UID)];

/// 0: a payload that is sealed correctly. 1: a wrapped-key header before a valid body. 2: a file under
/// another id. 3: a user's file under another uid. Anything else is a file itself: those begin with a P.
pub(crate) fn open() -> Body {
    let sealed = Sealed { keyring: keyring(Vec::new()), known: crate::vectors() };
    Box::new(move |input| match choice(input) {
        (0, plaintext) => behind_a_good_seal(&sealed.keyring, plaintext),
        (1, wrapped) => with_wrapped_key(wrapped),
        (2, rest) => sealed.under_another_id(rest),
        (3, rest) => sealed.under_another_uid(rest),
        _ => sealed.file(input),
    })
}

struct Sealed {
    keyring: Keyring,
    /// Every file that is encrypted under the vectors' key.
    known: Vec<Vec<u8>>,
}

fn keyring(wrapped: Vec<u8>) -> Keyring {
    let key = SecretBytes::new(include_bytes!("../../../vectors/key").to_vec());
    let key = DataKey::from_secret(&key).unwrap();
    Keyring::new(key, WrappedKeyHeader { tag: BackendTag::Tpm, bytes: wrapped })
}

impl Sealed {
    /// Only unchanged files open. A fuzzer has these files as seeds, and cannot make another one.
    fn file(&self, file: &[u8]) {
        for content in CONTENTS {
            self.check(content, file);
            if let Ok(envelope) = Envelope::parse(content, file) {
                assert!(envelope.wrapped_key.bytes.len() < file.len());
            }
        }
    }

    fn under_another_id(&self, rest: &[u8]) {
        let Some((id, file)) = rest.split_at_checked(ID_LEN) else { return };
        let id = String::from_utf8_lossy(id);
        for content in [AadContext::Literal(&id), AadContext::UsersLiteral(&id, UID)] {
            let opened = self.check(content, file);
            assert!(!opened || id == ID, "the literal of {ID} opens as {id}");
        }
    }

    /// A user's literal is no other user's, and not root's.
    fn under_another_uid(&self, rest: &[u8]) {
        let Some((uid, file)) = rest.split_first_chunk() else { return };
        let uid = u32::from_be_bytes(*uid);
        let opened = self.check(AadContext::UsersLiteral(ID, uid), file);
        assert!(!opened || uid == UID, "the literal of {UID} opens as the one of {uid}");
        let in_place = [&file[..file.len().min(6)], &rest[..4], file.get(10..).unwrap_or_default()];
        self.check(AadContext::UsersLiteral(ID, uid), &in_place.concat());
    }

    fn check(&self, content: AadContext<'_>, file: &[u8]) -> bool {
        match self.keyring.open(content, file) {
            Ok(_) => {
                assert!(self.known.iter().any(|known| known == file), "a forgery opens");
                true
            }
            Err(error) => {
                assert_words(&error.to_string());
                false
            }
        }
    }
}

/// A sealed envelope opens, with any wrapped-key header.
fn with_wrapped_key(wrapped: &[u8]) {
    let wrapped = &wrapped[..wrapped.len().min(usize::from(u16::MAX))];
    let text = SecretBytes::new(b"text".to_vec());
    let keyring = keyring(wrapped.to_vec());
    for content in CONTENTS {
        let file = keyring.seal(content, &text).unwrap();
        assert_eq!(Envelope::parse(content, &file).unwrap().wrapped_key.bytes, wrapped);
        assert!(keyring.open(content, &file).unwrap().same_as(&text));
    }
}

/// A payload of a later or faulty psid is decoded and survives being written again, or is
/// refused with a reason. Only values in it are served.
fn behind_a_good_seal(keyring: &Keyring, plaintext: &[u8]) {
    let plaintext = SecretBytes::new(plaintext.to_vec());
    let file = keyring.seal(AadContext::Cache, &plaintext).unwrap();
    let opened = keyring.open(AadContext::Cache, &file).unwrap();
    assert!(opened.same_as(&plaintext));
    match payload::decode(&opened) {
        Ok(snapshot) => survives(snapshot),
        Err(error) => {
            assert!(matches!(error, EnvelopeError::Payload(_)), "{error}");
            assert_words(&error.to_string());
        }
    }
}

fn survives(snapshot: Snapshot) {
    let read = payload::decode(&written(&snapshot, 1)).unwrap();
    assert_same(&read, &snapshot);
    let cache = Cache::new(
        Policy {
            enabled: true,
            fresh_for: Duration::from_secs(3_600),
            max_stale: Some(Duration::from_secs(86_400)),
            evict_revoked: true,
        },
        fixture::boot(),
    );
    let generation = snapshot.generation;
    let now = clock::now();
    cache.restore(snapshot, now);
    for (at, entry) in &read.entries {
        assert!(cache.contains(at));
        assert_eq!(entry.value().len(), entry.value().expose_secret().len());
        for span in [Duration::ZERO, Duration::from_secs(86_400), Duration::MAX] {
            let _ = cache.get(at, now.boot.after(span));
            let _ = cache.get(at, now.boot.before(span));
        }
    }
    assert_eq!(cache.fetch_span().is_some(), !read.entries.is_empty());
    // Of two entries for one secret, the cache keeps one.
    let kept = cache.snapshot(generation);
    let read = payload::decode(&written(&kept, 2)).unwrap();
    assert_same(&read.sorted(), &kept.sorted());
}

fn written(snapshot: &Snapshot, at: u64) -> SecretBytes {
    let mut bytes = Vec::new();
    payload::encode(snapshot, Timestamp::from_millis(at), &mut bytes);
    SecretBytes::new(bytes)
}

fn assert_same(one: &Snapshot, other: &Snapshot) {
    assert_eq!((one.generation, one.entries.len()), (other.generation, other.entries.len()));
    for ((at, entry), (other_at, other)) in one.entries.iter().zip(&other.entries) {
        assert_eq!((at, entry.fetched_at()), (other_at, other.fetched_at()));
        assert!(entry.value().same_as(other.value()));
    }
}
