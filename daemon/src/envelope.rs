//! The file format of what is sealed: `cache.enc` (version 2) and literals. Pure: bytes in, bytes out.
//!
//! ```text
//! magic (4: "PSIC" the cache, "PSIL" a literal) · version (1: 2) · backend tag (1) · key id (16)
//! · length of the backend's part (2, big-endian) · the backend's part · nonce (12)
//! · AES-256-GCM ciphertext and tag
//! ```
//!
//! Every byte before the ciphertext is authenticated with it, and so is the context: a literal's id,
//! which keeps a file from being taken for another's. The backend's part is empty for tpm.

use std::fmt;

use psi_common::{BackendTag, CacheHeader, NotACache, SecretBytes};

use crate::sealer::{DataKey, KEY_ID_LEN, NONCE_LEN, Sealer, TAG_LEN};

/// The version that is written.
pub const VERSION: u8 = 2;

const MAGIC_LITERAL: &[u8; 4] = b"PSIL";
const MAGIC_LEN: usize = 4;

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// The whole cache.
    Cache,
    /// One literal, bound to the text of its id.
    Literal(&'a str),
}

/// The key backend's half of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendPart {
    /// Which backend.
    pub tag: BackendTag,
    /// What it needs to find the data key again: at most 65,535 bytes.
    pub bytes: Vec<u8>,
}

/// A file, taken apart but not opened.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The backend's half of the header.
    pub backend: BackendPart,
    key_id: [u8; KEY_ID_LEN],
    nonce: [u8; NONCE_LEN],
    header: &'a [u8],
    sealed: &'a [u8],
}

/// Why a file cannot be used; each selects one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// It ends too early.
    Truncated,
    /// It is something else.
    Foreign(String),
    /// It is of a version that is not read here.
    Version(u8),
    /// It was sealed under another backend's key.
    OtherBackend(BackendTag),
    /// It was sealed under another key of the same backend.
    OtherKey,
    /// It was changed after it was sealed, or belongs to another id.
    NotAuthentic,
    /// It opens, and what is inside makes no sense.
    Payload(String),
}

/// The key in use, and the header's half that goes with it: whatever is sealed goes through here.
pub struct Vault {
    sealer: Sealer,
    backend: BackendPart,
}

impl Vault {
    /// A vault under `key`, which `backend` keeps.
    pub fn new(key: &DataKey, backend: BackendPart) -> Self {
        Self { sealer: Sealer::new(key), backend }
    }

    /// Seals `plaintext` into a whole file.
    pub fn seal(
        &self,
        content: Content<'_>,
        plaintext: &SecretBytes,
    ) -> Result<Vec<u8>, getrandom::Error> {
        seal(content, &self.backend, &self.sealer, plaintext)
    }

    /// Opens a whole file.
    pub fn open(&self, content: Content<'_>, file: &[u8]) -> Result<SecretBytes, EnvelopeError> {
        Envelope::parse(content, file)?.open(content, self.backend.tag, &self.sealer)
    }
}

fn seal(
    content: Content<'_>,
    backend: &BackendPart,
    sealer: &Sealer,
    plaintext: &SecretBytes,
) -> Result<Vec<u8>, getrandom::Error> {
    let nonce = Sealer::nonce()?;
    let mut file = header(content, backend, sealer.key_id(), nonce);
    let bound = bound(content, &file);
    sealer.seal(nonce, &bound, plaintext, &mut file);
    Ok(file)
}

fn header(
    content: Content<'_>,
    backend: &BackendPart,
    key_id: [u8; KEY_ID_LEN],
    nonce: [u8; NONCE_LEN],
) -> Vec<u8> {
    let mut header = CacheHeader { version: VERSION, backend: backend.tag }.to_bytes().to_vec();
    if matches!(content, Content::Literal(_)) {
        header[..MAGIC_LEN].copy_from_slice(MAGIC_LITERAL);
    }
    header.extend_from_slice(&key_id);
    // A backend's part is a wrapped key and a signature: its maker keeps it far below the limit.
    let length = u16::try_from(backend.bytes.len()).unwrap_or(u16::MAX);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&backend.bytes[..usize::from(length)]);
    header.extend_from_slice(&nonce);
    header
}

fn bound(content: Content<'_>, header: &[u8]) -> Vec<u8> {
    let mut bound = header.to_vec();
    if let Content::Literal(id) = content {
        bound.extend_from_slice(id.as_bytes());
    }
    bound
}

