//! Lookups and registrations: the service that the gRPC layer calls. It knows no wire format, disk or
//! configuration file.

mod access;
mod classify;
mod contents;
mod error;
mod facade;
mod fetch;
pub(crate) mod kube;
pub(crate) mod outage_drill;
pub(crate) mod readiness;
mod registrations;
mod report;
mod resolve;
mod self_test;
mod siblings;
pub(crate) mod single_flight;
mod value_version;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use psi_common::{SecretBytes, SecretId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::{Cache, CacheLookup, Entry, FetchEpoch};
use crate::lookup::outage_drill::OutageDrill;
use crate::lookup::readiness::Readiness;
use crate::lookup::single_flight::SingleFlight;
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::principal::Principal;
use crate::model::reference::{CacheKey, Reference};
use crate::provider::ProviderError;
use crate::provider::upstream::Upstreams;
use crate::registry::resolved::ResolvedReference;
use crate::registry::{Registered, Registry};
use crate::sys::tasks::Tasks;
use error::{is_revocation, no_answer, refused, too_old};
use fetch::FetchRequest;
use resolve::resolve_upstream;

#[cfg(test)]
pub(crate) use contents::SourceValue;
pub(crate) use contents::{SourceContents, SourceKey};
pub use error::ServiceError;
pub(crate) use error::refusal;
pub(crate) use facade::{NamedRegistration, ServiceReport};
use report::Counters;
pub(crate) use report::{LookupCounts, Withheld};
pub(crate) use self_test::{Certainty, OutageReport, SelfTestContext};
pub(crate) use value_version::ValueVersion;

/// How long a lookup that holds a servable value waits for a newer one. Podman holds its lock meanwhile.
const STALE_WAIT: Duration = Duration::from_secs(1);

/// What is left of a lookup's time to ask a provider, when the key does not open.
const FETCH_RESERVE: Duration = Duration::from_secs(4);

/// The daemon's core.
pub struct Service {
    /// What podman registered.
    registry: Arc<Registry>,
    /// The cached values.
    cache: Arc<Cache>,
    /// Not ready while the key is being unlocked.
    readiness: Readiness,
    /// Notified when a provider recovers.
    recovered: Arc<Notify>,
    /// The simulated outage.
    drill: Arc<OutageDrill>,
    /// The background tasks.
    tasks: Arc<Tasks>,
    upstreams: RwLock<Arc<Upstreams>>,
    flights: SingleFlight<(CacheKey, FetchEpoch), Result<Arc<Entry>, ProviderError>>,
    lookups: Counters,
    /// The cache keys of deleted registrations, and when they were deleted.
    deleted: Mutex<HashMap<CacheKey, Timestamp>>,
    /// When a registered reference was replaced by one with another value.
    repointed: Mutex<HashMap<SecretId, (BootInstant, Timestamp)>>,
}

/// Selects a secret.
pub enum SecretSelector {
    /// Podman's id.
    Id(SecretId),
    /// `WORKLOAD--KEY`, or a reference as JSON.
    Name(String),
}

/// A looked-up value, which is shared with the cache or the registry.
pub enum Value {
    /// From the cache.
    Entry(Arc<Entry>),
    /// From the registry.
    Literal(Arc<SecretBytes>),
    /// Of a whole workload, for this lookup.
    Assembled(SecretBytes),
}

/// How the data of a store is interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// As a reference if it is one, else as a literal.
    Auto,
    /// As a literal, whatever it contains.
    Literal,
    /// As a reference, or it is refused.
    Reference,
}

/// The source of a lookup's value, the best first. Each lookup is counted once, by its source or as failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Served {
    /// RAM, which holds every literal.
    Ram,
    /// The provider.
    Provider,
    /// RAM, in place of the provider's response.
    Stale,
}

enum Resolved {
    Literal(Arc<SecretBytes>),
    /// Best first.
    References(Vec<Arc<ResolvedReference>>),
    /// The document of a workload.
    Document(String),
}

