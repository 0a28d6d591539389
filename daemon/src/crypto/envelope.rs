//! The file format of what is sealed: `cache.enc` (version 2) and literals. Pure: bytes in, bytes out.
//!
//! ```text
//! magic (4: "PSIC" the cache, "PSIL" a literal) · version (1: 2) · backend tag (1) · key id (16)
//! · length of the backend's part (2, big-endian) · the backend's part · nonce (12)
//! · AES-256-GCM ciphertext and tag
//! ```
//!
//! Every byte before the ciphertext is authenticated with it, and so is the context: a literal's id, which
//! keeps a file from being taken for another's. The backend's part is empty for tpm.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use psi_common::{BackendTag, CacheHeader, NotACache, SecretBytes};

use crate::crypto::aead::{Aead, DataKey, KEY_ID_LEN, NONCE_LEN, TAG_LEN};

/// The version that is written.
pub(crate) const VERSION: u8 = 2;

const MAGIC_LITERAL: &[u8; MAGIC_LEN] = b"PSIL";
const MAGIC_LEN: usize = 4;

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub enum AadContext<'a> {
    /// The whole cache.
    Cache,
    /// One literal, bound to the text of its id.
    Literal(&'a str),
}

/// The key backend's half of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeyHeader {
    /// Which backend.
    pub tag: BackendTag,
    /// What it needs to find the data key again: at most 65,535 bytes.
    pub bytes: Vec<u8>,
}

/// A file, taken apart but not opened.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The backend's half of the header.
    pub backend: WrappedKeyHeader,
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

/// The keys in use: whatever is sealed goes through here. There are several while a rekey is under way.
pub struct Keyring {
    keys: RwLock<Vec<Arc<Key>>>,
}

/// A data key, and the header's half that goes with it.
struct Key {
    data: DataKey,
    sealer: Aead,
    backend: WrappedKeyHeader,
}

impl Keyring {
    /// A vault that seals and opens under `key`, which `backend` keeps.
    pub fn new(key: DataKey, backend: WrappedKeyHeader) -> Self {
        Self { keys: RwLock::new(vec![Arc::new(Key::new(key, backend))]) }
    }

    /// Seals under `key` from now on; what was sealed before still opens.
    pub fn adopt(&self, key: DataKey, backend: WrappedKeyHeader) {
        self.write().insert(0, Arc::new(Key::new(key, backend)));
    }

    /// Opens what is sealed under `key` too.
    pub fn open_with(&self, key: DataKey, backend: WrappedKeyHeader) {
        self.write().push(Arc::new(Key::new(key, backend)));
    }

    /// Opens nothing any more but what is sealed under the present key.
    pub fn forget_former(&self) {
        self.write().truncate(1);
    }

    /// Whether there are keys that nothing is sealed under any more.
    pub fn has_former(&self) -> bool {
        self.read().len() > 1
    }

    /// Looks at the keys, the present one first.
    pub fn look<T>(&self, look: impl FnOnce(&[&DataKey]) -> T) -> T {
        let keys = self.read().clone();
        look(&keys.iter().map(|key| &key.data).collect::<Vec<_>>())
    }

    /// Seals `plaintext` into a whole file.
    pub fn seal(
        &self,
        content: AadContext<'_>,
        plaintext: &SecretBytes,
    ) -> Result<Vec<u8>, getrandom::Error> {
        let key = self.present();
        seal(content, &key.backend, &key.sealer, plaintext)
    }

