//! The formats of the Python PSI: version 1 of `cache.enc`, and its mappings. Pure, but for `adopt`.
//!
//! ```text
//! magic (4: "PSIC") · version (1: 1) · backend tag (1), then
//!   tpm: nonce (12) · AES-256-GCM ciphertext and tag
//!   hsm: the hybrid envelope
//! ```
//!
//! The bytes before the ciphertext are not authenticated. The plaintext is JSON,
//! `{"version":2,"written_at":seconds,"hmac_key":base64,"entries":{name:base64}}`. An entry's name is the hex
//! HMAC-SHA256, under `hmac_key`, of its mapping as [`mapping::canonical`] writes it.

pub mod adopt;
pub(crate) mod mapping;

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use psi_common::{BackendTag, CacheHeader, NotACache, SecretBytes};
use serde::Deserialize;
use serde_json::error::Category;
use sha2::Sha256;

use crate::crypto::aead::{Aead, DataKey, NONCE_LEN, TAG_LEN};
use crate::crypto::hybrid::{Hybrid, HybridError};
use crate::model::clock::Timestamp;
use crate::model::reference::Reference;

/// The version of the file.
const VERSION: u8 = 1;
/// The version of the plaintext. In version 1, entries were named by podman's ids; the Python PSI itself no longer
/// reads it.
const PAYLOAD_VERSION: u64 = 2;

/// Version 1 of `cache.enc`, parsed but not opened.
#[derive(Debug)]
pub struct SealedCache<'a>(Envelope<'a>);

#[derive(Debug)]
enum Envelope<'a> {
    Tpm { nonce: [u8; NONCE_LEN], sealed: &'a [u8] },
    Hsm(Hybrid<'a>),
}

/// The Python PSI's cache, opened.
pub struct OldCache {
    written_at: Timestamp,
    hmac_key: SecretBytes,
    /// By the hex HMAC of the mapping.
    entries: HashMap<String, SecretBytes>,
}

/// The entries of an old cache, by mapping.
pub struct MappedEntries<'r> {
    /// The mappings that have a value.
    pub found: Vec<(&'r Reference, SecretBytes)>,
    /// The number of entries without a mapping.
    pub without_mapping: usize,
}

/// A file is not a usable cache of the Python PSI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegacyError {
    /// It ends too early.
    #[error("it is truncated")]
    Truncated,
    /// It has another format.
    #[error("it is {0}")]
    Foreign(NotACache),
    /// It has another version.
    #[error("it is of format version {0}, and the Python PSI's is {VERSION}")]
    Version(u8),
    /// Its hybrid envelope is malformed.
    #[error("{0}")]
    Envelope(HybridError),
    /// It was changed after it was sealed, or sealed under another key: the file does not show which.
    #[error("it was damaged, or sealed under another key")]
    NotAuthentic,
    /// It opens, and the plaintext is not JSON.
    #[error("it holds no JSON")]
    NotJson,
    /// A member has another type than the Python PSI writes.
    #[error("it holds a member of another type than the Python PSI writes")]
    OtherType,
    /// A member is missing.
    #[error("it holds no \"{0}\"")]
    Missing(&'static str),
    /// The plaintext has another version.
    #[error("it holds content of version {0}, and only {PAYLOAD_VERSION} is read here")]
    PayloadVersion(u64),
    /// A member, or an entry, is not base64.
    #[error("it holds \"{0}\", which is not base64")]
    NotBase64(&'static str),
}

/// The plaintext. It borrows all text, so that the parser copies no secret.
#[derive(Deserialize)]
struct Payload<'a> {
    version: Option<u64>,
    written_at: Option<u64>,
    #[serde(borrow)]
    hmac_key: Option<&'a str>,
    #[serde(borrow)]
    entries: Option<HashMap<&'a str, &'a str>>,
}

/// Whether a file has the header of the Python PSI's cache.
pub fn is_old_cache(file: &[u8]) -> bool {
    CacheHeader::parse(file).is_ok_and(|header| header.version == VERSION)
}

impl<'a> SealedCache<'a> {
    /// Parses a file.
    pub fn parse(file: &'a [u8]) -> Result<Self, LegacyError> {
        let header = CacheHeader::parse(file)?;
        if header.version != VERSION {
            return Err(LegacyError::Version(header.version));
        }
        let rest = &file[CacheHeader::LEN..];
        Ok(Self(match header.backend {
            BackendTag::Tpm => {
                let (nonce, sealed) = rest.split_first_chunk().ok_or(LegacyError::Truncated)?;
                if sealed.len() < TAG_LEN {
                    return Err(LegacyError::Truncated);
                }
                Envelope::Tpm { nonce: *nonce, sealed }
            }
            BackendTag::Hsm => Envelope::Hsm(Hybrid::parse(rest)?),
        }))
    }

    /// Under hsm, the wrapped data key: the token unwraps it for [`Self::open`]. Under tpm there is none, because
    /// systemd-creds seals the key.
    pub fn wrapped(&self) -> Option<&'a [u8]> {
        match &self.0 {
            Envelope::Tpm { .. } => None,
            Envelope::Hsm(hybrid) => Some(hybrid.wrapped()),
        }
    }

    /// Decrypts and parses the content. The plaintext and every value are wiped on drop.
    pub fn open(&self, key: &DataKey) -> Result<OldCache, LegacyError> {
        let plaintext = match &self.0 {
            Envelope::Tpm { nonce, sealed } => {
                Aead::new(key).open(*nonce, &[], sealed).map_err(|_| LegacyError::NotAuthentic)?
            }
            Envelope::Hsm(hybrid) => hybrid.open(key)?,
        };
        OldCache::parse(&plaintext)
    }
}

