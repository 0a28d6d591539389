//! Secrets that are sealed to the RSA key of a PKCS#11 token: the reference holds the secret itself, and
//! no more than the token is needed to open it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use psi_common::{MAX_SECRET_BYTES, SecretBytes};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Fetched, Listed, Persistence, ProviderError, SecretProvider, SecretWriter, Source};
use crate::cache::FetchEpoch;
use crate::crypto::aead::DataKey;
use crate::crypto::hybrid::{self, Hybrid, HybridError};
use crate::crypto::rsa::PublicKey;
use crate::keys::pkcs11::{Token, TokenError, TokenErrorKind};
use crate::model::reach::Reach;
use crate::model::reference::{CacheKey, ListingScope, Namespace, Reference};

/// The provider's name in references and in the config.
pub(crate) const NAME: &str = "nitrokeyhsm";
/// The reference's one member.
const BLOB: &str = "blob";

/// How long a busy token is left alone.
const BUSY: Duration = Duration::from_secs(1);

/// How long a blob that does not open is not given to the token again. Some modules answer it with an
/// error that takes a new session, which is half a minute on real tokens: a container that is started
/// again and again must not keep the token from everybody else.
const NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// There are no more of them than this.
const MANY: usize = 1_024;

/// The provider of `[providers.pkcs11]`.
pub struct Pkcs11Sealed {
    token: Token,
    /// Blobs that did not open, by their key in the cache: when, and why.
    refused: Mutex<HashMap<String, (Instant, ProviderError)>>,
}

/// Why a secret was not sealed.
pub enum SealError {
    /// Podman would not take the reference.
    TooLarge {
        /// Bytes of the secret.
        secret: usize,
        /// Bytes that a secret may have under the token's key.
        room: usize,
    },
    /// The token did not do its part.
    Token(TokenError),
    /// The token did its part, and yet what was sealed does not open.
    Unproven(String),
}

/// Why a blob was not opened.
enum OpenError {
    Token(TokenError),
    Damaged(String),
}

impl Pkcs11Sealed {
    /// The provider that opens through `token`.
    pub fn new(token: Token) -> Self {
        Self { token, refused: Mutex::default() }
    }

    /// Seals a secret to the token's key, and proves that the token opens it; the reference as JSON, which
    /// podman takes.
    pub async fn seal(&self, secret: &SecretBytes) -> Result<String, SealError> {
        let public = self.token.public_key().await.map_err(SealError::Token)?;
        let room = room(public.bits().div_ceil(8));
        if secret.len() > room {
            return Err(SealError::TooLarge { secret: secret.len(), room });
        }
        let blob = sealed(secret, &public).map_err(SealError::Unproven)?;
        let opened = self.open(&blob).await.map_err(|error| match error {
            OpenError::Token(error) => SealError::Token(error),
            OpenError::Damaged(why) => SealError::Unproven(why),
        })?;
        if !opened.same_as(secret) {
            return Err(SealError::Unproven("it opens to something else".into()));
        }
        Ok(reference(&blob))
    }

    async fn open(&self, blob: &[u8]) -> Result<SecretBytes, OpenError> {
        let damaged = |why: HybridError| OpenError::Damaged(why.to_string());
        let hybrid = Hybrid::parse(blob).map_err(damaged)?;
        let key = self.token.unwrap_key(hybrid.wrapped()).await.map_err(OpenError::Token)?;
        let key = DataKey::from_secret(&key).ok_or_else(|| {
            OpenError::Damaged(format!("it wraps {} bytes instead of a data key", key.len()))
        })?;
        hybrid.open(&key).map_err(damaged)
    }

    fn refused_lately(&self, name: &str) -> Option<ProviderError> {
        let refused = self.refused.lock();
        let (since, error) = refused.get(name)?;
        (since.elapsed() < NEGATIVE_TTL).then(|| error.clone())
    }