impl Service {
    /// A service.
    pub fn new(registry: Arc<Registry>, cache: Arc<Cache>, upstreams: Upstreams) -> Self {
        let recovered = Arc::default();
        upstreams.providers.values().for_each(|one| one.notify_recovery(&recovered));
        Self {
            registry,
            cache,
            readiness: Readiness::default(),
            recovered,
            drill: Arc::default(),
            tasks: Arc::default(),
            upstreams: RwLock::new(Arc::new(upstreams)),
            flights: SingleFlight::default(),
            lookups: Counters::default(),
            deleted: Mutex::default(),
            repointed: Mutex::default(),
        }
    }

    /// A secret's value, from RAM or from its provider, by `deadline`.
    pub async fn lookup(
        &self,
        selector: &SecretSelector,
        caller: Principal,
        now: Now,
        deadline: Instant,
    ) -> Result<Value, ServiceError> {
        let found = self.find(selector, caller, now, deadline).await;
        self.lookups.count(found.as_ref().map(|(_, served)| *served).ok());
        let out = matches!(found, Err(ServiceError::Unavailable(_)));
        let why = found.as_ref().err().filter(|_| out).map(ToString::to_string);
        self.drill.note(|| self.label(selector), why);
        found.map(|(value, _)| value)
    }

    async fn find(
        &self,
        selector: &SecretSelector,
        caller: Principal,
        now: Now,
        deadline: Instant,
    ) -> Result<(Value, Served), ServiceError> {
        if !self.readiness.is_ready() && !self.is_in_ram(selector, caller, now) {
            self.readiness.wait_ready(deadline - FETCH_RESERVE).await;
        }
        let mut resolved = self.resolve(selector, caller);
        // An encrypted literal has no provider to ask instead.
        if !self.readiness.is_ready() && !matches!(resolved, Ok(_) | Err(ServiceError::NotFound(_)))
        {
            self.readiness.wait_ready(deadline).await;
            resolved = self.resolve(selector, caller);
        }
        let references = match resolved? {
            Resolved::Literal(value) => return Ok((Value::Literal(value), Served::Ram)),
            Resolved::Document(workload) => {
                return Box::pin(self.find_document(&workload, now, deadline)).await;
            }
            Resolved::References(references) => references,
        };
        let mut failure = ServiceError::unknown();
        for reference in references {
            match self.find_one(&reference, now, deadline).await {
                Ok((entry, served)) => return Ok((Value::Entry(entry), served)),
                // A later source's value would be the wrong one, unless this source is known not to have the
                // key.
                Err(error @ ServiceError::Unavailable(_)) if !self.is_known_without(&reference) => {
                    return Err(error);
                }
                Err(error @ ServiceError::Unavailable(_)) => failure = error,
                Err(error @ ServiceError::NotFound(_)) => {
                    if !matches!(failure, ServiceError::Unavailable(_)) {
                        failure = error;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    fn is_known_without(&self, reference: &ResolvedReference) -> bool {
        let key = self.key_of(reference);
        key.is_some_and(|key| self.cache.is_known_without(&key))
    }

    fn is_in_ram(&self, selector: &SecretSelector, caller: Principal, now: Now) -> bool {
        let known = |reference: &Arc<ResolvedReference>| {
            let key = self.key_of(reference);
            key.is_some_and(|key| matches!(self.cache.get(&key, now.boot), CacheLookup::Fresh(_)))
        };
        match self.resolve(selector, caller) {
            Ok(Resolved::Literal(_)) => true,
            Ok(Resolved::References(references)) => references.first().is_some_and(known),
            Ok(Resolved::Document(_)) | Err(_) => false,
        }
    }

    async fn find_one(
        &self,
        reference: &Arc<ResolvedReference>,
        now: Now,
        deadline: Instant,
    ) -> Result<(Arc<Entry>, Served), ServiceError> {
        let upstreams = self.upstreams();
        let (upstream, key) = &resolve_upstream(&upstreams, reference)?;
        let known = match self.cache.get(key, now.boot) {
            CacheLookup::Fresh(entry) => return Ok(self.serve(entry, Served::Ram)),
            CacheLookup::NegativeHit(refusal) => return Err(refused(&upstream.name, &refusal)),
            CacheLookup::Stale { entry, servable, past_max_stale } => {
                Some((entry, servable, past_max_stale))
            }
            CacheLookup::Missing => None,
        };
        let servable = matches!(known, Some((_, true, _)));
        let request = FetchRequest { upstream, key, reference, servable, now, deadline };
        // Boxed, since most lookups are hits and need no memory for a fetch.
        let error = match Box::pin(self.ask(&request)).await {
            Ok(entry) => return Ok(self.serve(entry, Served::Provider)),
            Err(error) => error,
        };
        match known {
            Some((entry, true, past_max_stale)) if self.may_stand_in(key, &error) => {
                if past_max_stale {
                    warn_past_max_stale(&entry, reference, &error);
                }
                Ok(self.serve(entry, Served::Stale))
            }
            Some((_, false, _)) if !is_revocation(&error) => Err(too_old(&upstream.name, &error)),
            _ => Err(no_answer(&upstream.name, &error)),
        }
    }

    /// Whether a cached value is served in place of a response: in an outage, and until the provider confirms
    /// that the secret is gone or denied.
    fn may_stand_in(&self, key: &CacheKey, error: &ProviderError) -> bool {
        refusal(error).is_none() || self.cache.contains(key)
    }

    fn serve(&self, entry: Arc<Entry>, served: Served) -> (Arc<Entry>, Served) {
        self.cache.mark_served(&entry);
        (entry, served)
    }

    /// Removes a secret from the cache; false if it was not cached.
    pub fn invalidate(&self, selector: &SecretSelector) -> Result<bool, ServiceError> {
        let references = match self.resolve(selector, Principal::Admin)? {
            Resolved::References(references) => references,
            Resolved::Literal(_) => {
                return Err(ServiceError::Malformed(
                    "it is a literal, which no provider could bring back; to remove it, use `podman secret rm`".into(),
                ));
            }
            Resolved::Document(workload) => {
                return Err(ServiceError::Malformed(format!(
                    "it is all of workload {workload}; name one of its secrets"
                )));
            }
        };
        let mut existed = false;
        for reference in references {
            let (_, key) = resolve_upstream(&self.upstreams(), &reference)?;
            existed |= self.cache.invalidate(&key);
        }
        Ok(existed)
    }

    /// The registered references and their cache keys.
    pub fn references(&self) -> impl Iterator<Item = (SecretId, Arc<ResolvedReference>, CacheKey)> {
        self.registry.all().into_iter().filter_map(|(id, what)| match what {
            Registered::Reference(reference) => {
                let key = self.key_of(&reference)?;
                Some((id, reference, key))
            }
            _ => None,
        })
    }

    /// A selector as text for messages.
    fn label(&self, selector: &SecretSelector) -> String {
        match selector {
            SecretSelector::Id(id) => match self.registry.get(*id) {
                Some(Registered::Reference(reference)) => format!("{id} ({})", **reference),
                _ => id.to_string(),
            },
            SecretSelector::Name(name) => {
                name.chars().take(200).flat_map(char::escape_debug).collect()
            }
        }
    }

    /// The configured providers and workloads.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        Arc::clone(&self.upstreams.read())
    }

    /// Applies a new configuration.
    pub fn follow(&self, upstreams: Upstreams) {
        let before = self.upstreams();
        for (name, upstream) in &upstreams.providers {
            upstream.notify_recovery(&self.recovered);
            if let Some(before) = before.providers.get(name) {
                upstream.inherit(before);
            }
        }
        *self.upstreams.write() = Arc::new(upstreams);
    }
}

/// Logs once that a value older than `max_stale` is served to a running container.
fn warn_past_max_stale(entry: &Entry, reference: &Reference, error: &ProviderError) {
    if entry.warn_past_max_stale() {
        tracing::warn!(
            "{reference} is older than max_stale, and served all the same: it was served since the boot, and a \
             container may be running with it ({error})"
        );
    }
}

impl Value {
    /// The bytes, shared.
    pub fn secret(&self) -> &SecretBytes {
        match self {
            Self::Entry(entry) => entry.value(),
            Self::Literal(value) => value,
            Self::Assembled(value) => value,
        }
    }
}

#[cfg(test)]
mod tests;