impl<'a> Envelope<'a> {
    /// Takes a file apart.
    pub fn parse(content: Content<'_>, file: &'a [u8]) -> Result<Self, EnvelopeError> {
        let tag = match content {
            Content::Cache => {
                let header = CacheHeader::parse(file)?;
                if header.version != VERSION {
                    return Err(EnvelopeError::Version(header.version));
                }
                header.backend
            }
            Content::Literal(_) => literal_tag(file)?,
        };
        let rest = &file[CacheHeader::LEN..];
        let (key_id, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Truncated)?;
        let (length, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (part, rest) = rest.split_at_checked(length).ok_or(EnvelopeError::Truncated)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(EnvelopeError::Truncated)?;
        if sealed.len() < TAG_LEN {
            return Err(EnvelopeError::Truncated);
        }
        Ok(Self {
            backend: BackendPart { tag, bytes: part.to_vec() },
            key_id: *key_id,
            nonce: *nonce,
            header: &file[..file.len() - sealed.len()],
            sealed,
        })
    }

    /// Opens it under the key of `backend`.
    fn open(
        &self,
        content: Content<'_>,
        backend: BackendTag,
        sealer: &Sealer,
    ) -> Result<SecretBytes, EnvelopeError> {
        if self.backend.tag != backend {
            return Err(EnvelopeError::OtherBackend(self.backend.tag));
        }
        if self.key_id != sealer.key_id() {
            return Err(EnvelopeError::OtherKey);
        }
        sealer
            .open(self.nonce, &bound(content, self.header), self.sealed)
            .map_err(|_| EnvelopeError::NotAuthentic)
    }
}

/// Whether a registration file is a sealed literal; a reference is JSON.
pub fn is_literal(file: &[u8]) -> bool {
    file.starts_with(MAGIC_LITERAL)
}

fn literal_tag(file: &[u8]) -> Result<BackendTag, EnvelopeError> {
    let (magic, rest) = file.split_first_chunk::<MAGIC_LEN>().ok_or(EnvelopeError::Truncated)?;
    if magic != MAGIC_LITERAL {
        return Err(EnvelopeError::Foreign(
            "no sealed literal: it does not begin with PSIL".into(),
        ));
    }
    match rest {
        [VERSION, tag, ..] => {
            BackendTag::try_from(*tag).map_err(|tag| NotACache::UnknownBackend(tag).into())
        }
        [version, _, ..] => Err(EnvelopeError::Version(*version)),
        _ => Err(EnvelopeError::Truncated),
    }
}

impl From<NotACache> for EnvelopeError {
    fn from(error: NotACache) -> Self {
        match error {
            NotACache::Truncated => Self::Truncated,
            other => Self::Foreign(other.to_string()),
        }
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("it is truncated"),
            Self::Foreign(what) => write!(f, "it is {what}"),
            Self::Version(version) => {
                write!(f, "it is of format version {version}, and only {VERSION} is read here")
            }
            Self::OtherBackend(tag) => write!(f, "it was sealed under the {tag} backend's key"),
            Self::OtherKey => f.write_str("it was sealed under another key"),
            Self::NotAuthentic => f.write_str("it was damaged or tampered with"),
            Self::Payload(what) => write!(f, "its content makes no sense: {what}"),
        }
    }
}

impl std::error::Error for EnvelopeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef012345678";

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap())
    }

    fn part(bytes: &[u8]) -> BackendPart {
        BackendPart { tag: BackendTag::Tpm, bytes: bytes.to_vec() }
    }

    fn sealed(content: Content<'_>, text: &[u8]) -> Vec<u8> {
        seal(content, &part(b"part"), &sealer(1), &SecretBytes::new(text.to_vec())).unwrap()
    }

    fn open(content: Content<'_>, file: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let envelope = Envelope::parse(content, file)?;
        envelope.open(content, BackendTag::Tpm, &sealer(1)).map(SecretBytes::into_exposed)
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(text in prop::collection::vec(any::<u8>(), 0..100)) {
            for content in [Content::Cache, Content::Literal(ID)] {
                prop_assert_eq!(open(content, &sealed(content, &text)), Ok(text.clone()));
            }
        }

        #[test]
        fn any_flipped_bit_is_refused(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            for content in [Content::Cache, Content::Literal(ID)] {
                let mut file = sealed(content, &text);
                let at = at.index(file.len());
                file[at] ^= 1u8 << bit;
                prop_assert!(open(content, &file).is_err());
            }
        }

        #[test]
        fn any_truncation_is_refused(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>()) {
            for content in [Content::Cache, Content::Literal(ID)] {
                let file = sealed(content, &text);
                prop_assert!(open(content, &file[..at.index(file.len())]).is_err());
            }
        }

        #[test]
        fn parsing_is_total(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(Content::Cache, &file);
            let _ = open(Content::Cache, &[b"PSIC\x02\x01".as_slice(), &file].concat());
            let _ = open(Content::Literal(ID), &[b"PSIL\x02\x01".as_slice(), &file].concat());
        }
    }

    #[test]
    fn a_literal_of_another_id_or_kind_is_refused() {
        let file = sealed(Content::Literal(ID), b"text");
        let other = Content::Literal("876543210fedcba9876543210");
        assert_eq!(open(other, &file), Err(EnvelopeError::NotAuthentic));
        assert!(matches!(open(Content::Cache, &file), Err(EnvelopeError::Foreign(_))));
        let mut disguised = file.clone();
        disguised[..MAGIC_LEN].copy_from_slice(b"PSIC");
        assert_eq!(open(Content::Cache, &disguised), Err(EnvelopeError::NotAuthentic));
    }

    #[test]
    fn the_cause_is_named() {
        let file = sealed(Content::Cache, b"text");
        let envelope = Envelope::parse(Content::Cache, &file).unwrap();
        assert_eq!(envelope.backend, part(b"part"));
        let open = |tag, key| envelope.open(Content::Cache, tag, &sealer(key)).err();
        assert_eq!(open(BackendTag::Hsm, 1), Some(EnvelopeError::OtherBackend(BackendTag::Tpm)));
        assert_eq!(open(BackendTag::Tpm, 2), Some(EnvelopeError::OtherKey));
        let version_1 = [b"PSIC\x01\x01".as_slice(), &[0; 40]].concat();
        assert_eq!(
            Envelope::parse(Content::Cache, &version_1).err(),
            Some(EnvelopeError::Version(1))
        );
    }

    #[test]
    fn each_write_has_a_nonce_of_its_own() {
        assert_ne!(sealed(Content::Cache, b"text"), sealed(Content::Cache, b"text"));
    }
}
