//! What psid does, without a word of gRPC, disk or configuration.

mod classify;
mod error;
mod fetch;
pub(crate) mod outage_drill;
pub(crate) mod readiness;
mod report;
mod self_test;
mod siblings;
pub(crate) mod single_flight;

use std::collections::{HashMap, HashSet};
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
use crate::model::clock::{Now, Timestamp};
use crate::model::reference::{CacheKey, Reference, shown};
use crate::provider::ProviderError;
use crate::provider::upstream::{Upstream, Upstreams};
use crate::registry::reference_file::{ReferenceFile, ReferenceFileError};
use crate::registry::resolved::ResolvedReference;
use crate::registry::{Registered, Registration, Registry, RegistryError};
use crate::sys::tasks::Tasks;
use classify::Look;
use error::{bad_reference, is_revocation, no_answer, refused, too_old};
use fetch::FetchRequest;

pub use error::ServiceError;
pub(crate) use error::refusal;
use report::Counters;
pub(crate) use report::{LookupCounts, Withheld};
pub(crate) use self_test::{Certainty, OutageReport, SelfTestContext};

/// How long a lookup that holds a servable value waits for a newer one. Podman holds its lock meanwhile.
const STALE_WAIT: Duration = Duration::from_secs(1);

/// What is left of a lookup's time to ask a provider, when the key does not open.
const FETCH_RESERVE: Duration = Duration::from_secs(4);

/// The daemon's core.
pub struct Service {
    /// What podman registered.
    pub registry: Arc<Registry>,
    /// What is known.
    pub cache: Arc<Cache>,
    /// Closed while the key is being opened, without which little is known.
    pub readiness: Readiness,
    /// Told when a provider is back.
    pub recovered: Arc<Notify>,
    /// Whether providers are treated as out, to see what that would cost.
    pub drill: Arc<OutageDrill>,
    /// What runs beside the lookups.
    pub tasks: Arc<Tasks>,
    upstreams: RwLock<Arc<Upstreams>>,
    flights: SingleFlight<(CacheKey, FetchEpoch), Result<Arc<Entry>, ProviderError>>,
    lookups: Counters,
    /// Where deleted registrations led, and when they were deleted.
    deleted: Mutex<HashMap<CacheKey, Timestamp>>,
}

/// Which secret is wanted.
pub enum SecretSelector {
    /// Podman's id.
    Id(SecretId),
    /// `WORKLOAD--KEY`, or a reference as JSON.
    Name(String),
}

/// A value, shared with whoever keeps it.
pub enum Value {
    /// Out of the cache.
    Entry(Arc<Entry>),
    /// Out of the registry.
    Literal(Arc<SecretBytes>),
}

/// How the bytes of a store are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// By their look.
    Auto,
    /// A literal whatever they look like.
    Literal,
    /// A reference, or refused.
    Reference,
}

/// Where a lookup's answer came from: each lookup is counted once, by this or as failed.
#[derive(Clone, Copy)]
enum Served {
    /// RAM, where a literal always is.
    Ram,
    /// The provider.
    Provider,
    /// RAM, in place of the provider's answer.
    Stale,
}

enum Resolved {
    Literal(Arc<SecretBytes>),
    /// Best first.
    References(Vec<Arc<ResolvedReference>>),
}

