//! The file of a registered reference: its text as podman was given it, behind a line with a checksum.
//! Pure: bytes in, bytes out.
//!
//! ```text
//! psi-reference 1 ID CHECKSUM ⏎ the text, byte for byte
//! psi-reference 2 ID UID CHECKSUM ⏎ the text of a user
//! ```
//!
//! 1 and 2 are the versions of the format. CHECKSUM is the SHA-256 of all the rest, in hexadecimal digits: it
//! finds a flipped bit and a file under another id. It is no proof of origin: whoever can write psid's state
//! directory can point a reference elsewhere. A reference is no secret, and is read without a key.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"psi-reference ";
/// The version of a file without an owner, and of one with an owner.
const VERSIONS: [&str; 2] = ["1", "2"];

/// The parts of a file whose checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub struct ReferenceFile<'a> {
    /// Podman's id.
    pub id: &'a str,
    /// The user that stored it.
    pub owner: Option<u32>,
    /// The text that podman was given.
    pub text: &'a [u8],
}

/// Why a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceFileError {
    /// It does not begin as one.
    #[error("it is neither a reference nor a sealed literal")]
    Foreign,
    /// Its version is not supported.
    #[error("its format is another psid's, or its first line was damaged")]
    Version,
    /// Its checksum is wrong, or its id is another one.
    #[error("it was damaged, or belongs to another id")]
    Damaged,
}

/// The whole file of a reference.
pub fn encode(id: &str, owner: Option<u32>, text: &[u8]) -> Vec<u8> {
    let sum = checksum(id, owner, text);
    let line = match owner {
        None => format!("{} {id} {sum}\n", VERSIONS[0]),
        Some(uid) => format!("{} {id} {uid} {sum}\n", VERSIONS[1]),
    };
    [MAGIC, line.as_bytes(), text].concat()
}

impl<'a> ReferenceFile<'a> {
    /// Parses the file of `id`.
    pub fn parse(id: &str, file: &'a [u8]) -> Result<Self, ReferenceFileError> {
        let found = Self::parse_any(file)?;
        if found.id == id { Ok(found) } else { Err(ReferenceFileError::Damaged) }
    }

    /// Parses the file of any id.
    pub fn parse_any(file: &'a [u8]) -> Result<Self, ReferenceFileError> {
        let rest = file.strip_prefix(MAGIC).ok_or(ReferenceFileError::Foreign)?;
        let (version, line, text) = split(rest).ok_or(ReferenceFileError::Damaged)?;
        if !VERSIONS.contains(&version) {
            return Err(ReferenceFileError::Version);
        }
        let found = parse_line(version, line, text).ok_or(ReferenceFileError::Damaged)?;
        // Also refuses a uid that is written in another way.
        if encode(found.id, found.owner, text) != file {
            return Err(ReferenceFileError::Damaged);
        }
        Ok(found)
    }
}

/// The version, the rest of the first line, and the text.
fn split(rest: &[u8]) -> Option<(&str, &str, &[u8])> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, text) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
    let (version, line) = line.split_once(' ')?;
    Some((version, line, text))
}

fn parse_line<'a>(version: &str, line: &'a str, text: &'a [u8]) -> Option<ReferenceFile<'a>> {
    let (id, rest) = line.split_once(' ')?;
    let owner = match version == VERSIONS[0] {
        true => None,
        false => Some(rest.split_once(' ')?.0.parse().ok()?),
    };
    Some(ReferenceFile { id, owner, text })
}

/// In hexadecimal. No two files have the same bytes here: an id has no blank.
fn checksum(id: &str, owner: Option<u32>, text: &[u8]) -> String {
    let start = match owner {
        None => format!("psi reference 1\0{id} "),
        Some(uid) => format!("psi reference 2\0{id} {uid} "),
    };
    HEXLOWER.encode(&Sha256::new_with_prefix(start).chain_update(text).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef012345678";
    const OTHER: &str = "876543210fedcba9876543210";
    const TEXT: &[u8] = b"{\"provider\":\"infisical\",\n\"key\":\"K\"}\n";

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        for owner in [None, Some(1_000)] {
            let file = encode(ID, owner, TEXT);
            let found = ReferenceFile::parse(ID, &file).unwrap();
            assert_eq!((found.text, found.owner), (TEXT, owner));
            assert!(ReferenceFile::parse(OTHER, &file).is_err());
            for at in 0..file.len() {
                assert!(ReferenceFile::parse(ID, &file[..at]).is_err(), "cut at {at}");
                for bit in 0..8 {
                    let mut bad = file.clone();
                    bad[at] ^= 1u8 << bit;
                    assert!(ReferenceFile::parse(ID, &bad).is_err(), "{at}.{bit}");
                }
            }
            assert!(ReferenceFile::parse(ID, &[&file[..], b"\n"].concat()).is_err());
        }
    }

    #[test]
    fn file_with_another_owner_is_damaged() {
        let file = String::from_utf8(encode(ID, Some(1_000), TEXT)).unwrap();
        for other in [" 1001 ", " 0 ", " 01000 ", " +1000 ", " 4294968296 ", " "] {
            let changed = file.replacen(" 1000 ", other, 1);
            assert!(ReferenceFile::parse(ID, changed.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn each_cause_has_its_own_error() {
        let parse = |file: &[u8]| ReferenceFile::parse_any(file).map(|_| ()).unwrap_err();
        assert_eq!(parse(TEXT), ReferenceFileError::Foreign);
        assert_eq!(parse(b"psi-reference 3 a b\n{}"), ReferenceFileError::Version);
        assert_eq!(parse(b"psi-reference 1 a\n{}"), ReferenceFileError::Damaged);
    }

    proptest! {
        #[test]
        fn text_and_owner_survive_a_round_trip(text in prop::collection::vec(any::<u8>(), 0..100), owner in any::<Option<u32>>()) {
            let file = encode(ID, owner, &text);
            let found = ReferenceFile { id: ID, owner, text: &text };
            prop_assert_eq!(ReferenceFile::parse(ID, &file), Ok(found));
        }

        #[test]
        fn parse_never_panics(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ReferenceFile::parse(ID, &file);
            let _ = ReferenceFile::parse(ID, &[MAGIC, &file].concat());
        }
    }
}
