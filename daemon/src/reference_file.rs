//! The file of a registered reference: its text as podman was given it, behind a line that shows that it
//! is still the same. Pure: bytes in, bytes out.
//!
//! ```text
//! psi-reference ID SEAL CHECKSUM ⏎ the text, byte for byte
//! ```
//!
//! A reference is no secret, and is read without a key too: that is how psid serves when its key does not
//! open. But who changes one makes a container get another secret. SEAL is an envelope with nothing
//! inside, in base64, to which the id and the text are bound, or `-` where there is no key backend.
//! CHECKSUM is the SHA-256 of the id, the seal and the text: whoever has no key finds damage by it, though
//! no forgery.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use psi_common::SecretBytes;
use sha2::{Digest, Sha256};

use crate::envelope::{self, BackendPart, Content, EnvelopeError, Vault};

const WORD: &[u8] = b"psi-reference ";
const UNSEALED: &str = "-";

/// A file, taken apart; its checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub struct ReferenceFile<'a> {
    /// Podman's id, which it was written for.
    pub id: &'a str,
    seal: Option<Vec<u8>>,
    /// What podman was given.
    pub text: &'a [u8],
}

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceFileError {
    /// It does not begin as one.
    Foreign,
    /// It was changed, or belongs to another id.
    Damaged,
    /// It has no seal.
    Unsealed,
    /// Its seal does not fit.
    Seal(EnvelopeError),
}

/// The whole file of a reference; it has a seal when there is a vault.
pub fn encode(id: &str, text: &[u8], vault: Option<&Vault>) -> Result<Vec<u8>, getrandom::Error> {
    let seal = match vault {
        Some(vault) => {
            let nothing = SecretBytes::new(Vec::new());
            STANDARD.encode(vault.seal(Content::Reference { id, text }, &nothing)?)
        }
        None => UNSEALED.to_owned(),
    };
    let line = format!("{id} {seal} {}\n", checksum(id, &seal, text));
    Ok([WORD, line.as_bytes(), text].concat())
}

impl<'a> ReferenceFile<'a> {
    /// Takes the file of `id` apart.
    pub fn parse(id: &str, file: &'a [u8]) -> Result<Self, ReferenceFileError> {
        let found = Self::parse_any(file)?;
        if found.id == id { Ok(found) } else { Err(ReferenceFileError::Damaged) }
    }

    /// Takes the file of whatever id apart.
    pub fn parse_any(file: &'a [u8]) -> Result<Self, ReferenceFileError> {
        let rest = file.strip_prefix(WORD).ok_or(ReferenceFileError::Foreign)?;
        Self::parse_rest(rest).ok_or(ReferenceFileError::Damaged)
    }

    fn parse_rest(rest: &'a [u8]) -> Option<Self> {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, text) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
        let (id, line) = line.split_once(' ')?;
        let (seal, sum) = line.split_once(' ')?;
        if sum != checksum(id, seal, text) {
            return None;
        }
        let seal = match seal {
            UNSEALED => None,
            seal => Some(STANDARD.decode(seal).ok()?),
        };
        Some(Self { id, seal, text })
    }

    /// Whether the seal was made with one of the vault's keys, for this id and this text.
    pub fn verify(&self, vault: &Vault) -> Result<(), ReferenceFileError> {
        let seal = self.seal.as_ref().ok_or(ReferenceFileError::Unsealed)?;
        vault.open(self.content(), seal).map(|_| ()).map_err(ReferenceFileError::Seal)
    }

    /// Whether the seal is of the vault's present key, kept in the same way.
    pub fn is_present(&self, vault: &Vault) -> bool {
        self.seal.as_ref().is_some_and(|seal| vault.is_present(self.content(), seal))
    }

    /// The backend's part of the seal, when there is one.
    pub fn backend_part(&self) -> Option<BackendPart> {
        envelope::backend_part(self.seal.as_ref()?)
    }

    fn content(&self) -> Content<'a> {
        Content::Reference { id: self.id, text: self.text }
    }
}

