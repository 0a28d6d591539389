//! The hybrid envelope: a secret sealed to the RSA key of a token. Pure: bytes in, bytes out.
//!
//! ```text
//! length of the wrapped key (2, big-endian) · RSA-OAEP-SHA256(data key) · nonce (12)
//! · AES-256-GCM ciphertext and tag
//! ```
//!
//! This is the format of psi version 1: there is no associated data, and each secret has its own data key. Sealing
//! requires the public key only, so the envelope does not authenticate its author.

use std::ops::RangeInclusive;

use psi_common::SecretBytes;

use crate::crypto::aead::{Aead, DataKey, NONCE_LEN, TAG_LEN};

/// The length of a wrapped key: that of an RSA modulus of 1,024 to 16,384 bits.
const WRAPPED_LEN: RangeInclusive<usize> = 128..=2_048;

/// A parsed envelope, not opened.
#[derive(Debug)]
pub struct Hybrid<'a> {
    wrapped: &'a [u8],
    nonce: [u8; NONCE_LEN],
    sealed: &'a [u8],
}

/// An envelope cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HybridError {
    /// It ends too early.
    #[error("it is truncated")]
    Truncated,
    /// The wrapped key has an impossible length.
    #[error("it begins with a wrapped key of {0} bytes, as no RSA key makes one")]
    WrappedLength(usize),
    /// It was changed after it was sealed, or sealed under another key.
    #[error("it was damaged or tampered with")]
    NotAuthentic,
}

impl<'a> Hybrid<'a> {
    /// Parses an envelope.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HybridError> {
        let (length, rest) = bytes.split_first_chunk().ok_or(HybridError::Truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if !WRAPPED_LEN.contains(&length) {
            return Err(HybridError::WrappedLength(length));
        }
        let (wrapped, rest) = rest.split_at_checked(length).ok_or(HybridError::Truncated)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(HybridError::Truncated)?;
        if sealed.len() < TAG_LEN {
            return Err(HybridError::Truncated);
        }
        Ok(Self { wrapped, nonce: *nonce, sealed })
    }

    /// The wrapped data key, for the token.
    pub fn wrapped(&self) -> &'a [u8] {
        self.wrapped
    }

    /// Decrypts the secret with the unwrapped data key.
    pub fn open(&self, key: &DataKey) -> Result<SecretBytes, HybridError> {
        let opened = Aead::new(key).open(self.nonce, &[], self.sealed);
        opened.map_err(|_| HybridError::NotAuthentic)
    }
}

/// Seals `plaintext` under `key`, which must be used only once; `wrapped` is that key wrapped with RSA.
pub(crate) fn seal(
    plaintext: &SecretBytes,
    key: &DataKey,
    wrapped: &[u8],
) -> Result<Vec<u8>, getrandom::Error> {
    let nonce = Aead::nonce()?;
    // An RSA modulus is far below the limit.
    let length = u16::try_from(wrapped.len()).unwrap_or(u16::MAX);
    let mut out = length.to_be_bytes().to_vec();
    out.extend_from_slice(&wrapped[..usize::from(length)]);
    out.extend_from_slice(&nonce);
    Aead::new(key).seal(nonce, &[], plaintext, &mut out);
    Ok(out)
}

