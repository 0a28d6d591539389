//! The file of a registered reference: its text as podman was given it, behind a line with a checksum.
//! Pure: bytes in, bytes out.
//!
//! ```text
//! psi-reference 1 ID CHECKSUM ⏎ the text, byte for byte
//! ```
//!
//! 1 is the version of the format. CHECKSUM is the SHA-256 of the id and the text, in hexadecimal digits: it
//! finds a flipped bit and a file under another id. It is no proof of origin: whoever can write psid's state
//! directory can point a reference elsewhere. A reference is no secret, and is read without a key.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"psi-reference ";
const VERSION: &str = "1";

/// The parts of a file whose checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub struct ReferenceFile<'a> {
    /// Podman's id.
    pub id: &'a str,
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
pub fn encode(id: &str, text: &[u8]) -> Vec<u8> {
    let line = format!("{VERSION} {id} {}\n", checksum(id, text));
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
        let (version, id, sum, text) = split(rest).ok_or(ReferenceFileError::Damaged)?;
        if version != VERSION {
            return Err(ReferenceFileError::Version);
        }
        if sum != checksum(id, text) {
            return Err(ReferenceFileError::Damaged);
        }
        Ok(Self { id, text })
    }
}

fn split(rest: &[u8]) -> Option<(&str, &str, &str, &[u8])> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, text) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
    let (version, line) = line.split_once(' ')?;
    let (id, sum) = line.split_once(' ')?;
    Some((version, id, sum, text))
}

/// In hexadecimal. No two files have the same bytes here: an id has no blank.
fn checksum(id: &str, text: &[u8]) -> String {
    let digest = Sha256::new_with_prefix(b"psi reference 1\0")
        .chain_update(id)
        .chain_update(b" ")
        .chain_update(text)
        .finalize();
    HEXLOWER.encode(&digest)
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
        let file = encode(ID, TEXT);
        assert_eq!(ReferenceFile::parse(ID, &file).unwrap().text, TEXT);
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

    #[test]
    fn each_cause_has_its_own_error() {
        let parse = |file: &[u8]| ReferenceFile::parse_any(file).map(|_| ()).unwrap_err();
        assert_eq!(parse(TEXT), ReferenceFileError::Foreign);
        assert_eq!(parse(b"psi-reference 2 a b\n{}"), ReferenceFileError::Version);
        assert_eq!(parse(b"psi-reference 1 a\n{}"), ReferenceFileError::Damaged);
    }

    proptest! {
        #[test]
        fn text_survives_a_round_trip(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let file = encode(ID, &text);
            prop_assert_eq!(ReferenceFile::parse(ID, &file).map(|found| found.text), Ok(&text[..]));
        }

        #[test]
        fn parse_never_panics(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ReferenceFile::parse(ID, &file);
            let _ = ReferenceFile::parse(ID, &[MAGIC, &file].concat());
        }
    }
}