impl Service {
    /// A service without a request so far.
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
        }
    }

    /// A secret's value: from RAM where it may, from its provider where it must, by `deadline`.
    pub async fn lookup(
        &self,
        selector: &SecretSelector,
        now: Now,
        deadline: Instant,
    ) -> Result<Value, ServiceError> {
        let found = self.find(selector, now, deadline).await;
        self.lookups.count(found.as_ref().map(|(_, served)| *served).ok());
        let out = matches!(found, Err(ServiceError::Unavailable(_)));
        let why = found.as_ref().err().filter(|_| out).map(ToString::to_string);
        self.drill.note(|| self.label(selector), why);
        found.map(|(value, _)| value)
    }

    async fn find(
        &self,
        selector: &SecretSelector,
        now: Now,
        deadline: Instant,
    ) -> Result<(Value, Served), ServiceError> {
        if !self.readiness.is_ready() && !self.is_in_ram(selector, now) {
            self.readiness.wait_ready(deadline - FETCH_RESERVE).await;
        }
        let mut resolved = self.resolve(selector);
        // What is sealed here has no provider that could be asked instead.
        if !self.readiness.is_ready() && !matches!(resolved, Ok(_) | Err(ServiceError::NotFound(_)))
        {
            self.readiness.wait_ready(deadline).await;
            resolved = self.resolve(selector);
        }
        let references = match resolved? {
            Resolved::Literal(value) => return Ok((Value::Literal(value), Served::Ram)),
            Resolved::References(references) => references,
        };
        let mut failure = ServiceError::unknown();
        for reference in references {
            match self.find_one(&reference, now, deadline).await {
                Ok((entry, served)) => return Ok((Value::Entry(entry), served)),
                // Another source's value in the place of this one's would be a wrong one. In an outage, a later
                // source counts where this one is known not to have the key.
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

    fn is_in_ram(&self, selector: &SecretSelector, now: Now) -> bool {
        let known = |reference: &Arc<ResolvedReference>| {
            let key = self.key_of(reference);
            key.is_some_and(|key| matches!(self.cache.get(&key, now.boot), CacheLookup::Fresh(_)))
        };
        match self.resolve(selector) {
            Ok(Resolved::Literal(_)) => true,
            Ok(Resolved::References(references)) => references.first().is_some_and(known),
            Err(_) => false,
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
        // In a box of its own: each lookup is as large as all that it may have to do, and most are hits.
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

    /// Whether a known value is served in place of an answer: in an outage, and as long as the provider
    /// has not confirmed that the secret is gone or denied.
    fn may_stand_in(&self, key: &CacheKey, error: &ProviderError) -> bool {
        refusal(error).is_none() || self.cache.contains(key)
    }

    fn serve(&self, entry: Arc<Entry>, served: Served) -> (Arc<Entry>, Served) {
        self.cache.mark_served(&entry);
        (entry, served)
    }

    /// Registers a secret; durable when this returns.
    pub async fn store(
        &self,
        id: SecretId,
        data: SecretBytes,
        kind: DataKind,
    ) -> Result<(), ServiceError> {
        let stored = match self.classify(data, kind) {
            Ok(what) => self.registry.store(id, what).await.map_err(ServiceError::from),
            Err(refused) => Err(refused),
        };
        // Podman has deleted the one that this is to replace.
        stored.map_err(|error| match self.registry.deleted_just_now() {
            Some(deleted) => error.with_remedy(&format!(
                "if it was to replace a secret, `psictl restore {deleted}` brings that back"
            )),
            None => error,
        })
    }

    /// Points a registered reference elsewhere; durable when this returns. False: it led there already.
    pub async fn repoint(&self, id: SecretId, data: SecretBytes) -> Result<bool, ServiceError> {
        match self.classify(data, DataKind::Reference)? {
            Registration::Reference(reference, raw) => {
                Ok(self.registry.repoint(id, reference, raw).await?)
            }
            Registration::Literal(_) => Err(bad_reference("it is a literal".into())),
        }
    }

    /// A reference or a literal, by its look; what only resembles a reference is refused.
    fn classify(&self, data: SecretBytes, kind: DataKind) -> Result<Registration, ServiceError> {
        let (data, kind) = text_given(data, kind)?;
        let provider = match classify::look(data.expose_secret()) {
            _ if kind == DataKind::Literal => return Ok(Registration::Literal(data)),
            Look::Literal if kind == DataKind::Auto => return Ok(Registration::Literal(data)),
            Look::Literal => {
                return Err(refused_as(kind, "it is no JSON object with a \"provider\"".into()));
            }
            Look::Mistake(why) => return Err(refused_as(kind, why)),
            Look::Reference(provider) => provider,
        };
        let upstreams = self.upstreams();
        if !upstreams.providers.contains_key(&provider) {
            let why = format!("the config has no [providers.{}]", shown(&provider));
            return Err(refused_as(kind, why));
        }
        let reference = Reference::parse(data.expose_secret())
            .ok_or_else(|| refused_as(kind, "not every member is a string".into()))?;
        let upstream = upstream_of(&upstreams, &reference)?;
        upstream.provider.accept(&reference).map_err(|why| refused_as(kind, why))?;
        Ok(Registration::Reference(reference, data))
    }

    /// Forgets a registration; false when there was none. Its value stays for some seconds: podman
    /// deletes before it stores, on `create --replace`. Without `force`, it is refused while nothing could be
    /// stored in its place.
    pub async fn delete(&self, id: SecretId, now: Now, force: bool) -> Result<bool, ServiceError> {
        if let Some(Registered::Reference(reference)) = self.registry.get(id)
            && let Some(key) = self.key_of(&reference)
        {
            self.deleted.lock().insert(key, now.wall);
        }
        Ok(self.registry.delete(id, now, force).await?)
    }

    /// Where the references led whose registration was deleted `age` ago or earlier; each once.
    pub fn take_deleted(&self, now: Timestamp, age: Duration) -> HashSet<CacheKey> {
        let mut deleted = self.deleted.lock();
        let is_due = |_: &CacheKey, since: &mut Timestamp| since.age(now) >= age;
        deleted.extract_if(is_due).map(|(key, _)| key).collect()
    }

    /// Drops a secret from the cache; false when it was not in it.
    pub fn invalidate(&self, selector: &SecretSelector) -> Result<bool, ServiceError> {
        let Resolved::References(references) = self.resolve(selector)? else {
            return Err(ServiceError::Malformed(
                "it is a literal, which no provider could bring back; to remove it, use `podman secret rm`".into(),
            ));
        };
        let mut existed = false;
        for reference in references {
            let (_, key) = resolve_upstream(&self.upstreams(), &reference)?;
            existed |= self.cache.invalidate(&key);
        }
        Ok(existed)
    }

    /// The registered references and where they lead.
    pub fn references(&self) -> impl Iterator<Item = (SecretId, Arc<ResolvedReference>, CacheKey)> {
        self.registry.all().into_iter().filter_map(|(id, what)| match what {
            Registered::Reference(reference) => {
                let key = self.key_of(&reference)?;
                Some((id, reference, key))
            }
            _ => None,
        })
    }

    /// What is wanted, as people write it.
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

    /// Where a reference leads, if its provider is configured and takes it.
    pub fn resolve_key(&self, reference: &Reference) -> Option<CacheKey> {
        self.try_resolve_key(reference).ok()
    }

    /// Likewise, or why it leads nowhere.
    pub fn try_resolve_key(&self, reference: &Reference) -> Result<CacheKey, ServiceError> {
        resolve_reference(&self.upstreams(), reference).map(|(_, key)| key)
    }

    /// Likewise, found out once.
    fn key_of(&self, reference: &ResolvedReference) -> Option<CacheKey> {
        resolve_upstream(&self.upstreams(), reference).ok().map(|(_, key)| key)
    }

    /// The configured providers and workloads.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        Arc::clone(&self.upstreams.read())
    }

    /// Follows a new config.
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

    fn resolve(&self, selector: &SecretSelector) -> Result<Resolved, ServiceError> {
        let references = match selector {
            SecretSelector::Id(id) => match self.registry.find(*id)? {
                Registered::Literal(value) => return Ok(Resolved::Literal(value)),
                Registered::Reference(reference) => vec![reference],
                Registered::Invalid(why) => return Err(ServiceError::NoKey(why.to_string())),
                Registered::Unreadable(why) => return Err(RegistryError::Unreadable(why).into()),
            },
            SecretSelector::Name(name) if name.starts_with('{') => {
                let reference = Reference::parse(name.as_bytes()).ok_or_else(|| {
                    bad_reference("it is no JSON object of strings with a \"provider\"".into())
                })?;
                vec![Arc::new(ResolvedReference::new(reference))]
            }
            SecretSelector::Name(name) => self
                .upstreams()
                .by_name(name)
                .into_iter()
                .map(|one| Arc::new(ResolvedReference::new(one)))
                .collect(),
        };
        if references.is_empty() {
            Err(ServiceError::unknown())
        } else {
            Ok(Resolved::References(references))
        }
    }
}

fn upstream_of<'a>(
    upstreams: &'a Upstreams,
    reference: &Reference,
) -> Result<&'a Arc<Upstream>, ServiceError> {
    let name = reference.provider();
    upstreams
        .providers
        .get(name)
        .ok_or_else(|| bad_reference(format!("the config has no [providers.{}]", shown(name))))
}

/// Whose a reference is, and where it leads there.
fn resolve_reference(
    upstreams: &Upstreams,
    reference: &Reference,
) -> Result<(Arc<Upstream>, CacheKey), ServiceError> {
    let upstream = upstream_of(upstreams, reference)?;
    let key = upstream.provider.accept(reference).map_err(bad_reference)?;
    Ok((Arc::clone(upstream), key))
}

/// Likewise, found out once.
fn resolve_upstream(
    upstreams: &Arc<Upstreams>,
    reference: &ResolvedReference,
) -> Result<(Arc<Upstream>, CacheKey), ServiceError> {
    let upstream = upstream_of(upstreams, reference)?;
    let accept = |reference: &Reference| upstream.provider.accept(reference);
    let key = reference.key(upstreams, accept).map_err(bad_reference)?;
    Ok((Arc::clone(upstream), key))
}

/// A value that is too old for the config is served to a container that runs; the log is told once.
fn warn_past_max_stale(entry: &Entry, reference: &Reference, error: &ProviderError) {
    if entry.warn_past_max_stale() {
        tracing::warn!(
            "{reference} is older than max_stale, and served all the same: it was served since the boot, and a \
             container may be running with it ({error})"
        );
    }
}

/// What looks like a reference is none: why. It may be meant as a literal all the same.
fn refused_as(kind: DataKind, why: String) -> ServiceError {
    let refused = bad_reference(why);
    match kind {
        DataKind::Auto => refused.with_remedy("`psictl add NAME --literal` stores it as a literal"),
        DataKind::Literal | DataKind::Reference => refused,
    }
}

/// Whoever creates a secret again out of the file that psid keeps means the reference in it.
fn text_given(data: SecretBytes, kind: DataKind) -> Result<(SecretBytes, DataKind), ServiceError> {
    if kind == DataKind::Literal {
        return Ok((data, kind));
    }
    match ReferenceFile::parse_any(data.expose_secret()) {
        Ok(file) => Ok((SecretBytes::new(file.text.to_vec()), DataKind::Reference)),
        Err(ReferenceFileError::Foreign) => Ok((data, kind)),
        Err(why) => Err(bad_reference(why.to_string())),
    }
}

impl Value {
    /// The bytes, shared.
    pub fn secret(&self) -> &SecretBytes {
        match self {
            Self::Entry(entry) => entry.value(),
            Self::Literal(value) => value,
        }
    }
}

#[cfg(test)]
mod tests;
