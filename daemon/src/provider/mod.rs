//! Where values come from.

pub(crate) mod circuit_breaker;
pub(crate) mod infisical;
pub(crate) mod pkcs11_sealed;
pub(crate) mod upstream;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use psi_common::SecretBytes;

use crate::cache::FetchEpoch;
use crate::model::reach::Reach;
use crate::model::reference::{CacheKey, Listing, ListingScope, Namespace, Reference};

/// A source of secrets.
#[async_trait]
pub trait SecretProvider: Send + Sync {
    /// Where a reference leads; `Err` says what is wrong with it. No I/O.
    fn accept(&self, reference: &Reference) -> Result<CacheKey, String>;

    /// Fetches one value: the same that a listing of its directory has. Fetches of one epoch may share a
    /// request; one that began before an invalidation may not answer one that began after it.
    async fn fetch(
        &self,
        reference: &Reference,
        epoch: FetchEpoch,
    ) -> Result<Fetched, ProviderError>;

    /// What a source covers; `Err` says what is wrong with it. No I/O.
    fn extent(&self, source: &Source) -> Result<ListingScope, String>;

    /// Fetches every value of a source, in as few requests as the provider can. `folders` are those
    /// below the source of which something is registered. A source that was listed in part is gone on
    /// with, if that is not long ago.
    async fn list(
        &self,
        source: &Source,
        folders: &BTreeSet<String>,
    ) -> Result<Listed, ProviderError>;

    /// Whether a realm is one of the config's. No I/O.
    fn knows(&self, realm: &Namespace) -> bool;

    /// How the values that it gives are kept.
    fn persistence(&self) -> Persistence;

    /// Whether what is kept in RAM alone could be had once more.
    fn reach(&self) -> Reach {
        Reach::Unknown("a lookup tells".into())
    }

    /// Who takes secrets for it, if it takes any.
    fn writer(&self) -> Option<&dyn SecretWriter>;

    /// The identity that a realm is asked as: a rate limit and a login are its own. No I/O.
    fn identity(&self, _realm: &Namespace) -> String {
        String::new()
    }

    /// An admin asks: pauses that protect nobody but psid end. With `retry`, so does the pause after a
    /// refused login, for one try.
    fn end_pauses(&self, _retry: bool) {}

    /// The identities that cannot log in, a sentence each: which one, why, and what to do about it. No I/O.
    fn login_faults(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends what psid holds at the provider, before psid itself ends. A failure is of no consequence.
    async fn close(&self) {}

    /// Asks whether the host as a whole is well, by the cheapest request there is and without a login.
    async fn status(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// One value, and what came with it.
#[derive(Debug)]
pub struct Fetched {
    /// The value.
    pub value: SecretBytes,
    /// Values of the same directory that the same request brought; who shared a request has none.
    pub beside: Vec<(CacheKey, SecretBytes)>,
}

/// What became of a source's listing.
#[derive(Default)]
pub struct Listed {
    /// What was listed. It speaks for its own extents only, which may be a part of the source.
    pub listing: Listing,
    /// Directories of the source that were refused or are gone, and why. No other one is concerned.
    pub refused: Vec<(ListingScope, ProviderError)>,
    /// Whether this is the rest of a source of which an earlier listing had the first part.
    pub continued: bool,
    /// Why the rest of the source is not listed. The next listing goes on there.
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

/// Where secrets can be written to.
#[async_trait]
pub trait SecretWriter: Send + Sync {
    /// Why a secret could not be kept byte for byte; none, when it can. No I/O.
    fn unfit(&self, key: &str, value: &SecretBytes) -> Option<String>;

    /// What a folder has of its own; without a value, where psid may not read it.
    async fn present(
        &self,
        target: &Target,
    ) -> Result<HashMap<String, Option<SecretBytes>>, ProviderError>;

    /// Makes a folder, and those above it; one that is there is no error.
    async fn make_folder(&self, target: &Target) -> Result<(), ProviderError>;

    /// Writes secrets, all of them or none. There are no more than [`Self::batch`] takes.
    async fn write(
        &self,
        target: &Target,
        how: Write,
        secrets: &[&(String, SecretBytes)],
    ) -> Result<(), ProviderError>;

    /// How many of these secrets, from the first one on, fit into one write: at least one.
    fn batch(&self, secrets: &[&(String, SecretBytes)]) -> usize;
}

/// A folder that secrets are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The project's name in the config.
    pub project: String,
    /// The environment, when it is not the project's own.
    pub environment: Option<String>,
    /// The folder.
    pub path: String,
}

/// How secrets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Each is new.
    Create,
    /// Each is there.
    Update,
}

/// How a provider's values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// In RAM and in `cache.enc`, and asked for again when they are old: the provider may change them,
    /// and may be out.
    Persisted,
    /// In RAM alone, for good: the reference holds the value, sealed, and who sealed it to a token did
    /// not agree to another key.
    MemoryOnly,
}

/// A folder of secrets, as a workload of the config names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The project's name in the config.
    pub project: String,
    /// The folder.
    pub path: String,
    /// Whether the folders below count too.
    pub recursive: bool,
}

/// Why there is no value. Each variant selects one behaviour of the cache and of the circuit breaker.
///
/// | says something of | variants | effect |
/// | --- | --- | --- |
/// | the secret, or its whole source | `NotFound`, `Denied` | may evict, once it is confirmed |
/// | one request | `Failed`, `TimedOut`, `Misbehaved` | pauses this source or key, no other |
/// | the identity | `Throttled`, `Unauthenticated` | pauses this identity, no other |
/// | the host | `Unreachable`, `Unavailable` | the circuit breaker counts it |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderError {
    /// The provider says that there is none: not an outage.
    NotFound(String),
    /// The provider says that psid may not have it: not an outage.
    Denied(String),
    /// The identity used up its rate limit. Other identities are not concerned.
    Throttled {
        /// What it said.
        why: String,
        /// How long it asked to wait.
        wait: Duration,
    },
    /// The login was refused, or there is nothing to log in with. That says nothing of any secret, and
    /// nothing of other identities.
    Unauthenticated {
        /// What is wrong, and what to do about it.
        why: String,
        /// How long no login is tried; none: the login is well, and its token was refused.
        wait: Option<Duration>,
    },
    /// This request failed: the server's own 500, or an answer that is not the server's word (a
    /// gateway's 403 page, a 200 that is no JSON). The next directory or key may be well.
    Failed(String),
    /// This request had no answer in time. The breaker counts it only if several directories time out.
    TimedOut(String),
    /// The provider does not understand psid, or psid it: asking again does not help. What is known
    /// is served.
    Misbehaved(String),
    /// The host is out of reach for everybody: no connection, no TLS, a gateway's 502, 503 or 504.
    Unreachable(String),
    /// The host is out for everybody, and says for how long (503 with `Retry-After`).
    Unavailable {
        /// What it said.
        why: String,
        /// How long it asked to wait.
        wait: Duration,
    },
}

impl ProviderError {
    /// Whether it concerns everybody who asks this provider: only such errors count for the breaker.
    pub fn is_host_wide(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unavailable { .. })
    }

    /// The same error in other words.
    #[must_use]
    pub fn map_why(mut self, f: impl FnOnce(String) -> String) -> Self {
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

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(why)
            | Self::Denied(why)
            | Self::Throttled { why, .. }
            | Self::Unauthenticated { why, .. }
            | Self::Failed(why)
            | Self::TimedOut(why)
            | Self::Unreachable(why)
            | Self::Unavailable { why, .. }
            | Self::Misbehaved(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ProviderError {}

impl fmt::Display for Target {
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