/// The bytes that sealing adds for a wrapped key of `wrapped` bytes.
pub(crate) fn overhead(wrapped: usize) -> usize {
    size_of::<u16>() + wrapped + NONCE_LEN + TAG_LEN
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;
    use crate::model::reference::Reference;

    fn key(byte: u8) -> DataKey {
        data_key(&[byte; DataKey::LEN])
    }

    fn data_key(bytes: &[u8]) -> DataKey {
        DataKey::from_secret(&SecretBytes::new(bytes.to_vec())).unwrap()
    }

    /// The wrapped key is arbitrary: the token would unwrap it.
    fn sealed(text: &[u8], wrapped: usize) -> Vec<u8> {
        seal(&SecretBytes::new(text.to_vec()), &key(1), &vec![0x5a; wrapped]).unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Vec<u8>, HybridError> {
        Hybrid::parse(bytes)?.open(&key(1)).map(SecretBytes::into_exposed)
    }

    proptest! {
        #[test]
        fn open_returns_what_was_sealed(text in prop::collection::vec(any::<u8>(), 0..100), wrapped in WRAPPED_LEN) {
            let bytes = sealed(&text, wrapped);
            prop_assert_eq!(bytes.len(), text.len() + overhead(wrapped));
            prop_assert_eq!(Hybrid::parse(&bytes).unwrap().wrapped(), &vec![0x5a; wrapped]);
            prop_assert_eq!(open(&bytes), Ok(text));
        }

        /// A changed wrapped key reaches the token, which refuses it.
        #[test]
        fn any_flipped_bit_is_rejected_or_reaches_the_token(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = sealed(&text, 256);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            if (2..2 + 256).contains(&at) {
                prop_assert_ne!(Hybrid::parse(&bytes).unwrap().wrapped(), &[0x5a; 256]);
            } else {
                prop_assert!(open(&bytes).is_err());
            }
        }

        #[test]
        fn open_rejects_any_truncation(text in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>()) {
            let bytes = sealed(&text, 256);
            prop_assert!(open(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), length in 0..600u16) {
            let _ = open(&bytes);
            let _ = open(&[&length.to_be_bytes()[..], &bytes].concat());
        }
    }

    #[test]
    fn errors_name_the_cause() {
        let bytes = sealed(b"text", 256);
        assert_eq!(open(&[]), Err(HybridError::Truncated));
        assert_eq!(open(&bytes[..2 + 256 + NONCE_LEN + TAG_LEN - 1]), Err(HybridError::Truncated));
        assert_eq!(open(&sealed(b"text", 127)), Err(HybridError::WrappedLength(127)));
        assert_eq!(open(&sealed(b"text", 2_049)), Err(HybridError::WrappedLength(2_049)));
        let other = Hybrid::parse(&bytes).unwrap().open(&key(2)).err();
        assert_eq!(other, Some(HybridError::NotAuthentic));
    }

    #[test]
    fn each_envelope_has_its_own_nonce() {
        assert_ne!(sealed(b"text", 128), sealed(b"text", 128));
    }

    /// Files of psi version 1 (`tests/vectors/python-psi`), with the data keys that OpenSSL unwraps with
    /// `hsm-key.pem`.
    mod version_1 {
        use super::*;

        const CACHE: &[u8] = include_bytes!("../../../tests/vectors/python-psi/cache-hsm.enc");
        const CACHE_KEY: [u8; 32] = [
            0x29, 0xd6, 0xaf, 0xea, 0x62, 0x58, 0xa5, 0x17, 0x9b, 0x84, 0x55, 0xdb, 0x64, 0xfb,
            0x53, 0x9f, 0xca, 0x90, 0xbb, 0xe7, 0x58, 0xab, 0x1c, 0x50, 0x83, 0x00, 0x59, 0x76,
            0xd6, 0xb5, 0x90, 0x3e,
        ];
        const MAPPING: &[u8] =
            include_bytes!("../../../tests/vectors/python-psi/secrets/36f34945849c779b9bfe26588");
        const MAPPING_KEY: [u8; 32] = [
            0x88, 0xa5, 0x94, 0x14, 0x39, 0xbc, 0xe6, 0x32, 0xf1, 0x3f, 0x59, 0x45, 0xcf, 0xeb,
            0x4f, 0xa6, 0xd2, 0x0d, 0x91, 0xc4, 0x99, 0x2d, 0x0c, 0x34, 0x2f, 0xb3, 0x51, 0x72,
            0x69, 0xf8, 0x1c, 0x02,
        ];
        const EXPECTED: &[u8] = include_bytes!("../../../tests/vectors/python-psi/expected.json");

        #[test]
        fn blob_of_the_mapping_opens_to_the_expected_value() {
            let reference = Reference::parse(MAPPING).unwrap();
            let blob = STANDARD.decode(reference.member("blob").unwrap()).unwrap();
            let opened = Hybrid::parse(&blob).unwrap().open(&data_key(&MAPPING_KEY)).unwrap();
            let expected: serde_json::Value = serde_json::from_slice(EXPECTED).unwrap();
            let expected = expected["36f34945849c779b9bfe26588"].as_str().unwrap();
            assert_eq!(STANDARD.encode(opened.expose_secret()), expected);
        }

        #[test]
        fn cache_opens_to_its_payload() {
            let envelope = CACHE.strip_prefix(b"PSIC\x01\x02").unwrap();
            let opened = Hybrid::parse(envelope).unwrap().open(&data_key(&CACHE_KEY)).unwrap();
            let payload: serde_json::Value =
                serde_json::from_slice(opened.expose_secret()).unwrap();
            assert_eq!(payload["version"], 2);
            // Seven of the eight: version 1 did not cache values from a token.
            assert_eq!(payload["entries"].as_object().unwrap().len(), 7);
        }
    }
}
