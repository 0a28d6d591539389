//! The file of a registered reference, which stands in the clear behind its seal.

use std::fmt::Write;

use psi_common::{BackendTag, SecretBytes};
use psi_daemon::envelope::{BackendPart, Vault};
use psi_daemon::reference_file::{self, ReferenceFile};
use psi_daemon::sealer::DataKey;
use sha2::{Digest, Sha256};

use crate::{Body, assert_words, choice};

/// The vectors' file, and the id that it was written for.
const FILE: &[u8] = include_bytes!("../../../vectors/reference-v1");
const ID: &str = "0f1e2d3c4b5a69788796a5b4d";

/// 0: a text to be sealed. 1: a seal, a new line and a text, under a checksum that is right. Anything else:
/// a file as it stands.
pub(crate) fn open() -> Body {
    let key = SecretBytes::new(include_bytes!("../../../vectors/key").to_vec());
    let key = DataKey::from_secret(&key).unwrap();
    let vault = Vault::new(key, BackendPart { tag: BackendTag::Tpm, bytes: Vec::new() });
    Box::new(move |input| match choice(input) {
        (0, text) => sealed(&vault, text),
        (1, rest) => file(&vault, &with_checksum(rest)),
        _ => file(&vault, input),
    })
}

/// It comes back byte for byte, and for its own id alone.
fn sealed(vault: &Vault, text: &[u8]) {
    for sealed_by in [Some(vault), None] {
        let file = reference_file::encode(ID, text, sealed_by).unwrap();
        let found = ReferenceFile::parse(ID, &file).unwrap();
        assert_eq!((found.id, found.text), (ID, text));
        assert_eq!(found.verify(vault).is_ok(), sealed_by.is_some());
        assert!(ReferenceFile::parse("0123456789abcdef012345678", &file).is_err());
    }
}

/// What the disk's writer can do: the checksum takes no key.
fn with_checksum(rest: &[u8]) -> Vec<u8> {
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (seal, text) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let mut digest = Sha256::new_with_prefix(b"psi reference v1\0");
    for part in [ID.as_bytes(), b" ", seal, b" ", text] {
        digest.update(part);
    }
    let mut sum = String::new();
    for byte in digest.finalize() {
        write!(sum, "{byte:02x}").unwrap();
    }
    [b"psi-reference ", ID.as_bytes(), b" ", seal, b" ", sum.as_bytes(), b"\n", text].concat()
}

/// Nobody without the key makes a file that bears its seal.
fn file(vault: &Vault, file: &[u8]) {
    let verified = ReferenceFile::parse_any(file).and_then(|found| {
        assert!(file.ends_with(found.text));
        found.verify(vault)
    });
    match verified {
        Ok(()) => assert_eq!(file, FILE, "a forgery bears the seal"),
        Err(error) => assert_words(&error.to_string()),
    }
}
