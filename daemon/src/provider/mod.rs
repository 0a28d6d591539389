//! Providers: the sources that secrets are fetched from.

pub(crate) mod circuit_breaker;
mod expiry;
pub(crate) mod infisical;
mod invalid_reference;
pub(crate) mod pkcs11_sealed;
pub(crate) mod upstream;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use psi_common::{CheckProblem, CheckedLogin, CheckedServer, SecretBytes};

use crate::cache::FetchEpoch;
use crate::model::clock::Now;
use crate::model::reach::Reach;
use crate::model::reference::{CacheKey, Listing, ListingScope, Namespace, Reference};

pub use expiry::CredentialExpiry;
pub(crate) use expiry::{Urgency, Validity};
pub use invalid_reference::InvalidReference;

/// The name of the token's provider, in the config and in references.
pub(crate) const PKCS11: &str = "pkcs11";

/// The name in the config of the provider that a reference names: references of psi version 1 say `nitrokeyhsm`.
pub(crate) fn configured_name(name: &str) -> &str {
    if name == "nitrokeyhsm" { PKCS11 } else { name }
}

/// A source of secrets.
#[async_trait]
pub trait SecretProvider: Send + Sync {
    /// The cache key of a reference. No I/O.
    fn accept(&self, reference: &Reference) -> Result<CacheKey, InvalidReference>;

    /// Fetches one value, the same that a listing of its directory has. Fetches of one epoch may share a
    /// request; a request that began before an invalidation must not serve a fetch that began after it.
    async fn fetch(
        &self,
        reference: &Reference,
        epoch: FetchEpoch,
    ) -> Result<Fetched, ProviderError>;

    /// What a source covers. No I/O.
    fn scope_of(&self, source: &Source) -> Result<ListingScope, InvalidReference>;

    /// Fetches every value of a source in as few requests as possible. `directories` are those below the
    /// source in which something is registered. A recent incomplete listing of the source is continued.
    async fn list(
        &self,
        source: &Source,
        directories: &BTreeSet<String>,
    ) -> Result<Listed, ProviderError>;

    /// Whether the config has this namespace. No I/O.
    fn has_namespace(&self, namespace: &Namespace) -> bool;

    /// Where its values may be kept.
    fn persistence(&self) -> Persistence;

    /// Whether values that are kept in RAM only could be fetched again now.
    fn reach(&self) -> Reach {
        Reach::Unknown("a lookup shows it".into())
    }

    /// Its interface for writing, if it has one.
    fn writer(&self) -> Option<&dyn SecretWriter>;

    /// The identity that a namespace is read as: rate limits and logins are counted by identity. No I/O.
    fn identity(&self, _namespace: &Namespace) -> String {
        String::new()
    }

    /// Ends pauses that only limit psid's own retries, for an admin's command. With `retry`, one login is
    /// tried even after a refused one.
    fn clear_backoff(&self, _retry: bool) {}

    /// A sentence for each identity that cannot log in: which one, why, and what fixes it. No I/O.
    fn login_faults(&self) -> Vec<String> {
        Vec::new()
    }

    /// The credentials of its logins that expire. Reads local files only.
    fn expiring_credentials(&self) -> Vec<CredentialExpiry> {
        Vec::new()
    }

    /// Probes the server and logs in once with each identity, for an admin's command. A refused login is not
    /// repeated without `retry`.
    async fn check_logins(&self, _retry: bool, _now: Now) -> ProviderCheck {
        ProviderCheck::default()
    }

    /// The error of a source as a sentence for an admin, with what fixes it. No I/O.
    fn explain(&self, _source: &Source, error: &ProviderError) -> CheckProblem {
        CheckProblem::transient(error.to_string(), "try again later")
    }

    /// Ends psid's sessions at the provider, at shutdown. Failures are ignored.
    async fn close(&self) {}