    /// Seals the `size` bytes at most that `write` appends, where they lie: many megabytes are in RAM once,
    /// and never in clear but there.
    pub fn seal_written(
        &self,
        content: AadContext<'_>,
        size: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, getrandom::Error> {
        let key = self.present();
        let nonce = Aead::nonce()?;
        let mut file = header(content, &key.backend, key.sealer.key_id(), nonce);
        let bound = bound(content, &file);
        let start = file.len();
        file.reserve_exact(size + TAG_LEN);
        write(&mut file);
        key.sealer.seal_in_place(nonce, &bound, &mut file, start);
        Ok(file)
    }

    /// Opens a whole file.
    pub fn open(&self, content: AadContext<'_>, file: &[u8]) -> Result<SecretBytes, EnvelopeError> {
        let envelope = Envelope::parse(content, file)?;
        let keys = self.read().clone();
        match keys.iter().find(|key| key.sealer.key_id() == envelope.key_id) {
            Some(key) => envelope.open(content, &key.sealer),
            None if keys.iter().any(|key| key.backend.tag == envelope.backend.tag) => {
                Err(EnvelopeError::OtherKey)
            }
            None => Err(EnvelopeError::OtherBackend(envelope.backend.tag)),
        }
    }

    /// Whether a file's header is what one sealed now would have: the same key, kept in the same way.
    pub fn is_present(&self, content: AadContext<'_>, file: &[u8]) -> bool {
        let present = self.present();
        Envelope::parse(content, file).is_ok_and(|envelope| {
            envelope.key_id == present.sealer.key_id() && envelope.backend == present.backend
        })
    }

    fn present(&self) -> Arc<Key> {
        // A vault is made with a key, and the first one is never removed.
        Arc::clone(&self.read()[0])
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Key>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<Key>>> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn new(data: DataKey, backend: WrappedKeyHeader) -> Self {
        Self { sealer: Aead::new(&data), data, backend }
    }
}

fn seal(
    content: AadContext<'_>,
    backend: &WrappedKeyHeader,
    sealer: &Aead,
    plaintext: &SecretBytes,
) -> Result<Vec<u8>, getrandom::Error> {
    let nonce = Aead::nonce()?;
    let mut file = header(content, backend, sealer.key_id(), nonce);
    let bound = bound(content, &file);
    sealer.seal(nonce, &bound, plaintext, &mut file);
    Ok(file)
}

fn header(
    content: AadContext<'_>,
    backend: &WrappedKeyHeader,
    key_id: [u8; KEY_ID_LEN],
    nonce: [u8; NONCE_LEN],
) -> Vec<u8> {
    let mut header = CacheHeader { version: VERSION, backend: backend.tag }.to_bytes().to_vec();
    if let Some(magic) = content.magic() {
        header[..MAGIC_LEN].copy_from_slice(magic);
    }
    header.extend_from_slice(&key_id);
    // A backend's part is a wrapped key and a signature: its maker keeps it far below the limit.
    let length = u16::try_from(backend.bytes.len()).unwrap_or(u16::MAX);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&backend.bytes[..usize::from(length)]);
    header.extend_from_slice(&nonce);
    header
}

fn bound(content: AadContext<'_>, header: &[u8]) -> Vec<u8> {
    match content {
        AadContext::Cache => header.to_vec(),
        AadContext::Literal(id) => [header, id.as_bytes()].concat(),
    }
}

impl<'a> Envelope<'a> {
    /// Takes a file apart.
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
            backend: WrappedKeyHeader { tag, bytes: part.to_vec() },
            key_id: *key_id,
            nonce: *nonce,
            header: &file[..file.len() - sealed.len()],
            sealed,
        })
    }

    fn open(&self, content: AadContext<'_>, sealer: &Aead) -> Result<SecretBytes, EnvelopeError> {
        sealer
            .open(self.nonce, &bound(content, self.header), self.sealed)
            .map_err(|_| EnvelopeError::NotAuthentic)
    }
}

/// Whether a registration file is a sealed literal.
pub(crate) fn is_literal(file: &[u8]) -> bool {
    file.starts_with(MAGIC_LITERAL)
}

/// The backend's part of a file's header, whatever its content.
pub(crate) fn backend_part(file: &[u8]) -> Option<WrappedKeyHeader> {
    let contents = [AadContext::Cache, AadContext::Literal("")];
    contents.into_iter().find_map(|content| Some(Envelope::parse(content, file).ok()?.backend))
}

impl AadContext<'_> {
    /// What the file begins with, when that is not what a cache does.
    fn magic(self) -> Option<&'static [u8; MAGIC_LEN]> {
        match self {
            Self::Cache => None,
            Self::Literal(_) => Some(MAGIC_LITERAL),
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
            Self::Payload(what) => write!(f, "it opens, and its content makes no sense: {what}"),
        }
    }
}