/// In hexadecimal. No two files have the same bytes here: neither an id nor a seal has a blank.
fn checksum(id: &str, seal: &str, text: &[u8]) -> String {
    let digest = Sha256::new_with_prefix(b"psi reference v1\0")
        .chain_update(id)
        .chain_update(b" ")
        .chain_update(seal)
        .chain_update(b" ")
        .chain_update(text)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl ReferenceFileError {
    /// Whether the file may be from before the key: it has no seal, or that of another one.
    pub fn is_from_before(&self) -> bool {
        use EnvelopeError::{OtherBackend, OtherKey};
        matches!(self, Self::Unsealed | Self::Seal(OtherKey | OtherBackend(_)))
    }
}

impl fmt::Display for ReferenceFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is neither a reference nor a sealed literal"),
            Self::Damaged => f.write_str("it was damaged, or belongs to another id"),
            Self::Unsealed => {
                f.write_str("it has no seal: it was stored without a key, or put there by hand")
            }
            Self::Seal(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for ReferenceFileError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealer::DataKey;
    use proptest::prelude::*;
    use psi_common::BackendTag;

    const ID: &str = "0123456789abcdef012345678";
    const OTHER: &str = "876543210fedcba9876543210";
    const TEXT: &[u8] = b"{\"provider\":\"infisical\",\n\"key\":\"K\"}\n";

    fn vault(byte: u8) -> Vault {
        let key = DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap();
        Vault::new(key, BackendPart { tag: BackendTag::Tpm, bytes: b"part".to_vec() })
    }

    fn verify(id: &str, file: &[u8]) -> Result<Vec<u8>, ReferenceFileError> {
        let file = ReferenceFile::parse(id, file)?;
        file.verify(&vault(1)).map(|()| file.text.to_vec())
    }

    /// Any single flipped bit and any truncation is found, by whoever has the key and by whoever has not.
    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        for vault in [Some(vault(1)), None] {
            let file = encode(ID, TEXT, vault.as_ref()).unwrap();
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
    }

    /// The checksum is right in each of these: only the seal tells.
    #[test]
    fn what_was_not_sealed_for_this_id_and_text_is_refused() {
        let sealed = encode(ID, TEXT, Some(&vault(1))).unwrap();
        assert_eq!(verify(ID, &sealed).unwrap(), TEXT);
        let unsealed = encode(ID, TEXT, None).unwrap();
        assert_eq!(verify(ID, &unsealed), Err(ReferenceFileError::Unsealed));
        let other_key = encode(ID, TEXT, Some(&vault(2))).unwrap();
        assert_eq!(verify(ID, &other_key), Err(ReferenceFileError::Seal(EnvelopeError::OtherKey)));
        let with_its_seal = |id: &str, text: &[u8]| {
            let seal = std::str::from_utf8(&sealed).unwrap().split(' ').nth(2).unwrap();
            let sum = checksum(id, seal, text);
            [format!("psi-reference {id} {seal} {sum}\n").as_bytes(), text].concat()
        };
        assert_eq!(with_its_seal(ID, TEXT), sealed);
        let not_authentic = Err(ReferenceFileError::Seal(EnvelopeError::NotAuthentic));
        assert_eq!(verify(OTHER, &with_its_seal(OTHER, TEXT)), not_authentic);
        assert_eq!(verify(ID, &with_its_seal(ID, b"{}")), not_authentic);
    }

    /// The envelope's magic is another one than a literal's: neither is taken for the other.
    #[test]
    fn the_seal_of_a_literal_is_none() {
        let literal = vault(1).seal(Content::Literal(ID), &SecretBytes::new(Vec::new())).unwrap();
        let seal = STANDARD.encode(&literal);
        let sum = checksum(ID, &seal, TEXT);
        let file = [format!("psi-reference {ID} {seal} {sum}\n").as_bytes(), TEXT].concat();
        assert!(matches!(verify(ID, &file), Err(ReferenceFileError::Seal(_))));
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let file = encode(ID, &text, Some(&vault(1))).unwrap();
            prop_assert_eq!(verify(ID, &file), Ok(text));
        }

        #[test]
        fn parsing_is_total(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = verify(ID, &file);
            let _ = verify(ID, &[WORD, &file].concat());
        }
    }
}
