//! A data key that a PKCS#11 token wraps: each file sealed under it carries the wrapping.
//!
//! ```text
//! length of the wrapping (2, big-endian) · RSA-OAEP-SHA256 of the data key · signature (the rest)
//! ```
//!
//! The token's public key is not secret: anyone can wrap a key of their own with it and seal a whole cache
//! under that key. So the token signs each wrapping, with `CKM_SHA256_RSA_PKCS` over [`SIGNED_PREFIX`] and the
//! wrapping, and the signature is verified before the key is unwrapped.

use async_trait::async_trait;
use psi_common::BackendTag;

use super::{KeyBackend, KeyError, LoadedKey};
use crate::crypto::aead::DataKey;
use crate::crypto::rsa::PublicKey;
use crate::keys::credential::SealOptions;
use crate::keys::pkcs11::{Token, TokenError};
use crate::model::reach::Reach;

/// Prefix of the signed message, so that no other signature of the key is accepted.
const SIGNED_PREFIX: &[u8] = b"psi hsm data key v1\0";

/// The key backend of a token.
pub struct HsmKey {
    /// The token.
    pub token: Token,
}

/// The parsed wrapped-key header.
#[derive(Debug, PartialEq, Eq)]
struct WrappedKey<'a> {
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

    fn bound_to(&self) -> Option<String> {
        Some("the key of the PKCS#11 token".into())
    }

    async fn load(&self, headers: &[Vec<u8>]) -> Result<Vec<LoadedKey>, KeyError> {
        if headers.is_empty() {
            return Err(KeyError::new(
                "there is no key: no file of the state directory has a key that a token wrapped",
                "create one with `psictl cache init --backend hsm`",
            ));
        }
        let public = self.token.public_key().await.map_err(of_token)?;
        let (mut keys, mut forged) = (Vec::new(), None);
        for header in headers {
            match WrappedKey::parse(header).ok_or_else(damaged).and_then(|key| key.verify(&public))
            {
                Ok(wrapped) => keys.push(self.unwrap(wrapped, header).await?),
                Err(error) => forged = Some(error),
            }
        }
        match forged {
            Some(error) if keys.is_empty() => Err(error),
            Some(error) => {
                // A forged file must not make the data under the authentic keys unavailable.
                tracing::warn!("a file of the state directory is not usable: {error}");
                Ok(keys)
            }
            None => Ok(keys),
        }
    }

    async fn store(
        &self,
        key: DataKey,
        _seal: Option<&SealOptions>,
    ) -> Result<LoadedKey, KeyError> {
        let secret = key.to_secret();
        let public = self.token.public_key().await.map_err(of_token)?;
        let wrapped = public.wrap(&secret).map_err(|why| {
            KeyError::new(format!("wrapping a data key: {why}"), "check the token's key")
        })?;
        let signature = self.token.sign(&signed(&wrapped)).await.map_err(of_token)?;
        let header = WrappedKey { wrapped: &wrapped, signature: &signature }.to_bytes();
        // Verified as at each later start.
        let mut opened = self.load(std::slice::from_ref(&header)).await?;
        match opened.pop() {
            Some(opened) if opened.key.to_secret().same_as(&secret) => Ok(opened),
            _ => Err(KeyError::new(
                "the token unwraps another key than it has just wrapped",
                "nothing was changed; check the token",
            )),
        }
    }

    /// Nothing to do: the files hold the wrapped key, so it is in use once a file is sealed under it.
    async fn commit(&self) -> Result<(), KeyError> {
        Ok(())
    }
}

impl HsmKey {
    async fn unwrap(&self, wrapped: &[u8], header: &[u8]) -> Result<LoadedKey, KeyError> {
        let secret = self.token.unwrap_key(wrapped).await.map_err(of_token)?;
        let key = DataKey::from_secret(&secret).ok_or_else(|| {
            KeyError::new(
                format!(
                    "the token unwraps a key of {} bytes instead of {}",
                    secret.len(),
                    DataKey::LEN
                ),
                "`psictl cache recover` restores it with the recovery key",
            )
            .permanent()
        })?;
        Ok(LoadedKey { key, header: header.to_vec() })
    }
}

impl<'a> WrappedKey<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (wrapped, signature) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        Some(Self { wrapped, signature })
    }

    fn to_bytes(&self) -> Vec<u8> {
        // The largest RSA key that is accepted, of 8192 bits, wraps a key into 1024 bytes.
        let length = u16::try_from(self.wrapped.len()).unwrap_or(u16::MAX);
        [&length.to_be_bytes(), self.wrapped, self.signature].concat()
    }

    /// The wrapped key, if the token signed it.
    fn verify(self, public: &PublicKey) -> Result<&'a [u8], KeyError> {
        if public.verify(&signed(self.wrapped), self.signature) {
            return Ok(self.wrapped);
        }
        Err(KeyError::new(
            "the data key in a file is not signed by this token's key: it was made with another token or \
             key, or is forged",
            "if the token was replaced, `psictl cache recover` restores the key; otherwise move that file away, and \
             check which process wrote it",
        ))
    }
}

fn signed(wrapped: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, wrapped].concat()
}

fn damaged() -> KeyError {
    KeyError::new(
        "the data key in a file is damaged",
        "restore the file from a backup, or move it away",
    )
}

fn of_token(error: TokenError) -> KeyError {
    error.problem.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wrapped_key_survives_a_round_trip(wrapped in prop::collection::vec(any::<u8>(), 0..600), signature in prop::collection::vec(any::<u8>(), 0..600)) {
            let key = WrappedKey { wrapped: &wrapped, signature: &signature };
            let bytes = key.to_bytes();
            prop_assert_eq!(WrappedKey::parse(&bytes), Some(key));
        }

        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(key) = WrappedKey::parse(&bytes) {
                prop_assert_eq!(key.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn parse_rejects_truncated_input() {
        assert_eq!(WrappedKey::parse(&[]), None);
        assert_eq!(WrappedKey::parse(&[0]), None);
        assert_eq!(WrappedKey::parse(&[0, 2, 7]), None);
        assert!(WrappedKey::parse(&[0, 2, 7, 7]).is_some());
    }
}