impl std::error::Error for EnvelopeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef012345678";

    fn sealer(byte: u8) -> Aead {
        Aead::new(&DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap())
    }

    fn vault(tag: BackendTag, byte: u8) -> Keyring {
        let key = DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap();
        Keyring::new(key, WrappedKeyHeader { tag, bytes: b"part".to_vec() })
    }

    fn part(bytes: &[u8]) -> WrappedKeyHeader {
        WrappedKeyHeader { tag: BackendTag::Tpm, bytes: bytes.to_vec() }
    }

    fn sealed(content: AadContext<'_>, text: &[u8]) -> Vec<u8> {
        seal(content, &part(b"part"), &sealer(1), &SecretBytes::new(text.to_vec())).unwrap()
    }

    fn open(content: AadContext<'_>, file: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        vault(BackendTag::Tpm, 1).open(content, file).map(SecretBytes::into_exposed)
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(text in prop::collection::vec(any::<u8>(), 0..100)) {
            for content in [AadContext::Cache, AadContext::Literal(ID)] {
                prop_assert_eq!(open(content, &sealed(content, &text)), Ok(text.clone()));
            }
        }

        #[test]
        fn any_flipped_bit_is_refused(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            for content in [AadContext::Cache, AadContext::Literal(ID)] {
                let mut file = sealed(content, &text);
                let at = at.index(file.len());
                file[at] ^= 1u8 << bit;
                prop_assert!(open(content, &file).is_err());
            }
        }

        #[test]
        fn any_truncation_is_refused(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>()) {
            for content in [AadContext::Cache, AadContext::Literal(ID)] {
                let file = sealed(content, &text);
                prop_assert!(open(content, &file[..at.index(file.len())]).is_err());
            }
        }

        #[test]
        fn parsing_is_total(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(AadContext::Cache, &file);
            let _ = open(AadContext::Cache, &[b"PSIC\x02\x01".as_slice(), &file].concat());
            let _ = open(AadContext::Literal(ID), &[b"PSIL\x02\x01".as_slice(), &file].concat());
        }
    }

    #[test]
    fn a_literal_of_another_id_or_kind_is_refused() {
        let file = sealed(AadContext::Literal(ID), b"text");
        let other = AadContext::Literal("876543210fedcba9876543210");
        assert_eq!(open(other, &file), Err(EnvelopeError::NotAuthentic));
        assert!(matches!(open(AadContext::Cache, &file), Err(EnvelopeError::Foreign(_))));
        let mut disguised = file.clone();
        disguised[..MAGIC_LEN].copy_from_slice(b"PSIC");
        assert_eq!(open(AadContext::Cache, &disguised), Err(EnvelopeError::NotAuthentic));
    }

    #[test]
    fn the_cause_is_named() {
        let file = sealed(AadContext::Cache, b"text");
        let envelope = Envelope::parse(AadContext::Cache, &file).unwrap();
        assert_eq!(envelope.backend, part(b"part"));
        let open = |tag, key| vault(tag, key).open(AadContext::Cache, &file).err();
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
    fn amid_a_rekey_both_keys_open_and_the_new_one_seals() {
        let vault = vault(BackendTag::Tpm, 1);
        let text = SecretBytes::new(b"text".to_vec());
        let old = vault.seal(AadContext::Cache, &text).unwrap();
        assert!(vault.is_present(AadContext::Cache, &old) && !vault.has_former());
        vault.adopt(DataKey::generate().unwrap(), part(b"part"));
        let new = vault.seal(AadContext::Cache, &text).unwrap();
        assert!(
            !vault.is_present(AadContext::Cache, &old) && vault.is_present(AadContext::Cache, &new)
        );
        for file in [&old, &new] {
            assert!(vault.open(AadContext::Cache, file).unwrap().same_as(&text));
        }
        vault.forget_former();
        assert_eq!(vault.open(AadContext::Cache, &old).err(), Some(EnvelopeError::OtherKey));
        assert!(vault.open(AadContext::Cache, &new).is_ok());
    }

    #[test]
    fn each_write_has_a_nonce_of_its_own() {
        assert_ne!(sealed(AadContext::Cache, b"text"), sealed(AadContext::Cache, b"text"));
    }
}
