//! What psid does, without a word of gRPC, disk or configuration.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use psi_common::{SecretBytes, SecretId};
use tokio::time::Instant;

use crate::cache::{Answer, Cache, Entry, Refusal, Ticket, Verdict};
use crate::clock::{Moment, Timestamp};
use crate::gate::Gate;
use crate::inflight::Inflight;
use crate::provider::{Keeping, ProviderError};
use crate::reference::{Coordinates, Reference, shown};
use crate::registry::{Registered, Registration, Registry, RegistryError};
use crate::shared_cache::SharedCache;
use crate::upstream::{Upstream, Upstreams};

/// How long a lookup that holds a servable value waits for a newer one. Podman holds its lock meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// What is left of a lookup's time to ask a provider, when the key does not open.
const LIVE: Duration = Duration::from_secs(4);

/// The daemon's core.
pub struct Service {
    /// What podman registered.
    pub registry: Arc<Registry>,
    /// What is known.
    pub cache: Arc<SharedCache>,
    /// Closed while the key is being opened, without which little is known.
    pub gate: Gate,
    upstreams: RwLock<Arc<Upstreams>>,
    inflight: Inflight<(Coordinates, Ticket), Result<Arc<Entry>, ProviderError>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Which secret is wanted.
pub enum Wanted {
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
pub enum Kind {
    /// By their look.
    Guess,
    /// A literal whatever they look like.
    Literal,
    /// A reference, or refused.
    Reference,
}

/// Why there is no answer, in words for the operator: what happened, with its cause; what to do.
#[derive(Debug)]
pub enum ServiceError {
    /// The request makes no sense.
    Malformed(String),
    /// Not registered, or the provider says that there is none.
    NotFound(String),
    /// The id stands for something else.
    Exists,
    /// The provider does not let psid have it.
    Denied(String),
    /// A key backend is needed, or the token is not as it must be.
    NoKey(String),
    /// Not now.
    Unavailable(String),
}

enum Resolved {
    Literal(Arc<SecretBytes>),
    /// Best first.
    References(Vec<Arc<Reference>>),
}

impl Service {
    /// A service without a request so far.
    pub fn new(registry: Arc<Registry>, cache: Arc<SharedCache>, upstreams: Upstreams) -> Self {
        Self {
            registry,
            cache,
            gate: Gate::default(),
            upstreams: RwLock::new(Arc::new(upstreams)),
            inflight: Inflight::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// A secret's value: from RAM where it may, from its provider where it must, by `deadline`.
    pub async fn lookup(
        &self,
        wanted: &Wanted,
        now: Moment,
        deadline: Instant,
    ) -> Result<Value, ServiceError> {
        if !self.gate.is_open() && !self.is_in_ram(wanted, now) {
            self.gate.passed(deadline - LIVE).await;
        }
        let references = match self.resolve(wanted)? {
            Resolved::Literal(value) => return Ok(Value::Literal(value)),
            Resolved::References(references) => references,
        };
        let mut failure = ServiceError::unknown();
        for reference in references {
            match self.lookup_reference(&reference, now, deadline).await {
                Ok(entry) => return Ok(Value::Entry(entry)),
                // In an outage, a later source may have what is known.
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

    fn is_in_ram(&self, wanted: &Wanted, now: Moment) -> bool {
        let known = |reference: &Arc<Reference>| {
            let at = self.coordinates(reference);
            at.is_some_and(|at| {
                matches!(self.cache.read(|cache| cache.get(&at, now.wall)), Answer::Fresh(_))
            })
        };
        match self.resolve(wanted) {
            Ok(Resolved::Literal(_)) => true,
            Ok(Resolved::References(references)) => references.first().is_some_and(known),
            Err(_) => false,
        }
    }

    async fn lookup_reference(
        &self,
        reference: &Arc<Reference>,
        now: Moment,
        deadline: Instant,
    ) -> Result<Arc<Entry>, ServiceError> {
        let upstream = self.upstream_of(reference)?;
        let at = upstream.provider.accept(reference).map_err(bad_reference)?;
        let known = match self.cache.read(|cache| cache.get(&at, now.wall)) {
            Answer::Fresh(entry) => return Ok(self.hit(entry)),
            Answer::KnownAbsent(refusal) => {
                return Err(refused(&upstream.name, &refusal));
            }
            Answer::Stale { entry, servable } => Some((entry, servable)),
            Answer::Missing => None,
        };
        let servable = matches!(known, Some((_, true)));
        let error = match self.ask(&upstream, &at, reference, servable, now, deadline).await {
            Ok(entry) => return Ok(entry),
            Err(error) => error,
        };
        match known {
            Some((entry, true)) if self.may_stand_in(&at, &error) => Ok(self.hit(entry)),
            Some((_, false)) => Err(too_old(&upstream.name, &error)),
            _ => Err(no_answer(&upstream.name, &error)),
        }
    }

    /// Asks the provider, or joins who asks already.
    async fn ask(
        &self,
        upstream: &Arc<Upstream>,
        at: &Coordinates,
        reference: &Arc<Reference>,
        servable: bool,
        now: Moment,
        deadline: Instant,
    ) -> Result<Arc<Entry>, ProviderError> {
        {
            let health = upstream.health();
            if let Some(outage) = health.breaker.forbids(now) {
                return Err(ProviderError::Unreachable(outage.why.clone()));
            }
            if servable && health.breaker.hangs(now) {
                return Err(ProviderError::Unreachable("it does not answer".into()));
            }
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let patience = if servable { deadline.min(now.mono + GRACE) } else { deadline };
        let ticket = self.cache.read(Cache::ticket);
        let flight = self.inflight.join((at.clone(), ticket), || {
            let (upstream, cache) = (Arc::clone(upstream), Arc::clone(&self.cache));
            fetch(upstream, cache, at.clone(), Arc::clone(reference), ticket, now)
        });
        match tokio::time::timeout_at(patience, flight).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(ProviderError::Misbehaved("the fetch crashed".into())),
            Err(_) => Err(ProviderError::Unreachable("it did not answer in time".into())),
        }
    }

    /// Whether a known value is served in place of an answer: in an outage, and as long as the provider
    /// has not confirmed that the secret is gone or denied.
    fn may_stand_in(&self, at: &Coordinates, error: &ProviderError) -> bool {
        refusal(error).is_none() || self.cache.read(|cache| cache.contains(at))
    }

    fn hit(&self, entry: Arc<Entry>) -> Arc<Entry> {
        self.hits.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// Registers a secret; durable when this returns.
    pub async fn store(
        &self,
        id: SecretId,
        data: SecretBytes,
        kind: Kind,
    ) -> Result<(), ServiceError> {
        let what = self.judge(data, kind)?;
        Ok(self.registry.store(id, what).await?)
    }

    /// A reference names a provider that is configured; anything else is a literal.
    fn judge(&self, data: SecretBytes, kind: Kind) -> Result<Registration, ServiceError> {
        let named = Reference::provider_named_in(data.expose_secret());
        let configured = named.is_some_and(|name| self.upstreams().providers.contains_key(&name));
        match kind {
            Kind::Literal => return Ok(Registration::Literal(data)),
            Kind::Guess if !configured => return Ok(Registration::Literal(data)),
            Kind::Reference if !configured => {
                return Err(bad_reference(
                    "it is no JSON object whose \"provider\" is one of the config's".into(),
                ));
            }
            Kind::Guess | Kind::Reference => {}
        }
        let reference = Reference::parse(data.expose_secret())
            .ok_or_else(|| bad_reference("not every member is a string".into()))?;
        self.upstream_of(&reference)?.provider.accept(&reference).map_err(bad_reference)?;
        Ok(Registration::Reference(reference, data))
    }

    /// Drops a secret from the cache; false when it was not in it.
    pub fn invalidate(&self, wanted: &Wanted) -> Result<bool, ServiceError> {
        let Resolved::References(references) = self.resolve(wanted)? else {
            return Err(ServiceError::Malformed(
                "it is a literal, which no provider could bring back; to remove it, use `podman secret rm`".into(),
            ));
        };
        let mut existed = false;
        for reference in references {
            let at =
                self.upstream_of(&reference)?.provider.accept(&reference).map_err(bad_reference)?;
            existed |= self.cache.change(|cache| cache.invalidate(&at));
        }
        Ok(existed)
    }

    /// The registered ids that would not resolve after a reboot at `now` without a provider in reach;
    /// `persisted` says whether the cache outlives a reboot at all.
    pub fn would_fail(&self, now: Timestamp, persisted: bool) -> Vec<SecretId> {
        let resolves = |what: &Registered| match what {
            Registered::Literal(_) => true,
            Registered::Unusable(_) => false,
            Registered::Reference(reference) => self.survives(reference, now, persisted),
        };
        let all = self.registry.all();
        all.into_iter().filter(|(_, what)| !resolves(what)).map(|(id, _)| id).collect()
    }

    fn survives(&self, reference: &Reference, now: Timestamp, persisted: bool) -> bool {
        let Ok(upstream) = self.upstream_of(reference) else { return false };
        // What a token opens needs no network.
        if upstream.provider.keeping() == Keeping::InRam {
            return upstream.provider.accept(reference).is_ok();
        }
        persisted
            && upstream.provider.accept(reference).is_ok_and(|at| {
                let answer = self.cache.read(|cache| cache.get(&at, now));
                matches!(answer, Answer::Fresh(_) | Answer::Stale { servable: true, .. })
            })
    }

    /// Where a reference leads, if its provider is configured and takes it.
    pub fn coordinates(&self, reference: &Reference) -> Option<Coordinates> {
        self.upstream_of(reference).ok()?.provider.accept(reference).ok()
    }

    /// Lookups that RAM answered, and those that asked a provider.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// The configured providers and workloads.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        Arc::clone(&self.upstreams.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows a new config.
    pub fn follow(&self, upstreams: Upstreams) {
        *self.upstreams.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(upstreams);
    }

    fn upstream_of(&self, reference: &Reference) -> Result<Arc<Upstream>, ServiceError> {
        let name = reference.provider();
        self.upstreams()
            .providers
            .get(name)
            .cloned()
            .ok_or_else(|| bad_reference(format!("the config has no [providers.{}]", shown(name))))
    }

    fn resolve(&self, wanted: &Wanted) -> Result<Resolved, ServiceError> {
        let references = match wanted {
            Wanted::Id(id) => match self.registry.get(*id).ok_or_else(ServiceError::unknown)? {
                Registered::Literal(value) => return Ok(Resolved::Literal(value)),
                Registered::Reference(reference) => vec![reference],
                Registered::Unusable(why) => {
                    return Err(ServiceError::NoKey(format!(
                        "{why}; see `psi-driver cache status`"
                    )));
                }
            },
            Wanted::Name(name) if name.starts_with('{') => {
                let reference = Reference::parse(name.as_bytes()).ok_or_else(|| {
                    bad_reference("it is no JSON object of strings with a \"provider\"".into())
                })?;
                vec![Arc::new(reference)]
            }
            Wanted::Name(name) => {
                self.upstreams().by_name(name).into_iter().map(Arc::new).collect()
            }
        };
        if references.is_empty() {
            Err(ServiceError::unknown())
        } else {
            Ok(Resolved::References(references))
        }
    }
}

/// One fetch: its answer goes into the cache, and its fate to the breaker.
async fn fetch(
    upstream: Arc<Upstream>,
    cache: Arc<SharedCache>,
    at: Coordinates,
    reference: Arc<Reference>,
    ticket: Ticket,
    now: Moment,
) -> Result<Arc<Entry>, ProviderError> {
    let began = now;
    upstream.health().breaker.begin(began).map_err(ProviderError::Unreachable)?;
    let answer = upstream.provider.fetch(&reference).await;
    let now = began.lately();
    upstream.note(&answer, began, now);
    let error = match answer {
        Ok(value) => {
            return Ok(match upstream.provider.keeping() {
                Keeping::OnDisk => {
                    cache.change(|cache| cache.put(&at, Entry::new(value, now.wall), ticket))
                }
                Keeping::InRam => cache
                    .change_in_ram(|cache| cache.put(&at, Entry::in_ram(value, now.wall), ticket)),
            });
        }
        Err(error) => error,
    };
    if let Some(refusal) = refusal(&error) {
        let evicted = |verdict: &Verdict| *verdict == Verdict::Evicted;
        let verdict = cache.change_if(|cache| cache.doubt(&at, &refusal, now.wall), evicted);
        if evicted(&verdict) {
            tracing::warn!("dropped {reference} from the cache: {error}");
        }
    }
    Err(error)
}

/// Whether an error is the provider's word that there is nothing, or nothing for us.
pub fn refusal(error: &ProviderError) -> Option<Refusal> {
    match error {
        ProviderError::NotFound(why) => Some(Refusal::Gone(why.as_str().into())),
        ProviderError::Denied(why) => Some(Refusal::Denied(why.as_str().into())),
        _ => None,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn bad_reference(why: String) -> ServiceError {
    ServiceError::Malformed(format!(
        "the reference is not usable: {why}; correct it, or the config and `systemctl reload psid`"
    ))
}

fn refused(provider: &str, refusal: &Refusal) -> ServiceError {
    match refusal {
        Refusal::Gone(why) => ServiceError::NotFound(format!(
            "{provider} has no such secret: {why}; check project, path and key"
        )),
        Refusal::Denied(why) => ServiceError::Denied(format!(
            "{provider} denies it: {why}; check the identity's credentials and permissions"
        )),
    }
}

fn too_old(provider: &str, error: &ProviderError) -> ServiceError {
    ServiceError::Unavailable(format!(
        "{provider} is out: {error}, and the cached value is older than max_stale; wait for {provider}, or \
         raise max_stale"
    ))
}

fn no_answer(provider: &str, error: &ProviderError) -> ServiceError {
    if let Some(refusal) = refusal(error) {
        return refused(provider, &refusal);
    }
    match error {
        ProviderError::Unauthenticated(why) => ServiceError::Unavailable(format!(
            "psid cannot log in to {provider}, and the value is not cached: {why}; see to the credentials of \
             [providers.{provider}]"
        )),
        ProviderError::Misbehaved(why) => ServiceError::Unavailable(format!(
            "{provider} does not give what it is asked for, and the value is not cached: {why}; check the \
             reference, and [providers.{provider}] in the config"
        )),
        error => ServiceError::Unavailable(format!(
            "{provider} is out: {error}, and the value is not cached; try again when {provider} is back"
        )),
    }
}

impl ServiceError {
    fn unknown() -> Self {
        Self::NotFound(
            "psid has no such secret registered; see `podman secret ls`, or create it again".into(),
        )
    }
}

impl From<RegistryError> for ServiceError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Exists => Self::Exists,
            RegistryError::NoKey => Self::NoKey(
                "there is no key to seal a literal with; make one with `psi-driver cache init --backend tpm` \
                 and restart psid"
                    .into(),
            ),
            RegistryError::NothingDeleted => Self::NotFound(
                "nothing was deleted under this id in the last ten minutes; see `psi-driver restore`".into(),
            ),
            RegistryError::Storage(why) => Self::Unavailable(format!(
                "the registration cannot be changed: {why}; check the disk of psid's state directory"
            )),
        }
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

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str(
                "the id is registered already, for something else; podman never reuses an id",
            ),
            Self::Malformed(why)
            | Self::NotFound(why)
            | Self::Denied(why)
            | Self::NoKey(why)
            | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests;
