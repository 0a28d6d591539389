//! The key of an old cache: under tpm a credential of systemd-creds, under hsm a wrapped key that the token unwraps.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use psi_common::{Problem, SecretBytes};

use crate::crypto::aead::DataKey;
use crate::keys::credential::{Credential, CredsError};
use crate::keys::pkcs11::Token;
use crate::legacy::{LegacyError, OldCache, SealedCache};

/// The sources of the key of an old cache.
pub(crate) struct OldKeys {
    /// The key of the tpm backend.
    pub(crate) credential: Credential,
    /// The token of the hsm backend, if the config names one.
    pub(crate) token: Option<Box<dyn KeyUnwrapper>>,
}

/// A token that holds an RSA key.
#[async_trait]
pub(crate) trait KeyUnwrapper: Send + Sync {
    /// Unwraps a data key (RSA-OAEP, SHA-256).
    async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, Problem>;
}

#[async_trait]
impl KeyUnwrapper for Token {
    async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, Problem> {
        Self::unwrap_key(self, wrapped).await.map_err(|error| error.problem)
    }
}

/// An old cache was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OldCacheError {
    /// There is no key of the tpm backend.
    #[error("there is no key: no credential {credential}, no {}", sealed.display())]
    NoKey { credential: String, sealed: PathBuf },
    /// The key of the tpm backend does not open.
    #[error("the key in {0}")]
    Credential(#[from] CredsError),
    /// The key of the tpm backend is something else.
    #[error("the key has {0} bytes instead of {length}", length = DataKey::LEN)]
    KeyLength(usize),
    /// The token does not unwrap the key.
    #[error("{0}")]
    Token(Problem),
    /// The file is not usable.
    #[error("{0}")]
    Unusable(#[from] LegacyError),
}

impl OldKeys {
    /// Takes the key of the tpm backend from a file: 32 bytes, or sealed by systemd-creds.
    pub(crate) fn with_key_in(self, path: &Path) -> Self {
        let is_raw = path.metadata().is_ok_and(|about| about.len() == DataKey::LEN as u64);
        let (delivered, sealed) =
            if is_raw { (Some(path.to_owned()), PathBuf::new()) } else { (None, path.to_owned()) };
        Self { credential: Credential { delivered, sealed, ..self.credential }, ..self }
    }

    /// Opens a file.
    pub(crate) async fn open(&self, file: &[u8]) -> Result<OldCache, OldCacheError> {
        let sealed = SealedCache::parse(file)?;
        let key = match sealed.wrapped() {
            None => self.key_of_systemd().await?,
            Some(wrapped) => self.key_of_token(wrapped).await.map_err(OldCacheError::Token)?,
        };
        Ok(sealed.open(&key)?)
    }

    async fn key_of_systemd(&self) -> Result<DataKey, OldCacheError> {
        let Credential { name, sealed, .. } = &self.credential;
        let key = self.credential.read().await?.ok_or_else(|| OldCacheError::NoKey {
            credential: name.clone(),
            sealed: sealed.clone(),
        })?;
        DataKey::from_secret(&key).ok_or(OldCacheError::KeyLength(key.len()))
    }

    async fn key_of_token(&self, wrapped: &[u8]) -> Result<DataKey, Problem> {
        let token = self.token.as_ref().ok_or_else(|| {
            Problem::new(
                "its key is wrapped by a token, and the config names none",
                "describe the token in [providers.pkcs11]",
            )
        })?;
        let key = token.unwrap_key(wrapped).await?;
        DataKey::from_secret(&key).ok_or_else(|| {
            let (found, expected) = (key.len(), DataKey::LEN);
            Problem::new(
                format!("the token unwrapped {found} bytes instead of {expected}"),
                "check its key with `psictl hsm preflight`",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::keys::credential::{Creds, Scope};

    const CACHE: &[u8] = include_bytes!("../../../../tests/vectors/python-psi/cache-hsm.enc");
    const KEY: &[u8] = include_bytes!("../../../../tests/vectors/python-psi/psi-cache-key");

    /// The data key, as OpenSSL unwraps it with the fixture's `hsm-key.pem`.
    const UNWRAPPED: &str = "29d6afea6258a5179b8455db64fb539fca90bbe758ab1c5083005976d6b5903e";

    struct FakeToken(Result<usize, &'static str>);

    #[async_trait]
    impl KeyUnwrapper for FakeToken {
        async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, Problem> {
            assert_eq!(wrapped.len(), 256);
            let length = self.0.map_err(|what| Problem::new(what, "plug it in"))?;
            let key = HEXLOWER.decode(UNWRAPPED.as_bytes()).unwrap();
            Ok(SecretBytes::new(key[..length].to_vec()))
        }
    }

    fn keys(token: Option<FakeToken>) -> OldKeys {
        let credential = Credential {
            name: "psi-cache-key".into(),
            delivered: None,
            sealed: "/nonexistent/cache.key".into(),
            creds: Creds::Child(Scope::System),
        };
        OldKeys { credential, token: token.map(|token| Box::new(token) as Box<dyn KeyUnwrapper>) }
    }

    async fn why(keys: &OldKeys, file: &[u8]) -> String {
        keys.open(file).await.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn token_opens_the_cache_of_the_hsm_backend() {
        assert_eq!(keys(Some(FakeToken(Ok(32)))).open(CACHE).await.unwrap().len(), 7);
        let short = why(&keys(Some(FakeToken(Ok(16)))), CACHE).await;
        assert!(short.contains("the token unwrapped 16 bytes instead of 32"), "{short}");
        let absent = why(&keys(Some(FakeToken(Err("it is absent")))), CACHE).await;
        assert_eq!(absent, "it is absent; plug it in");
        assert!(why(&keys(None), CACHE).await.contains("[providers.pkcs11]"));
    }

    #[tokio::test]
    async fn key_may_be_given_as_a_raw_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let file = include_bytes!("../../../../tests/vectors/python-psi/cache-tpm.enc");
        assert!(why(&keys(None), file).await.starts_with("there is no key: no credential"));
        std::fs::write(&path, KEY).unwrap();
        assert_eq!(keys(None).with_key_in(&path).open(file).await.unwrap().len(), 7);
        std::fs::write(&path, [1; 32]).unwrap();
        let other = why(&keys(None).with_key_in(&path), file).await;
        assert_eq!(other, "it was damaged, or sealed under another key");
    }
}