    /// Checks whether the host is available, by its cheapest request and without a login.
    async fn status(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// The result of [`SecretProvider::check_logins`]. The names of the provider are for the caller to fill in.
#[derive(Debug, Default)]
pub struct ProviderCheck {
    /// The server; none for a provider without one.
    pub server: Option<CheckedServer>,
    /// Each identity.
    pub identities: Vec<CheckedIdentity>,
}

/// The login of an identity.
#[derive(Debug)]
pub struct CheckedIdentity {
    /// The identity, as [`SecretProvider::identity`] names it.
    pub subject: String,
    /// Its login.
    pub login: CheckedLogin,
}

/// The result of a fetch.
#[derive(Debug)]
pub struct Fetched {
    /// The value.
    pub value: SecretBytes,
    /// Other values of the directory that the same request brought; empty for a fetch that shared another
    /// one's request.
    pub beside: Vec<(CacheKey, SecretBytes)>,
}

/// The result of listing a source.
#[derive(Default)]
pub struct Listed {
    /// The listing. It may cover a part of the source only, and is no evidence about the rest.
    pub listing: Listing,
    /// Directories of the source that were refused or do not exist, and why.
    pub refused: Vec<(ListingScope, ProviderError)>,
    /// Whether this continues an earlier incomplete listing.
    pub continued: bool,
    /// Why the listing is incomplete. The next listing continues it.
    pub incomplete: Option<ProviderError>,
}

impl From<SecretBytes> for Fetched {
    fn from(value: SecretBytes) -> Self {
        Self { value, beside: Vec::new() }
    }
}

impl From<Listing> for Listed {
    fn from(listing: Listing) -> Self {
        Self { listing, ..Self::default() }
    }
}

/// A destination for imported secrets.
#[async_trait]
pub trait SecretWriter: Send + Sync {
    /// Why the provider would not keep a secret byte for byte; none if it would. No I/O.
    fn rejection(&self, key: &str, value: &SecretBytes) -> Option<String>;

    /// The secrets that a directory itself has; without a value where psid may not read it.
    async fn existing(
        &self,
        target: &WriteTarget,
    ) -> Result<HashMap<String, Option<SecretBytes>>, ProviderError>;

    /// Makes a directory and its parents; it may exist already.
    async fn make_directory(&self, target: &WriteTarget) -> Result<(), ProviderError>;

    /// Writes all of these secrets or none: at most as many as [`Self::batch`] allows.
    async fn write(
        &self,
        target: &WriteTarget,
        mode: WriteMode,
        secrets: &[&(String, SecretBytes)],
    ) -> Result<(), ProviderError>;

    /// How many of these secrets, from the first one on, fit into one write: at least one.
    fn batch(&self, secrets: &[&(String, SecretBytes)]) -> usize;
}

/// The directory that secrets are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteTarget {
    /// The project's name in the config.
    pub project: String,
    /// The environment; none: the project's own.
    pub environment: Option<String>,
    /// The directory.
    pub path: String,
}

/// Whether written secrets exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Each is new.
    Create,
    /// Each exists.
    Update,
}

/// Where a provider's values may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// In RAM and in `cache.enc`, and fetched again when they are old: the provider may change them, and
    /// may be unreachable.
    Persisted,
    /// In RAM only, for as long as psid runs: the reference itself holds the value, sealed to a token, and
    /// psid must not seal it to another key.
    MemoryOnly,
}

/// A directory of secrets, as a workload of the config names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The project's name in the config.
    pub project: String,
    /// The directory.
    pub path: String,
    /// Whether the directories below it are included.
    pub recursive: bool,
}

/// A request failed. Each variant selects one behaviour of the cache and of the circuit breaker.
///
/// | concerns | variants | effect |
/// | --- | --- | --- |
/// | the secret, or its whole source | `NotFound`, `Denied` | may evict, once it is confirmed |
/// | one request | `Failed`, `TimedOut`, `Misbehaved` | pauses this source or key only |
/// | the identity | `Throttled`, `Unauthenticated` | pauses this identity only |
/// | the host | `Unreachable`, `Unavailable` | is counted by the circuit breaker |
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The provider answers that the secret does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The provider denies access to the secret.
    #[error("{0}")]
    Denied(String),
    /// The identity used up its rate limit.
    #[error("{why}")]
    Throttled {
        /// The provider's message.
        why: String,
        /// How long it asked to wait.
        wait: Duration,
    },
    /// The login was refused, or there is no credential for it. No evidence about any secret or any other
    /// identity.
    #[error("{why}")]
    Unauthenticated {
        /// What is wrong, and what fixes it.
        why: String,
        /// How long no login is tried; none: the login succeeded, and its token was refused.
        wait: Option<Duration>,
    },
    /// This request failed: the server's own 500, or an answer that is not from the server (a gateway's 403
    /// page, a 200 without JSON). The next directory or key may succeed.
    #[error("{0}")]
    Failed(String),
    /// This request was not answered in time. The breaker counts it only if several directories time out.
    #[error("{0}")]
    TimedOut(String),
    /// The provider does not understand the request, or psid the answer: a retry does not help. Cached
    /// values are served.
    #[error("{0}")]
    Misbehaved(String),
    /// The host is unreachable for every request: no connection, no TLS, a gateway's 502, 503 or 504.
    #[error("{0}")]
    Unreachable(String),
    /// The host is unavailable for every request, and says for how long (503 with `Retry-After`).
    #[error("{why}")]
    Unavailable {
        /// The provider's message.
        why: String,
        /// How long it asked to wait.
        wait: Duration,
    },
}

impl ProviderError {
    /// Whether it concerns every request to this provider: the breaker counts such errors only.
    pub(crate) fn is_host_wide(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unavailable { .. })
    }

    /// The same error with another message.
    #[must_use]
    pub(crate) fn map_message(mut self, f: impl FnOnce(String) -> String) -> Self {
        let (Self::NotFound(why)
        | Self::Denied(why)
        | Self::Throttled { why, .. }
        | Self::Unauthenticated { why, .. }
        | Self::Failed(why)
        | Self::TimedOut(why)
        | Self::Misbehaved(why)
        | Self::Unreachable(why)
        | Self::Unavailable { why, .. }) = &mut self;
        *why = f(std::mem::take(why));
        self
    }
}

impl fmt::Display for WriteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.project)?;
        if let Some(environment) = &self.environment {
            write!(f, "{environment}:")?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.recursive { "/**" } else { "" };
        write!(
            f,
            "{}:{}{below}",
            self.project,
            self.path.trim_end_matches(if self.recursive { '/' } else { '\0' })
        )
    }
}
