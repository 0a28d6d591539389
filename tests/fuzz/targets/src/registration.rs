//! The file of a registered reference, in plaintext after a checksum.

use data_encoding::HEXLOWER;
use psi_daemon::testing::registry::reference_file::{self, ReferenceFile};
use sha2::{Digest, Sha256};

use crate::{Body, assert_words, choice};

/// The vectors' files, and the id that they were written for.
const FILE: &[u8] = include_bytes!("../../../vectors/reference-1");
const USERS_FILE: &[u8] = include_bytes!("../../../vectors/reference-2");
const ID: &str = "0f1e2d3c4b5a69788796a5b4d";

/// 0: a text to register, by root and by a user. 1: a version, a line end and a text, with a right checksum. 2: a version
/// and a uid, a line end and a text, with a right checksum. Anything else: a file itself.
pub(crate) fn open() -> Body {
    assert_eq!(ReferenceFile::parse(ID, FILE).unwrap().owner, None);
    assert_eq!(ReferenceFile::parse(ID, USERS_FILE).unwrap().owner, Some(1_000));
    Box::new(move |input| match choice(input) {
        (0, text) => {
            registered(text, None);
            registered(text, Some(text.len() as u32));
        }
        (1, rest) => file(&with_checksum(rest)),
        (2, rest) => file(&users_with_checksum(rest)),
        _ => file(input),
    })
}

/// A text is read back byte for byte, for its own id only.
fn registered(text: &[u8], owner: Option<u32>) {
    let file = reference_file::encode(ID, owner, text);
    let found = ReferenceFile::parse(ID, &file).unwrap();
    assert_eq!((found.id, found.owner, found.text), (ID, owner, text));
    assert!(ReferenceFile::parse("0123456789abcdef012345678", &file).is_err());
    // A flipped bit is detected anywhere.
    let at = text.len() * 7 % file.len();
    let mut bad = file;
    bad[at] ^= 1 << (at % 8);
    assert!(ReferenceFile::parse(ID, &bad).is_err(), "{at}");
}

fn with_checksum(rest: &[u8]) -> Vec<u8> {
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (version, text) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let mut digest = Sha256::new_with_prefix(b"psi reference 1\0");
    for part in [ID.as_bytes(), b" ", text] {
        digest.update(part);
    }
    let sum = HEXLOWER.encode(&digest.finalize());
    [b"psi-reference ", version, b" ", ID.as_bytes(), b" ", sum.as_bytes(), b"\n", text].concat()
}

/// The first line has a version and a uid.
fn users_with_checksum(rest: &[u8]) -> Vec<u8> {
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (line, text) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
    let blank = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (version, uid) = (&line[..blank], line.get(blank + 1..).unwrap_or_default());
    let signed = [b"psi reference 2\0", ID.as_bytes(), b" ", uid, b" ", text].concat();
    let sum = HEXLOWER.encode(&Sha256::digest(signed));
    let parts: [&[u8]; 9] =
        [b"psi-reference ", version, b" ", ID.as_bytes(), b" ", uid, b" ", sum.as_bytes(), b"\n"];
    [&parts.concat(), text].concat()
}

/// A file that is read equals the one that would be written.
fn file(file: &[u8]) {
    match ReferenceFile::parse_any(file) {
        Ok(found) => assert_eq!(file, reference_file::encode(found.id, found.owner, found.text)),
        Err(error) => assert_words(&error.to_string()),
    }
}