    fn note(&self, name: String, error: &ProviderError) {
        if !matches!(error, ProviderError::Misbehaved(_)) {
            return;
        }
        let mut refused = self.refused.lock();
        if refused.len() >= MANY {
            refused.retain(|_, (since, _)| since.elapsed() < NEGATIVE_TTL);
        }
        // All of them are young: the oldest one goes, for its rest is over first.
        if refused.len() >= MANY
            && let Some(oldest) =
                refused.iter().min_by_key(|(_, (since, _))| *since).map(|(name, _)| name.clone())
        {
            refused.remove(&oldest);
        }
        refused.insert(name, (Instant::now(), error.clone()));
    }
}

/// The data key is forgotten here: what opens the blob is the token alone.
fn sealed(secret: &SecretBytes, public: &PublicKey) -> Result<Vec<u8>, String> {
    let key = DataKey::generate().map_err(|error| error.to_string())?;
    let wrapped = public.wrap(&key.to_secret()).map_err(|error| error.to_string())?;
    hybrid::seal(secret, &key, &wrapped).map_err(|error| error.to_string())
}

#[async_trait]
impl SecretProvider for Pkcs11Sealed {
    fn accept(&self, reference: &Reference) -> Result<CacheKey, String> {
        let blob = blob(reference)?;
        Hybrid::parse(&blob)
            .map_err(|why| format!("its \"{BLOB}\" was not sealed by psi: {why}"))?;
        Ok(CacheKey::new(own_namespace(), "", name(&blob)))
    }

    async fn fetch(&self, reference: &Reference, _: FetchEpoch) -> Result<Fetched, ProviderError> {
        let blob = blob(reference).map_err(ProviderError::Misbehaved)?;
        let name = name(&blob);
        if let Some(error) = self.refused_lately(&name) {
            return Err(error);
        }
        let opened = self.open(&blob).await.map_err(ProviderError::from);
        opened.inspect_err(|error| self.note(name, error)).map(Fetched::from)
    }

    fn scope_of(&self, _: &Source) -> Result<ListingScope, String> {
        Err(NO_FOLDERS.into())
    }