impl OldCache {
    /// Reads the plaintext.
    fn parse(plaintext: &SecretBytes) -> Result<Self, LegacyError> {
        // Without the error's own message, which may quote the plaintext.
        let payload: Payload<'_> =
            serde_json::from_slice(plaintext.expose_secret()).map_err(|error| {
                match error.classify() {
                    Category::Data => LegacyError::OtherType,
                    Category::Io | Category::Syntax | Category::Eof => LegacyError::NotJson,
                }
            })?;
        let version = payload.version.ok_or(LegacyError::Missing("version"))?;
        if version != PAYLOAD_VERSION {
            return Err(LegacyError::PayloadVersion(version));
        }
        let written_at = payload.written_at.ok_or(LegacyError::Missing("written_at"))?;
        let hmac_key = payload.hmac_key.ok_or(LegacyError::Missing("hmac_key"))?;
        let entries = payload.entries.ok_or(LegacyError::Missing("entries"))?;
        Ok(Self {
            written_at: Timestamp::from_millis(written_at.saturating_mul(1_000)),
            hmac_key: decode(hmac_key, "hmac_key")?,
            entries: entries
                .into_iter()
                .map(|(name, value)| Ok((name.to_owned(), decode(value, "entries")?)))
                .collect::<Result<_, LegacyError>>()?,
        })
    }

    /// The time of the write; entries have no time of their own.
    pub fn written_at(&self) -> Timestamp {
        self.written_at
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a mapping.
    pub fn value(&self, mapping: &Reference) -> Option<&SecretBytes> {
        self.entries.get(&self.name(mapping))
    }

    /// The values by mapping. Equal mappings share an entry, which only one of them gets.
    pub fn by_mapping<'r>(
        self,
        mappings: impl IntoIterator<Item = &'r Reference>,
    ) -> MappedEntries<'r> {
        let mut named: HashMap<String, &Reference> =
            mappings.into_iter().map(|mapping| (self.name(mapping), mapping)).collect();
        let mut mapped = MappedEntries { found: Vec::new(), without_mapping: 0 };
        for (name, value) in self.entries {
            match named.remove(&name) {
                Some(mapping) => mapped.found.push((mapping, value)),
                None => mapped.without_mapping += 1,
            }
        }
        mapped
    }

    /// The name of a mapping's entry.
    fn name(&self, mapping: &Reference) -> String {
        // A key of any length is valid.
        Hmac::<Sha256>::new_from_slice(self.hmac_key.expose_secret()).map_or_else(
            |_| String::new(),
            |mac| {
                let mac = mac.chain_update(mapping::canonical(mapping));
                HEXLOWER.encode(&mac.finalize().into_bytes())
            },
        )
    }
}

fn decode(base64: &str, member: &'static str) -> Result<SecretBytes, LegacyError> {
    STANDARD.decode(base64).map(SecretBytes::new).map_err(|_| LegacyError::NotBase64(member))
}

impl From<NotACache> for LegacyError {
    fn from(error: NotACache) -> Self {
        match error {
            NotACache::Truncated => Self::Truncated,
            other => Self::Foreign(other),
        }
    }
}

impl From<HybridError> for LegacyError {
    fn from(error: HybridError) -> Self {
        match error {
            HybridError::Truncated => Self::Truncated,
            HybridError::NotAuthentic => Self::NotAuthentic,
            other @ HybridError::WrappedLength(_) => Self::Envelope(other),
        }
    }
}

#[cfg(test)]
mod tests;
