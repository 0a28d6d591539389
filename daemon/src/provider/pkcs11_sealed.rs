//! Secrets that are sealed to the RSA key of a PKCS#11 token. The reference itself holds the sealed secret, and
//! the token opens it; no server is involved.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use psi_common::{MAX_SECRET_BYTES, SecretBytes};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Fetched, InvalidReference, Listed, PKCS11, Persistence, ProviderError, SecretProvider,
    SecretWriter, Source,
};
use crate::cache::FetchEpoch;
use crate::crypto::aead::DataKey;
use crate::crypto::hybrid::{self, Hybrid, HybridError};
use crate::crypto::rsa::{PublicKey, RsaError};
use crate::keys::pkcs11::{Token, TokenError, TokenErrorKind};
use crate::model::reach::Reach;
use crate::model::reference::{CacheKey, ListingScope, Namespace, Reference};

/// The only member of a reference: the sealed secret in base64.
const BLOB: &str = "blob";

/// The pause after a call that a busy token did not serve.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// How long a blob that did not open is not passed to the token again. Some modules return an error that requires
/// a new session, which takes half a minute on real tokens: a container that restarts in a loop must not block
/// the token for all others.
const NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// The most blobs that are remembered as not opening.
const MAX_NEGATIVE: usize = 1_024;

/// The provider of `[providers.pkcs11]`.
pub struct Pkcs11Sealed {
    token: Token,
    /// Blobs that did not open, by their cache key: the time and the error.
    negative: Mutex<HashMap<String, (Instant, ProviderError)>>,
}

/// A secret was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Podman would not accept the reference.
    #[error("the secret has {secret} bytes, and at most {max} can be sealed to this token's key")]
    TooLarge {
        /// Bytes of the secret.
        secret: usize,
        /// The most bytes under the token's key.
        max: usize,
    },
    /// The token failed.
    #[error("{0}")]
    Token(TokenError),
    /// The encryption failed.
    #[error("{0}")]
    Crypto(#[from] SealingError),
    /// The token did not open what was sealed.
    #[error("{0}")]
    NotOpened(OpenError),
    /// The token opened the sealed secret to another value.
    #[error("it opens to another value")]
    OtherValue,
}

/// A secret was not encrypted.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// There are no random numbers.
    #[error("{0}")]
    Random(#[from] getrandom::Error),
    /// The token's key does not wrap.
    #[error("{0}")]
    Rsa(#[from] RsaError),
}

/// A blob was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The token failed.
    #[error("{0}")]
    Token(TokenError),
    /// The blob is malformed or damaged.
    #[error("{0}")]
    Damaged(#[from] HybridError),
    /// It wraps something other than a data key.
    #[error("it wraps {0} bytes instead of a data key")]
    KeyLength(usize),
}

/// What podman stores.
#[derive(Serialize)]
struct ReferenceJson<'a> {
    provider: &'a str,
    blob: &'a str,
}

impl Pkcs11Sealed {
    /// The provider that opens through `token`.
    pub fn new(token: Token) -> Self {
        Self { token, negative: Mutex::default() }
    }

    /// Seals a secret to the token's key, and verifies that the token opens it. Returns the reference as JSON, for
    /// podman to store.
    pub async fn seal(&self, secret: &SecretBytes) -> Result<String, SealError> {
        let public = self.token.public_key().await.map_err(SealError::Token)?;
        let max = max_secret_len(public.bits().div_ceil(8));
        if secret.len() > max {
            return Err(SealError::TooLarge { secret: secret.len(), max });
        }
        let blob = sealed(secret, &public)?;
        let opened = self.open(&blob).await.map_err(|error| match error {
            OpenError::Token(error) => SealError::Token(error),
            other => SealError::NotOpened(other),
        })?;
        if !opened.same_as(secret) {
            return Err(SealError::OtherValue);
        }
        Ok(reference_json(&blob))
    }

    async fn open(&self, blob: &[u8]) -> Result<SecretBytes, OpenError> {
        let hybrid = Hybrid::parse(blob)?;
        let key = self.token.unwrap_key(hybrid.wrapped()).await.map_err(OpenError::Token)?;
        let key = DataKey::from_secret(&key).ok_or(OpenError::KeyLength(key.len()))?;
        Ok(hybrid.open(&key)?)
    }

    fn negative_hit(&self, key: &str) -> Option<ProviderError> {
        let negative = self.negative.lock();
        let (since, error) = negative.get(key)?;
        (since.elapsed() < NEGATIVE_TTL).then(|| error.clone())
    }

