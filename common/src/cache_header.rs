//! The header of `cache.enc`: its first six bytes, which identify the format and the key backend without a key.

use std::fmt;

const MAGIC: &[u8; 4] = b"PSIC";

/// The key backend whose key a file is sealed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendTag {
    /// A key sealed by systemd-creds, usually to the TPM.
    Tpm = 1,
    /// A key wrapped by a PKCS#11 token.
    Hsm = 2,
}

/// `magic "PSIC" (4) · format version (1) · backend tag (1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheHeader {
    /// The format version: 2, or 1 for a file of psi version 1.
    pub version: u8,
    /// The key backend.
    pub backend: BackendTag,
}

/// Bytes that do not begin with the header of a `cache.enc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACache {
    /// Fewer than six bytes.
    #[error("truncated: the header is incomplete")]
    Truncated,
    /// Another magic number.
    #[error("not a psi cache: it does not begin with PSIC")]
    WrongMagic,
    /// A backend tag that this version does not have.
    #[error("sealed by a key backend unknown here (tag {0})")]
    UnknownBackend(u8),
}

impl CacheHeader {
    /// The header's length in bytes.
    pub const LEN: usize = 6;

    /// Parses the header at the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotACache> {
        let header = bytes.first_chunk::<{ Self::LEN }>().ok_or(NotACache::Truncated)?;
        let [magic @ .., version, tag] = header;
        if magic != MAGIC {
            return Err(NotACache::WrongMagic);
        }
        let backend = BackendTag::try_from(*tag).map_err(NotACache::UnknownBackend)?;
        Ok(Self { version: *version, backend })
    }

    /// The header's bytes, as in the file.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b, c, d] = *MAGIC;
        [a, b, c, d, self.version, self.backend as u8]
    }
}

impl BackendTag {
    /// The name that config, status and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Hsm => "hsm",
        }
    }
}

impl TryFrom<u8> for BackendTag {
    type Error = u8;

    fn try_from(tag: u8) -> Result<Self, u8> {
        match tag {
            1 => Ok(Self::Tpm),
            2 => Ok(Self::Hsm),
            unknown => Err(unknown),
        }
    }
}

impl fmt::Display for BackendTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_round_trips() {
        for backend in [BackendTag::Tpm, BackendTag::Hsm] {
            let header = CacheHeader { version: 2, backend };
            assert_eq!(CacheHeader::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn parse_rejects_malformed_headers() {
        assert_eq!(CacheHeader::parse(b"PSIC\x02"), Err(NotACache::Truncated));
        assert_eq!(CacheHeader::parse(b"PSIX\x02\x01"), Err(NotACache::WrongMagic));
        assert_eq!(CacheHeader::parse(b"PSIC\x02\x09"), Err(NotACache::UnknownBackend(9)));
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_is_exact(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(header) = CacheHeader::parse(&bytes) {
                prop_assert_eq!(&header.to_bytes()[..], &bytes[..CacheHeader::LEN]);
            }
        }
    }
}
