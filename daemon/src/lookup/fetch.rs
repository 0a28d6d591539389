//! A lookup that the cache does not answer: one request to the provider for all lookups of the same key, and
//! none while its circuit breaker is open.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::refusal;
use super::siblings::Siblings;
use super::{STALE_WAIT, Service};
use crate::cache::{Cache, CacheLookup, Entry, EvictionDecision, FetchEpoch};
use crate::model::clock::Now;
use crate::model::reference::CacheKey;
use crate::provider::upstream::{Call, CallError, Upstream};
use crate::provider::{Fetched, Persistence, ProviderError};
use crate::registry::resolved::ResolvedReference;

/// How long after a failed request a lookup without a servable value asks again, once.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A fetch that a lookup needs, and its deadline.
pub(super) struct FetchRequest<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) key: &'a CacheKey,
    pub(super) reference: &'a Arc<ResolvedReference>,
    /// Whether there is a value to serve without an answer.
    pub(super) servable: bool,
    pub(super) now: Now,
    pub(super) deadline: Instant,
}

impl Service {
    /// Asks the provider. If a servable value exists, the lookup does not wait for a provider that is known
    /// to be in trouble; else it waits out one failure, for a single failure is no outage.
    pub(super) async fn ask(
        &self,
        request: &FetchRequest<'_>,
    ) -> Result<Arc<Entry>, ProviderError> {
        let FetchRequest { upstream, key, servable, now, deadline, .. } = *request;
        if let Some(why) = self.drill.outage_reason(upstream.provider.persistence(), now.mono) {
            return Err(ProviderError::Unreachable(why));
        }
        let call = upstream.call_for_key(key);
        if servable && let Some(error) = upstream.known_failure(&call, now.mono) {
            return Err(error);
        }
        let mut tried_again = false;
        loop {
            let answer = self.ask_once(request, &call).await;
            let Err(error) = &answer else { return answer };
            if servable || Instant::now() >= deadline {
                return answer;
            }
            match error {
                ProviderError::Failed(_) if !tried_again => {
                    tried_again = true;
                    let until = deadline.min(Instant::now() + AFTER_FAILURE);
                    let _ = tokio::time::timeout_at(until, std::future::pending::<()>()).await;
                }
                error
                    if error.is_host_wide() || matches!(error, ProviderError::Throttled { .. }) =>
                {
                    if !upstream.wait_until_allowed(&call, deadline).await {
                        return answer;
                    }
                }
                _ => return answer,
            }
            // Another lookup may have fetched it meanwhile.
            if let CacheLookup::Fresh(entry) = self.cache.get(key, now.advanced().boot) {
                return Ok(entry);
            }
        }
    }

    /// Starts a fetch, or joins the one in flight.
    async fn ask_once(
        &self,
        request: &FetchRequest<'_>,
        call: &Call,
    ) -> Result<Arc<Entry>, ProviderError> {
        let FetchRequest { upstream, key, reference, servable, now, deadline } = *request;
        let patience = if servable { deadline.min(now.mono + STALE_WAIT) } else { deadline };
        let epoch = self.cache.begin_fetch();
        let flight = self.flights.join((key.clone(), epoch), || {
            let (upstream, cache) = (Arc::clone(upstream), Arc::clone(&self.cache));
            let fetch = Fetch {
                call: call.clone(),
                key: key.clone(),
                reference: Arc::clone(reference),
                siblings: self.siblings(key),
                epoch,
            };
            fetch.run(upstream, cache, now.advanced())
        });
        match tokio::time::timeout_at(patience, flight).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(ProviderError::Misbehaved("the fetch crashed".into())),
            Err(_) => Err(ProviderError::TimedOut("it did not answer in time".into())),
        }
    }
}

/// One fetch. Its value is cached, and its outcome counts for the provider's health.
struct Fetch {
    call: Call,
    key: CacheKey,
    reference: Arc<ResolvedReference>,
    siblings: Siblings,
    epoch: FetchEpoch,
}

impl Fetch {
    async fn run(
        self,
        upstream: Arc<Upstream>,
        cache: Arc<Cache>,
        began: Now,
    ) -> Result<Arc<Entry>, ProviderError> {
        let Self { call, key, reference, siblings, epoch } = self;
        let answer = upstream.call(&call, began, upstream.provider.fetch(&reference, epoch)).await;
        let now = began.advanced();
        let error = match answer {
            Ok(Fetched { value, beside }) => {
                siblings.keep(&cache, beside, (began, now), epoch);
                let entry = match upstream.provider.persistence() {
                    Persistence::Persisted => Entry::new(value, now.wall),
                    Persistence::MemoryOnly => Entry::in_ram(value, now.wall),
                };
                return Ok(cache.put(&key, entry, now, epoch));
            }
            Err(CallError::NotAsked(error)) => return Err(error),
            Err(CallError::Answered(error)) => error,
        };
        if let Some(refusal) = refusal(&error) {
            let decision = cache.note_refusal(&key, refusal, now.boot);
            if decision == EvictionDecision::Evicted {
                tracing::warn!("dropped {} from the cache: {error}", **reference);
            }
        }
        Err(error)
    }
}