    async fn list(&self, _: &Source, _: &BTreeSet<String>) -> Result<Listed, ProviderError> {
        Err(ProviderError::Misbehaved(NO_FOLDERS.into()))
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

const NO_FOLDERS: &str = "a token has no folders: each reference holds its own secret";

fn own_namespace() -> Namespace {
    Namespace::new(&[NAME])
}

fn blob(reference: &Reference) -> Result<Vec<u8>, String> {
    if let Some(unknown) = reference.members().find(|name| *name != BLOB) {
        return Err(format!("\"{}\" is no member of a {NAME} reference", unknown.escape_debug()));
    }
    let text = reference.member(BLOB).ok_or_else(|| format!("the reference has no \"{BLOB}\""))?;
    STANDARD.decode(text).map_err(|error| format!("its \"{BLOB}\" is not base64: {error}"))
}

/// One blob is one secret, whatever podman calls it.
fn name(blob: &[u8]) -> String {
    Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What podman is given; nothing in it needs escaping.
fn reference(blob: &[u8]) -> String {
    format!(r#"{{"provider":"{NAME}","{BLOB}":"{}"}}"#, STANDARD.encode(blob))
}

/// Bytes that a secret may have for podman to take its reference, when the wrapped key has `wrapped`.
fn room(wrapped: usize) -> usize {
    let base64 = MAX_SECRET_BYTES - reference(&[]).len();
    (base64 / 4 * 3).saturating_sub(hybrid::overhead(wrapped))
}

impl From<OpenError> for ProviderError {
    fn from(error: OpenError) -> Self {
        let error = match error {
            OpenError::Token(error) => error,
            // Not "gone", which would be an answer about the secret: what is asked for makes no sense, and
            // an admin must see to it, so it has to stand in the log and the status.
            OpenError::Damaged(why) => {
                return Self::Misbehaved(format!("the sealed blob is not usable: {why}"));
            }
        };
        let why = format!("{} ({})", error.problem.what, error.problem.remedy);
        match error.kind {
            // What is in RAM is served, and the token is looked for again after a pause that grows.
            TokenErrorKind::Absent | TokenErrorKind::Broken => Self::Unreachable(why),
            TokenErrorKind::Busy => Self::Throttled { why, wait: BUSY },
            TokenErrorKind::Pin => Self::Unauthenticated { why, wait: None },
            // A blob for another key, or a damaged one, as above; or a token that cannot open any.
            TokenErrorKind::Refused | TokenErrorKind::NoKey => Self::Misbehaved(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::pkcs11::{KeyChoice, PinSource, TokenChoice, TokenConfig};

    /// A provider whose token is nowhere.
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

    fn accept(reference: &str) -> Result<CacheKey, String> {
        provider().accept(&Reference::parse(reference.as_bytes()).unwrap())
    }

    #[test]
    fn refused_blobs_are_bounded_and_the_oldest_is_forgotten_first() {
        let provider = provider();
        let error = ProviderError::Misbehaved("damaged".into());
        for number in 0..3 * MANY {
            provider.note(number.to_string(), &error);
        }
        assert_eq!(provider.refused.lock().len(), MANY);
        assert!(provider.refused_lately(&(3 * MANY - 1).to_string()).is_some());
        assert!(provider.refused_lately("0").is_none());
    }

    #[test]
    fn a_reference_is_the_python_psi_s() {
        let mapping =
            include_str!("../../../tests/vectors/python-psi/secrets/36f34945849c779b9bfe26588");
        let at = accept(mapping).unwrap();
        assert_eq!((at.namespace.as_str(), &*at.path), (r#"["nitrokeyhsm"]"#, ""));
        assert_eq!(&*at.key, "0b335b4ec81a04460259e322e2dfb67fe68308d728fc0387f265569d533ecf3f");
        assert!(provider().has_namespace(&at.namespace));
        assert!(!provider().has_namespace(&Namespace::new(&["infisical", "uuid", "prod"])));
    }

    #[test]
    fn what_is_wrong_with_a_reference_is_named() {
        let with = |blob: &str| format!(r#"{{"provider":"nitrokeyhsm","blob":"{blob}"}}"#);
        for (reference, why) in [
            (r#"{"provider":"nitrokeyhsm"}"#.into(), "has no \"blob\""),
            (with("*"), "its \"blob\" is not base64"),
            (with(""), "was not sealed by psi: it is truncated"),
            (with("aGVsbG8gd29ybGQ="), "was not sealed by psi: it begins with a wrapped key"),
            (with(r#"","key":"x"#), "\"key\" is no member of a nitrokeyhsm reference"),
        ] {
            let found = accept(&reference).unwrap_err();
            assert!(found.contains(why), "{reference}: {found}");
        }
    }

    proptest! {
        #[test]
        fn a_blob_s_coordinates_are_its_own(text in prop::collection::vec(any::<u8>(), 0..100), wrapped in 128..=512_usize) {
            let (one, other) = (sealed(&text, wrapped), sealed(&text, wrapped));
            prop_assert_eq!(accept(&reference(&one)).unwrap(), accept(&reference(&one)).unwrap());
            prop_assert_ne!(accept(&reference(&one)).unwrap(), accept(&reference(&other)).unwrap());
        }

        #[test]
        fn accepting_is_total(blob in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = provider().accept(&Reference::new(NAME, [(BLOB, blob.as_str())]));
            let _ = provider().accept(&Reference::new(NAME, [(BLOB, STANDARD.encode(bytes).as_str())]));
        }
    }

    /// The limit is podman's, and it holds for the reference: a byte more, and podman refuses it.
    #[test]
    fn the_room_is_what_podman_takes() {
        for wrapped in [128, 256, 384, 512] {
            let whole = |secret| reference(&sealed(&vec![b'x'; secret], wrapped)).len();
            let room = room(wrapped);
            assert!(whole(room) <= MAX_SECRET_BYTES, "{wrapped}");
            assert!(whole(room + 1) > MAX_SECRET_BYTES, "{wrapped}");
        }
    }
}