    fn note_error(&self, key: String, error: &ProviderError) {
        if !matches!(error, ProviderError::Misbehaved(_)) {
            return;
        }
        let mut negative = self.negative.lock();
        if negative.len() >= MAX_NEGATIVE {
            negative.retain(|_, (since, _)| since.elapsed() < NEGATIVE_TTL);
        }
        // If all of them still hold, the oldest one is dropped, because it expires first.
        if negative.len() >= MAX_NEGATIVE
            && let Some(oldest) =
                negative.iter().min_by_key(|(_, (since, _))| *since).map(|(key, _)| key.clone())
        {
            negative.remove(&oldest);
        }
        negative.insert(key, (Instant::now(), error.clone()));
    }
}

/// The blob of a secret. Its data key is dropped here, so that only the token opens it.
fn sealed(secret: &SecretBytes, public: &PublicKey) -> Result<Vec<u8>, SealingError> {
    let key = DataKey::generate()?;
    let wrapped = public.wrap(&key.to_secret())?;
    Ok(hybrid::seal(secret, &key, &wrapped)?)
}

#[async_trait]
impl SecretProvider for Pkcs11Sealed {
    fn accept(&self, reference: &Reference) -> Result<CacheKey, InvalidReference> {
        let blob = blob(reference)?;
        Hybrid::parse(&blob)?;
        Ok(CacheKey::new(own_namespace(), "", key_of(&blob)))
    }

    async fn fetch(&self, reference: &Reference, _: FetchEpoch) -> Result<Fetched, ProviderError> {
        let blob = blob(reference)?;
        let key = key_of(&blob);
        if let Some(error) = self.negative_hit(&key) {
            return Err(error);
        }
        let opened = self.open(&blob).await.map_err(ProviderError::from);
        opened.inspect_err(|error| self.note_error(key, error)).map(Fetched::from)
    }

    fn scope_of(&self, _: &Source) -> Result<ListingScope, InvalidReference> {
        Err(InvalidReference::NoDirectories)
    }

    async fn list(&self, _: &Source, _: &BTreeSet<String>) -> Result<Listed, ProviderError> {
        Err(InvalidReference::NoDirectories.into())
    }

    fn has_namespace(&self, namespace: &Namespace) -> bool {
        *namespace == own_namespace()
    }

    fn persistence(&self) -> Persistence {
        Persistence::MemoryOnly
    }

    fn reach(&self) -> Reach {
        self.token.reach()
    }

    fn writer(&self) -> Option<&dyn SecretWriter> {
        None
    }
}

/// The namespace of all values from the token.
fn own_namespace() -> Namespace {
    Namespace::new(&[PKCS11])
}

/// The sealed secret in a reference.
fn blob(reference: &Reference) -> Result<Vec<u8>, InvalidReference> {
    if let Some(unknown) = reference.members().find(|name| *name != BLOB) {
        let (member, provider) = (unknown.to_owned(), "a pkcs11");
        return Err(InvalidReference::UnknownMember { member, provider });
    }
    let text = reference.member(BLOB).ok_or(InvalidReference::Missing(BLOB))?;
    Ok(STANDARD.decode(text)?)
}

/// The cache key of a blob: its hash, so that the podman secrets with one blob share an entry.
fn key_of(blob: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(blob))
}

/// The reference with a blob.
fn reference_json(blob: &[u8]) -> String {
    let reference = ReferenceJson { provider: PKCS11, blob: &STANDARD.encode(blob) };
    serde_json::to_string(&reference).unwrap_or_default()
}

/// The most bytes of a secret whose reference podman accepts, for a wrapped key of `wrapped` bytes.
fn max_secret_len(wrapped: usize) -> usize {
    let base64 = MAX_SECRET_BYTES - reference_json(&[]).len();
    (base64 / 4 * 3).saturating_sub(hybrid::overhead(wrapped))
}

