//! The first six bytes of `cache.enc`, which psi-driver reads too.

use psi_common::{BackendTag, CacheHeader, NotACache};

use crate::{Body, assert_words};

/// A header parses exactly if it has the magic and a known backend; errors are reported in that
/// order.
pub(crate) fn open() -> Body {
    Box::new(|input| {
        let expected = match input {
            [b'P', b'S', b'I', b'C', version, 1, ..] => Ok((*version, BackendTag::Tpm)),
            [b'P', b'S', b'I', b'C', version, 2, ..] => Ok((*version, BackendTag::Hsm)),
            [b'P', b'S', b'I', b'C', _, tag, ..] => Err(NotACache::UnknownBackend(*tag)),
            [_, _, _, _, _, _, ..] => Err(NotACache::WrongMagic),
            _ => Err(NotACache::Truncated),
        };
        let header = CacheHeader::parse(input);
        assert_eq!(header.map(|header| (header.version, header.backend)), expected);
        match header {
            Ok(header) => assert_eq!(header.to_bytes(), input[..CacheHeader::LEN]),
            Err(error) => assert_words(&error.to_string()),
        }
    })
}
