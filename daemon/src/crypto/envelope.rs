//! The format of sealed files: `cache.enc` (version 2) and literals. Pure: bytes in, bytes out.
//!
//! ```text
//! magic (4: "PSIC" the cache, "PSIL" a literal, "PSIU" a user's literal) · version (1: 2) · backend tag (1)
//! · only in a user's literal: the user's uid (4, big-endian) · key id (16) · length of the wrapped-key header (2, big-endian) · wrapped-key header · nonce (12)
//! · AES-256-GCM ciphertext and tag
//! ```
//!
//! All bytes before the ciphertext are authenticated with it, and so is the id of a literal, so that one file cannot
//! stand for another. The wrapped-key header is empty for tpm.
//!
//! The uid is authenticated and not encrypted: a file with another uid does not open. psid must know the owner while no
//! key is open, as in a lockout of the TPM. The owner's lookup then fails with that cause, another user's as one of an
//! unknown id; with an encrypted uid both would get the same answer, a wrong one for one of them. A uid is no secret. A
//! psid that does not know `PSIU` refuses the file, and does not take it for root's.

use psi_common::{BackendTag, CacheHeader, NotACache, SecretBytes};

use crate::crypto::aead::{Aead, KEY_ID_LEN, NONCE_LEN, TAG_LEN};

/// The version of the format.
pub(crate) const VERSION: u8 = 2;

const MAGIC_LITERAL: &[u8; MAGIC_LEN] = b"PSIL";
const MAGIC_USERS_LITERAL: &[u8; MAGIC_LEN] = b"PSIU";
const MAGIC_LEN: usize = 4;

/// What a file holds; authenticated with its content.
#[derive(Clone, Copy, Debug)]
pub enum AadContext<'a> {
    /// The whole cache.
    Cache,
    /// One literal, with its id.
    Literal(&'a str),
    /// One literal of a user, with its id and the user's uid.
    UsersLiteral(&'a str, u32),
}

/// What a key backend needs to open the data key of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeyHeader {
    /// The backend.
    pub tag: BackendTag,
    /// At most 65,535 bytes.
    pub bytes: Vec<u8>,
}

/// A parsed file, not opened.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The wrapped-key header.
    pub wrapped_key: WrappedKeyHeader,
    key_id: [u8; KEY_ID_LEN],
    nonce: [u8; NONCE_LEN],
    header: &'a [u8],
    sealed: &'a [u8],
}

/// A file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It ends too early.
    #[error("it is truncated")]
    Truncated,
    /// It has another format.
    #[error("it is {0}")]
    Foreign(String),
    /// It has an unsupported version.
    #[error("it is of format version {0}, and only {VERSION} is read here")]
    Version(u8),
    /// It is sealed under the key of another backend.
    #[error("it was sealed under the {0} backend's key")]
    OtherBackend(BackendTag),
    /// It is sealed under another key of the same backend.
    #[error("it was sealed under another key")]
    OtherKey,
    /// It was changed after it was sealed, or belongs to another id.
    #[error("it was damaged or tampered with")]
    NotAuthentic,
    /// It opens, and its content is malformed.
    #[error("it opens, and its content is malformed: {0}")]
    Payload(String),
}

/// Seals `plaintext` into a file.
pub(super) fn seal(
    content: AadContext<'_>,
    wrapped_key: &WrappedKeyHeader,
    aead: &Aead,
    plaintext: &SecretBytes,
) -> Result<Vec<u8>, getrandom::Error> {
    let (nonce, mut file) = begin(content, wrapped_key, aead)?;
    let aad = aad(content, &file);
    aead.seal(nonce, &aad, plaintext, &mut file);
    Ok(file)
}

/// The bytes of a file before its ciphertext, and the nonce in them.
pub(super) fn begin(
    content: AadContext<'_>,
    wrapped_key: &WrappedKeyHeader,
    aead: &Aead,
) -> Result<([u8; NONCE_LEN], Vec<u8>), getrandom::Error> {
    let nonce = Aead::nonce()?;
    Ok((nonce, header(content, wrapped_key, aead.key_id(), nonce)))
}

fn header(
    content: AadContext<'_>,
    wrapped_key: &WrappedKeyHeader,
    key_id: [u8; KEY_ID_LEN],
    nonce: [u8; NONCE_LEN],
) -> Vec<u8> {
    let mut header = CacheHeader { version: VERSION, backend: wrapped_key.tag }.to_bytes().to_vec();
    if let Some(magic) = content.magic() {
        header[..MAGIC_LEN].copy_from_slice(magic);
    }
    if let AadContext::UsersLiteral(_, uid) = content {
        header.extend_from_slice(&uid.to_be_bytes());
    }
    header.extend_from_slice(&key_id);
    // A wrapped key and its signature are far below the limit.
    let length = u16::try_from(wrapped_key.bytes.len()).unwrap_or(u16::MAX);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&wrapped_key.bytes[..usize::from(length)]);
    header.extend_from_slice(&nonce);
    header
}