impl From<OpenError> for ProviderError {
    fn from(error: OpenError) -> Self {
        let error = match error {
            OpenError::Token(error) => error,
            // Not `NotFound`, which is an answer about the secret: an admin must replace the blob, so the log and
            // the status report it.
            damaged => {
                return Self::Misbehaved(format!("the sealed blob is not usable: {damaged}"));
            }
        };
        let why = format!("{} ({})", error.problem.what, error.problem.remedy);
        match error.kind {
            // Cached values are served, and the token is called again after growing pauses.
            TokenErrorKind::Absent | TokenErrorKind::Broken => Self::Unreachable(why),
            TokenErrorKind::Busy => Self::Throttled { why, wait: BUSY_PAUSE },
            TokenErrorKind::Pin => Self::Unauthenticated { why, wait: None },
            // The blob is damaged or belongs to another key, or the token cannot decrypt at all.
            TokenErrorKind::Refused | TokenErrorKind::NoKey => Self::Misbehaved(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::pkcs11::{KeyChoice, PinSource, TokenChoice, TokenConfig};

    /// A provider whose module does not exist.
    fn provider() -> Pkcs11Sealed {
        Pkcs11Sealed::new(Token::new(TokenConfig {
            module: "/nonexistent".into(),
            token: TokenChoice::Slot(0),
            key: KeyChoice::Label("key".into()),
            pin: PinSource::File("/nonexistent".into()),
            failed_logins: crate::storage::failed_logins::FailedLogins::in_ram(),
            retry: false,
        }))
    }

    fn sealed(text: &[u8], wrapped: usize) -> Vec<u8> {
        let key = DataKey::generate().unwrap();
        hybrid::seal(&SecretBytes::new(text.to_vec()), &key, &vec![7; wrapped]).unwrap()
    }

    fn accept(reference: &str) -> Result<CacheKey, InvalidReference> {
        provider().accept(&Reference::parse(reference.as_bytes()).unwrap())
    }

    #[test]
    fn negative_entries_are_bounded_and_the_oldest_is_dropped() {
        let provider = provider();
        let error = ProviderError::Misbehaved("damaged".into());
        for number in 0..3 * MAX_NEGATIVE {
            provider.note_error(number.to_string(), &error);
        }
        assert_eq!(provider.negative.lock().len(), MAX_NEGATIVE);
        assert!(provider.negative_hit(&(3 * MAX_NEGATIVE - 1).to_string()).is_some());
        assert!(provider.negative_hit("0").is_none());
    }

    #[test]
    fn accept_takes_references_of_version_1() {
        let mapping =
            include_str!("../../../tests/vectors/python-psi/secrets/36f34945849c779b9bfe26588");
        let key = accept(mapping).unwrap();
        assert_eq!((key.namespace.as_str(), &*key.path), (r#"["pkcs11"]"#, ""));
        assert_eq!(&*key.key, "0b335b4ec81a04460259e322e2dfb67fe68308d728fc0387f265569d533ecf3f");
        assert!(provider().has_namespace(&key.namespace));
        assert!(!provider().has_namespace(&Namespace::new(&["infisical", "uuid", "prod"])));
    }

    #[test]
    fn accept_rejects_malformed_references() {
        let with = |blob: &str| format!(r#"{{"provider":"pkcs11","blob":"{blob}"}}"#);
        for (reference, why) in [
            (r#"{"provider":"pkcs11"}"#.into(), "has no \"blob\""),
            (with("*"), "its \"blob\" is not base64"),
            (with(""), "was not sealed by psi: it is truncated"),
            (with("aGVsbG8gd29ybGQ="), "was not sealed by psi: it begins with a wrapped key"),
            (with(r#"","key":"x"#), "\"key\" is not a member of a pkcs11 reference"),
        ] {
            let found = accept(&reference).unwrap_err().to_string();
            assert!(found.contains(why), "{reference}: {found}");
        }
    }

    proptest! {
        #[test]
        fn each_blob_has_its_own_cache_key(text in prop::collection::vec(any::<u8>(), 0..100), wrapped in 128..=512_usize) {
            let (one, other) = (sealed(&text, wrapped), sealed(&text, wrapped));
            prop_assert_eq!(accept(&reference_json(&one)).unwrap(), accept(&reference_json(&one)).unwrap());
            prop_assert_ne!(accept(&reference_json(&one)).unwrap(), accept(&reference_json(&other)).unwrap());
        }

        #[test]
        fn accept_never_panics(blob in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = provider().accept(&Reference::new(PKCS11, [(BLOB, blob.as_str())]));
            let _ = provider().accept(&Reference::new(PKCS11, [(BLOB, STANDARD.encode(bytes).as_str())]));
        }
    }

    /// Podman limits the reference, not the secret in it.
    #[test]
    fn largest_secret_makes_the_largest_reference() {
        for wrapped in [128, 256, 384, 512] {
            let length = |secret| reference_json(&sealed(&vec![b'x'; secret], wrapped)).len();
            let max = max_secret_len(wrapped);
            assert!(length(max) <= MAX_SECRET_BYTES, "{wrapped}");
            assert!(length(max + 1) > MAX_SECRET_BYTES, "{wrapped}");
        }
    }
}
