//! What the Python PSI wrote: version 1 of `cache.enc`, and its mappings. Pure: bytes in, domain types out.
//!
//! ```text
//! magic (4: "PSIC") · version (1: 1) · backend tag (1), then
//!   tpm: nonce (12) · AES-256-GCM ciphertext and tag
//!   hsm: the hybrid envelope
//! ```
//!
//! Nothing before the ciphertext is authenticated. Inside is JSON,
//! `{"version":2,"written_at":seconds,"hmac_key":base64,"entries":{name:base64}}`, and an entry's name is
//! the hex HMAC-SHA256, under `hmac_key`, of its mapping as [`mapping::canonical`] writes it.

pub mod adopt;
pub(crate) mod mapping;

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use psi_common::{BackendTag, CacheHeader, NotACache, SecretBytes};
use serde::Deserialize;
use serde_json::error::Category;
use sha2::Sha256;

use crate::crypto::aead::{Aead, DataKey, NONCE_LEN, TAG_LEN};
use crate::crypto::hybrid::{Hybrid, HybridError};
use crate::model::clock::Timestamp;
use crate::model::reference::Reference;

/// The version of the file that is read here.
const VERSION: u8 = 1;
/// The version of what is inside. Before it, entries went by podman's ids, and Python itself no longer
/// reads them.
const PAYLOAD_VERSION: u64 = 2;

/// Version 1 of `cache.enc`, taken apart but not opened.
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

/// The entries of an old cache, each with the mapping that names it.
pub struct Claims<'r> {
    /// The mappings that have a value.
    pub found: Vec<(&'r Reference, SecretBytes)>,
    /// How many entries no mapping names.
    pub unclaimed: usize,
}

/// Why a file is not usable as an old cache; each selects one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyError {
    /// It ends too early.
    Truncated,
    /// It is no psi cache.
    Foreign(NotACache),
    /// It is of another version.
    Version(u8),
    /// Its hybrid envelope is malformed.
    Envelope(HybridError),
    /// It was changed after it was sealed, or sealed under another key: the file does not tell which.
    NotAuthentic,
    /// It opens, and there is no JSON in it.
    NotJson,
    /// A member is of another type than Python writes.
    OtherType,
    /// A member is missing.
    Missing(&'static str),
    /// The content is of another version.
    PayloadVersion(u64),
    /// A member, or an entry, is no base64.
    NotBase64(&'static str),
}

/// Borrowed throughout: what is in here is not copied by the parser, and goes with the plaintext.
#[derive(Deserialize)]
struct Payload<'a> {
    version: Option<u64>,
    written_at: Option<u64>,
    #[serde(borrow)]
    hmac_key: Option<&'a str>,
    #[serde(borrow)]
    entries: Option<HashMap<&'a str, &'a str>>,
}

/// Whether a file says of itself that it is the Python PSI's cache.
pub fn is_old_cache(file: &[u8]) -> bool {
    CacheHeader::parse(file).is_ok_and(|header| header.version == VERSION)
}

impl<'a> SealedCache<'a> {
    /// Takes a file apart.
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

    /// Under hsm, the key as the token takes it: [`Self::open`] wants what the token makes of it. Under
    /// tpm there is none, and the key is the one that systemd-creds sealed.
    pub fn wrapped(&self) -> Option<&'a [u8]> {
        match &self.0 {
            Envelope::Tpm { .. } => None,
            Envelope::Hsm(hybrid) => Some(hybrid.wrapped()),
        }
    }

    /// Opens it.
    ///
    /// The plaintext and every value are wiped when they are dropped. The JSON parser borrows from the
    /// plaintext; only where it grows its table of borrowed slices does it allocate, and no value is
    /// copied there.
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
        // Its own words may quote the text, which is secret.
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

    /// When Python wrote it: of a single value it does not tell when that was fetched.
    pub fn written_at(&self) -> Timestamp {
        self.written_at
    }

    /// How many entries there are.
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

    /// Hands the values out to the mappings that name them; of two that are the same mapping, to one.
    pub fn claim<'r>(self, mappings: impl IntoIterator<Item = &'r Reference>) -> Claims<'r> {
        let mut named: HashMap<String, &Reference> =
            mappings.into_iter().map(|mapping| (self.name(mapping), mapping)).collect();
        let mut claims = Claims { found: Vec::new(), unclaimed: 0 };
        for (name, value) in self.entries {
            match named.remove(&name) {
                Some(mapping) => claims.found.push((mapping, value)),
                None => claims.unclaimed += 1,
            }
        }
        claims
    }

    /// The name of a mapping's entry.
    fn name(&self, mapping: &Reference) -> String {
        let mut name = String::with_capacity(64);
        // HMAC takes a key of any length.
        if let Ok(mac) = Hmac::<Sha256>::new_from_slice(self.hmac_key.expose_secret()) {
            let tag = mac.chain_update(mapping::canonical(mapping)).finalize().into_bytes();
            for byte in tag {
                let _ = fmt::Write::write_fmt(&mut name, format_args!("{byte:02x}"));
            }
        }
        name
    }
}

fn decode(base64: &str, what: &'static str) -> Result<SecretBytes, LegacyError> {
    STANDARD.decode(base64).map(SecretBytes::new).map_err(|_| LegacyError::NotBase64(what))
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

impl fmt::Display for LegacyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("it is truncated"),
            Self::Foreign(what) => write!(f, "it is {what}"),
            Self::Version(version) => {
                write!(f, "it is of format version {version}, and the Python PSI's is {VERSION}")
            }
            Self::Envelope(what) => write!(f, "{what}"),
            Self::NotAuthentic => f.write_str("it was damaged, or sealed under another key"),
            Self::NotJson => f.write_str("it holds no JSON"),
            Self::OtherType => {
                f.write_str("it holds a member of another type than the Python PSI gives it")
            }
            Self::Missing(member) => write!(f, "it holds no \"{member}\""),
            Self::PayloadVersion(version) => write!(
                f,
                "it holds content of version {version}, and only {PAYLOAD_VERSION} is read here"
            ),
            Self::NotBase64(member) => write!(f, "it holds, as \"{member}\", what is no base64"),
        }
    }
}

impl std::error::Error for LegacyError {}

#[cfg(test)]
mod tests;