/// The associated data of a file whose bytes before the ciphertext are `header`.
pub(super) fn aad(content: AadContext<'_>, header: &[u8]) -> Vec<u8> {
    match content {
        AadContext::Cache => header.to_vec(),
        AadContext::Literal(id) | AadContext::UsersLiteral(id, _) => {
            [header, id.as_bytes()].concat()
        }
    }
}

impl<'a> Envelope<'a> {
    /// Parses a file.
    pub fn parse(content: AadContext<'_>, file: &'a [u8]) -> Result<Self, EnvelopeError> {
        let tag = match content.magic() {
            None => {
                let header = CacheHeader::parse(file)?;
                if header.version != VERSION {
                    return Err(EnvelopeError::Version(header.version));
                }
                header.backend
            }
            Some(magic) => tag_after(magic, file)?,
        };
        let mut rest = &file[CacheHeader::LEN..];
        if let AadContext::UsersLiteral(_, uid) = content {
            let found;
            (found, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Truncated)?;
            if u32::from_be_bytes(*found) != uid {
                return Err(EnvelopeError::NotAuthentic);
            }
        }
        let (key_id, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Truncated)?;
        let (length, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (wrapped_key, rest) = rest.split_at_checked(length).ok_or(EnvelopeError::Truncated)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(EnvelopeError::Truncated)?;
        if sealed.len() < TAG_LEN {
            return Err(EnvelopeError::Truncated);
        }
        Ok(Self {
            wrapped_key: WrappedKeyHeader { tag, bytes: wrapped_key.to_vec() },
            key_id: *key_id,
            nonce: *nonce,
            header: &file[..file.len() - sealed.len()],
            sealed,
        })
    }

    /// The id of the key that it is sealed under.
    pub(super) fn key_id(&self) -> [u8; KEY_ID_LEN] {
        self.key_id
    }

    /// Decrypts the content.
    pub(super) fn open(
        &self,
        content: AadContext<'_>,
        aead: &Aead,
    ) -> Result<SecretBytes, EnvelopeError> {
        aead.open(self.nonce, &aad(content, self.header), self.sealed)
            .map_err(|_| EnvelopeError::NotAuthentic)
    }
}

/// Whether a file of the registry is a sealed literal.
pub(crate) fn is_literal(file: &[u8]) -> bool {
    file.starts_with(MAGIC_LITERAL) || file.starts_with(MAGIC_USERS_LITERAL)
}

/// The wrapped-key header of any sealed file.
pub(crate) fn wrapped_key_header(file: &[u8]) -> Option<WrappedKeyHeader> {
    let contents = [AadContext::Cache, AadContext::of_literal("", file)];
    contents.into_iter().find_map(|content| Some(Envelope::parse(content, file).ok()?.wrapped_key))
}

impl<'a> AadContext<'a> {
    /// The literal of a user, or of nobody else than root.
    pub(crate) fn literal(id: &'a str, owner: Option<u32>) -> Self {
        owner.map_or(Self::Literal(id), |uid| Self::UsersLiteral(id, uid))
    }

    /// What the file of a literal claims to hold.
    pub(crate) fn of_literal(id: &'a str, file: &[u8]) -> Self {
        if !file.starts_with(MAGIC_USERS_LITERAL) {
            return Self::Literal(id);
        }
        // A file that ends before its uid is root's.
        let uid = file.get(CacheHeader::LEN..).and_then(|rest| rest.first_chunk());
        Self::UsersLiteral(id, uid.map_or(0, |uid| u32::from_be_bytes(*uid)))
    }

    /// The user whose literal it is.
    pub(crate) fn owner(self) -> Option<u32> {
        match self {
            Self::UsersLiteral(_, uid) => Some(uid),
            Self::Cache | Self::Literal(_) => None,
        }
    }

    /// The magic of the file, unless it is a cache.
    fn magic(self) -> Option<&'static [u8; MAGIC_LEN]> {
        match self {
            Self::Cache => None,
            Self::Literal(_) => Some(MAGIC_LITERAL),
            Self::UsersLiteral(..) => Some(MAGIC_USERS_LITERAL),
        }
    }
}

