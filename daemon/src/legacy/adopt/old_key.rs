//! The key of an old cache: under tpm as systemd-creds delivers or opens it, under hsm as the token
//! unwraps it.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use psi_common::SecretBytes;

use crate::crypto::aead::DataKey;
use crate::keys::credential::Credential;
use crate::keys::pkcs11::Token;
use crate::legacy::{LegacyError, OldCache, SealedCache};

/// What opens an old cache.
pub(crate) struct OldKeys {
    /// The key of the tpm backend.
    pub(crate) credential: Credential,
    /// The token of the hsm backend, when the config names one.
    pub(crate) token: Option<Box<dyn Unwrap>>,
}

/// A token that holds an RSA key.
#[async_trait]
pub(crate) trait Unwrap: Send + Sync {
    /// Unwraps a data key (RSA-OAEP, SHA-256); `Err` is what happened; what to do.
    async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, String>;
}

#[async_trait]
impl Unwrap for Token {
    async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, String> {
        Self::unwrap_key(self, wrapped).await.map_err(|error| error.to_string())
    }
}

/// Why an old cache was not opened.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// There is no key for it: why.
    NoKey(String),
    /// The token does not give its key now: what happened; what to do.
    NoToken(String),
    /// The file is not usable.
    Unusable(LegacyError),
}

impl OldKeys {
    /// With the key of the tpm backend in a file: 32 bytes, or sealed by systemd-creds.
    pub(crate) fn with_key_in(self, path: &Path) -> Self {
        let is_raw = path.metadata().is_ok_and(|about| about.len() == DataKey::LEN as u64);
        let (delivered, sealed) =
            if is_raw { (Some(path.to_owned()), PathBuf::new()) } else { (None, path.to_owned()) };
        Self { credential: Credential { delivered, sealed, ..self.credential }, ..self }
    }

    /// Opens a file.
    pub(crate) async fn open(&self, file: &[u8]) -> Result<OldCache, NotOpened> {
        let sealed = SealedCache::parse(file).map_err(NotOpened::Unusable)?;
        let key = match sealed.wrapped() {
            None => self.of_systemd().await.map_err(NotOpened::NoKey),
            Some(wrapped) => self.of_token(wrapped).await.map_err(NotOpened::NoToken),
        };
        sealed.open(&key?).map_err(NotOpened::Unusable)
    }

    async fn of_systemd(&self) -> Result<DataKey, String> {
        let Credential { name, sealed, .. } = &self.credential;
        let key = self.credential.read().await;
        let key = key.map_err(|why| format!("the key in {why}"))?;
        let key = key.ok_or_else(|| {
            let sealed = sealed.display();
            format!("there is no key: no credential {name}, no {sealed}")
        })?;
        DataKey::from_secret(&key).ok_or_else(|| {
            let (found, wanted) = (key.len(), DataKey::LEN);
            format!("the key has {found} bytes instead of {wanted}")
        })
    }

    async fn of_token(&self, wrapped: &[u8]) -> Result<DataKey, String> {
        let token = self.token.as_ref().ok_or(
            "its key is wrapped by a token, and the config names none; \
             describe the token in [providers.pkcs11]",
        )?;
        let key = token.unwrap_key(wrapped).await?;
        DataKey::from_secret(&key).ok_or_else(|| {
            let (found, wanted) = (key.len(), DataKey::LEN);
            format!("the token unwrapped {found} bytes instead of {wanted}; check which key it has")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::credential::{Creds, Scope};

    const CACHE: &[u8] = include_bytes!("../../../../tests/vectors/python-psi/cache-hsm.enc");
    const KEY: &[u8] = include_bytes!("../../../../tests/vectors/python-psi/psi-cache-key");

    /// What OpenSSL unwraps with the fixture's `hsm-key.pem`.
    const UNWRAPPED: &str = "29d6afea6258a5179b8455db64fb539fca90bbe758ab1c5083005976d6b5903e";

    struct FakeToken(Result<usize, &'static str>);

    #[async_trait]
    impl Unwrap for FakeToken {
        async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, String> {
            assert_eq!(wrapped.len(), 256);
            let length = self.0?;
            let digits = UNWRAPPED.as_bytes().chunks(2).take(length);
            let byte = |hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
            Ok(SecretBytes::new(digits.map(byte).collect()))
        }
    }

    fn keys(token: Option<FakeToken>) -> OldKeys {
        let credential = Credential {
            name: "psi-cache-key".into(),
            delivered: None,
            sealed: "/nonexistent/cache.key".into(),
            creds: Creds::Child(Scope::System),
        };
        OldKeys { credential, token: token.map(|token| Box::new(token) as Box<dyn Unwrap>) }
    }

    async fn why(keys: &OldKeys, file: &[u8]) -> String {
        match keys.open(file).await.err().unwrap() {
            NotOpened::NoKey(why) | NotOpened::NoToken(why) => why,
            NotOpened::Unusable(why) => why.to_string(),
        }
    }

    #[tokio::test]
    async fn a_token_opens_the_cache_of_the_hsm_backend() {
        assert_eq!(keys(Some(FakeToken(Ok(32)))).open(CACHE).await.unwrap().len(), 7);
        let short = why(&keys(Some(FakeToken(Ok(16)))), CACHE).await;
        assert!(short.contains("the token unwrapped 16 bytes instead of 32"), "{short}");
        let away = why(&keys(Some(FakeToken(Err("it is away; put it in")))), CACHE).await;
        assert_eq!(away, "it is away; put it in");
        assert!(why(&keys(None), CACHE).await.contains("[providers.pkcs11]"));
    }

    #[tokio::test]
    async fn a_raw_key_may_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let file = include_bytes!("../../../../tests/vectors/python-psi/cache-tpm.enc");
        assert!(why(&keys(None), file).await.starts_with("there is no key: no credential"));
        std::fs::write(&path, KEY).unwrap();
        assert_eq!(keys(None).with_key_in(&path).open(file).await.unwrap().len(), 7);
        std::fs::write(&path, [1; 32]).unwrap();
        let other = why(&keys(None).with_key_in(&path), file).await;
        assert_eq!(other, "it was damaged, or sealed under another key");
    }
}
