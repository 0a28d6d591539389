//! A data key that a PKCS#11 token wraps: each file sealed under it carries the wrapping.
//!
//! ```text
//! length of the wrapping (2, big-endian) · RSA-OAEP-SHA256 of the data key · signature (the rest)
//! ```
//!
//! The token's public key is no secret, and whoever has it can wrap a key of their own and seal a whole
//! cache under it. So the token signs each wrapping, with `CKM_SHA256_RSA_PKCS` over [`SIGNED`] and the
//! wrapping, and nothing is unwrapped before its signature is verified.

use async_trait::async_trait;
use psi_common::BackendTag;

use super::{KeyBackend, KeyError, LoadedKey};
use crate::crypto::aead::DataKey;
use crate::crypto::rsa::PublicKey;
use crate::keys::credential::SealOptions;
use crate::keys::pkcs11::{Token, TokenError};
use crate::model::reach::Reach;

/// What precedes the wrapping in what is signed: no other signature of the key is taken for one of these.
const SIGNED: &[u8] = b"psi hsm data key v1\0";

/// The key that a token keeps.
pub struct HsmKey {
    /// The token.
    pub token: Token,
}

/// The backend's part of a header, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    wrapped: &'a [u8],
    signature: &'a [u8],
}

#[async_trait]
impl KeyBackend for HsmKey {
    fn tag(&self) -> BackendTag {
        BackendTag::Hsm
    }

    fn reach(&self) -> Reach {
        self.token.reach()
    }

    async fn load(&self, parts: &[Vec<u8>]) -> Result<Vec<LoadedKey>, KeyError> {
        if parts.is_empty() {
            return Err(KeyError::new(
                "there is no key: no file of the state folder carries one that a token wrapped",
                "make one with `psictl cache init --backend hsm`",
            ));
        }
        let public = self.token.public_key().await.map_err(of_token)?;
        let (mut keys, mut forged) = (Vec::new(), None);
        for part in parts {
            match Part::parse(part).ok_or_else(damaged).and_then(|part| part.verify(&public)) {
                Ok(wrapped) => keys.push(self.unwrap(wrapped, part).await?),
                Err(error) => forged = Some(error),
            }
        }
        match forged {
            Some(error) if keys.is_empty() => Err(error),
            Some(error) => {
                // What is sealed under the good ones is not lost to a file that somebody put beside it.
                tracing::warn!("a file of the state folder is not usable: {error}");
                Ok(keys)
            }
            None => Ok(keys),
        }
    }

    async fn keep(&self, key: DataKey, _seal: Option<&SealOptions>) -> Result<LoadedKey, KeyError> {
        let secret = key.to_secret();
        let public = self.token.public_key().await.map_err(of_token)?;
        let wrapped = public.wrap(&secret).map_err(|why| {
            KeyError::new(format!("wrapping a data key: {why}"), "check the token's key")
        })?;
        let signature = self.token.sign(&signed(&wrapped)).await.map_err(of_token)?;
        let part = Part { wrapped: &wrapped, signature: &signature }.to_bytes();
        // The proof is what every later start does.
        let mut opened = self.load(std::slice::from_ref(&part)).await?;
        match opened.pop() {
            Some(opened) if opened.key.to_secret().same_as(&secret) => Ok(opened),
            _ => Err(KeyError::new(
                "a data key that the token just wrapped opens to another key",
                "nothing was changed; check the token",
            )),
        }
    }

    /// The files carry the key: it is in use as soon as one is sealed under it.
    async fn commit(&self) -> Result<(), KeyError> {
        Ok(())
    }
}

impl HsmKey {
    async fn unwrap(&self, wrapped: &[u8], part: &[u8]) -> Result<LoadedKey, KeyError> {
        let secret = self.token.unwrap_key(wrapped).await.map_err(of_token)?;
        let key = DataKey::from_secret(&secret).ok_or_else(|| {
            KeyError::new(
                format!(
                    "the token unwraps a key of {} bytes instead of {}",
                    secret.len(),
                    DataKey::LEN
                ),
                "`psictl cache recover` brings it back with the recovery key",
            )
            .lasting()
        })?;
        Ok(LoadedKey { key, part: part.to_vec() })
    }
}

impl<'a> Part<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (wrapped, signature) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        Some(Self { wrapped, signature })
    }

    fn to_bytes(&self) -> Vec<u8> {
        // An RSA key of 8192 bits, the largest there is here, wraps into 1024 bytes.
        let length = u16::try_from(self.wrapped.len()).unwrap_or(u16::MAX);
        [&length.to_be_bytes(), self.wrapped, self.signature].concat()
    }

    /// The wrapping, when the token signed it.
    fn verify(self, public: &PublicKey) -> Result<&'a [u8], KeyError> {
        if public.verify(&signed(self.wrapped), self.signature) {
            return Ok(self.wrapped);
        }
        Err(KeyError::new(
            "the data key that a file carries is not signed by this token's key: it was made with another \
             token or key, or is forged",
            "if the token was replaced, `psictl cache recover` brings the key back; else set that file \
             aside, and find out who wrote it",
        ))
    }
}

fn signed(wrapped: &[u8]) -> Vec<u8> {
    [SIGNED, wrapped].concat()
}

fn damaged() -> KeyError {
    KeyError::new(
        "the data key that a file carries is damaged",
        "restore the file from a backup, or set it aside",
    )
}

fn of_token(error: TokenError) -> KeyError {
    KeyError::new(error.what, error.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_comes_apart_as_it_was_put_together(wrapped in prop::collection::vec(any::<u8>(), 0..600), signature in prop::collection::vec(any::<u8>(), 0..600)) {
            let part = Part { wrapped: &wrapped, signature: &signature };
            let bytes = part.to_bytes();
            prop_assert_eq!(Part::parse(&bytes), Some(part));
        }

        #[test]
        fn taking_apart_is_total(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(part) = Part::parse(&bytes) {
                prop_assert_eq!(part.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn a_part_that_ends_too_early_is_none() {
        assert_eq!(Part::parse(&[]), None);
        assert_eq!(Part::parse(&[0]), None);
        assert_eq!(Part::parse(&[0, 2, 7]), None);
        assert!(Part::parse(&[0, 2, 7, 7]).is_some());
    }
}