fn tag_after(magic: &[u8; MAGIC_LEN], file: &[u8]) -> Result<BackendTag, EnvelopeError> {
    let (found, rest) = file.split_first_chunk::<MAGIC_LEN>().ok_or(EnvelopeError::Truncated)?;
    if found != magic {
        return Err(EnvelopeError::Foreign(format!(
            "something else: it does not begin with {}",
            magic.escape_ascii()
        )));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::aead::DataKey;
    use crate::crypto::keyring::Keyring;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef012345678";
    const CONTENTS: [AadContext<'_>; 3] =
        [AadContext::Cache, AadContext::Literal(ID), AadContext::UsersLiteral(ID, 1_000)];

    fn aead(byte: u8) -> Aead {
        Aead::new(&DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap())
    }

    fn keyring(tag: BackendTag, byte: u8) -> Keyring {
        let key = DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap();
        Keyring::new(key, WrappedKeyHeader { tag, bytes: b"wrapped".to_vec() })
    }

    fn wrapped_key(bytes: &[u8]) -> WrappedKeyHeader {
        WrappedKeyHeader { tag: BackendTag::Tpm, bytes: bytes.to_vec() }
    }

    fn sealed(content: AadContext<'_>, text: &[u8]) -> Vec<u8> {
        seal(content, &wrapped_key(b"wrapped"), &aead(1), &SecretBytes::new(text.to_vec())).unwrap()
    }

    fn open(content: AadContext<'_>, file: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        keyring(BackendTag::Tpm, 1).open(content, file).map(SecretBytes::into_exposed)
    }

    proptest! {
        #[test]
        fn open_returns_what_was_sealed(text in prop::collection::vec(any::<u8>(), 0..100)) {
            for content in CONTENTS {
                prop_assert_eq!(open(content, &sealed(content, &text)), Ok(text.clone()));
            }
        }

        #[test]
        fn open_rejects_any_flipped_bit(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            for content in CONTENTS {
                let mut file = sealed(content, &text);
                let at = at.index(file.len());
                file[at] ^= 1u8 << bit;
                prop_assert!(open(content, &file).is_err());
            }
        }

        #[test]
        fn open_rejects_any_truncation(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>()) {
            for content in CONTENTS {
                let file = sealed(content, &text);
                prop_assert!(open(content, &file[..at.index(file.len())]).is_err());
            }
        }

        #[test]
        fn parse_never_panics(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(AadContext::Cache, &file);
            let _ = open(AadContext::Cache, &[b"PSIC\x02\x01".as_slice(), &file].concat());
            for magic in [b"PSIL\x02\x01", b"PSIU\x02\x01"] {
                let file = [magic.as_slice(), &file].concat();
                let _ = open(AadContext::of_literal(ID, &file), &file);
                let _ = wrapped_key_header(&file);
            }
        }
    }

    #[test]
    fn open_rejects_a_literal_of_another_id_or_kind() {
        let file = sealed(AadContext::Literal(ID), b"text");
        let other = AadContext::Literal("876543210fedcba9876543210");
        assert_eq!(open(other, &file), Err(EnvelopeError::NotAuthentic));
        assert!(matches!(open(AadContext::Cache, &file), Err(EnvelopeError::Foreign(_))));
        let mut disguised = file.clone();
        disguised[..MAGIC_LEN].copy_from_slice(b"PSIC");
        assert_eq!(open(AadContext::Cache, &disguised), Err(EnvelopeError::NotAuthentic));
    }

    #[test]
    fn users_literal_opens_for_its_owner_only_and_names_it_without_a_key() {
        let content = AadContext::UsersLiteral(ID, 1_000);
        let file = sealed(content, b"text");
        assert_eq!(AadContext::of_literal(ID, &file).owner(), Some(1_000));
        assert_eq!(wrapped_key_header(&file), Some(wrapped_key(b"wrapped")));
        assert_eq!(
            open(AadContext::UsersLiteral(ID, 1_001), &file),
            Err(EnvelopeError::NotAuthentic)
        );
        let mut of_another = file.clone();
        of_another[CacheHeader::LEN + 3] ^= 1;
        let claimed = AadContext::of_literal(ID, &of_another);
        assert_eq!(claimed.owner(), Some(1_001));
        assert_eq!(open(claimed, &of_another), Err(EnvelopeError::NotAuthentic));
        // As root's, with and without the uid.
        for rest in [&file[MAGIC_LEN..], &[&file[MAGIC_LEN..6], &file[10..]].concat()] {
            let roots = [MAGIC_LITERAL, rest].concat();
            assert!(open(AadContext::of_literal(ID, &roots), &roots).is_err());
        }
        let truncated = AadContext::of_literal(ID, &file[..8]);
        assert_eq!(truncated.owner(), Some(0));
        assert_eq!(open(truncated, &file[..8]), Err(EnvelopeError::Truncated));
    }

    #[test]
    fn errors_name_the_cause() {
        let file = sealed(AadContext::Cache, b"text");
        let envelope = Envelope::parse(AadContext::Cache, &file).unwrap();
        assert_eq!(envelope.wrapped_key, wrapped_key(b"wrapped"));
        let open = |tag, key| keyring(tag, key).open(AadContext::Cache, &file).err();
        assert_eq!(open(BackendTag::Hsm, 2), Some(EnvelopeError::OtherBackend(BackendTag::Tpm)));
        assert_eq!(open(BackendTag::Tpm, 2), Some(EnvelopeError::OtherKey));
        // A key that moved to another backend, as after a recovery, opens what it sealed before.
        assert_eq!(open(BackendTag::Hsm, 1), None);
        let version_1 = [b"PSIC\x01\x01".as_slice(), &[0; 40]].concat();
        assert_eq!(
            Envelope::parse(AadContext::Cache, &version_1).err(),
            Some(EnvelopeError::Version(1))
        );
    }

    #[test]
    fn each_file_has_its_own_nonce() {
        assert_ne!(sealed(AadContext::Cache, b"text"), sealed(AadContext::Cache, b"text"));
    }
}
