//! A lookup that RAM does not answer: the provider is asked, once for all who wait for the same thing,
//! and not while it is out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::refusal;
use super::{GRACE, Service};
use crate::breaker::Caller;
use crate::cache::{Answer, Cache, Entry, Ticket, Verdict};
use crate::clock::Moment;
use crate::link::Link;
use crate::provider::{Fetched, Keeping, ProviderError};
use crate::reference::Coordinates;
use crate::shared_cache::SharedCache;
use crate::upstream::{After, Upstream};

/// What is asked for, and by when.
pub(super) struct Question<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) at: &'a Coordinates,
    pub(super) link: &'a Arc<Link>,
    /// Whether there is a value to serve without an answer.
    pub(super) servable: bool,
    pub(super) now: Moment,
    pub(super) deadline: Instant,
}

impl Service {
    /// Asks the provider. Who has a value to serve is not kept waiting; who has none may wait out a lost
    /// packet, for one failure is no outage.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Arc<Entry>, ProviderError> {
        let Question { upstream, at, servable, now, deadline, .. } = *question;
        if let Some(why) = self.drill.forbids(upstream.provider.keeping(), now.mono) {
            return Err(ProviderError::Unreachable(why));
        }
        if servable && let Some(why) = out_of_reach(upstream, now.mono) {
            return Err(ProviderError::Unreachable(why));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        loop {
            let answer = self.ask_once(question).await;
            let may_pass = answer.as_ref().is_err_and(ProviderError::is_passing);
            if !may_pass || servable || Instant::now() >= deadline {
                return answer;
            }
            if !upstream.admits(deadline).await {
                return answer;
            }
            // Somebody else may have got it meanwhile.
            let known = self.cache.read(|cache| cache.get(at, now.lately().tick));
            if let Answer::Fresh(entry) = known {
                return Ok(entry);
            }
        }
    }

    /// Asks, or joins who asks already.
    async fn ask_once(&self, question: &Question<'_>) -> Result<Arc<Entry>, ProviderError> {
        let Question { upstream, at, link, servable, now, deadline } = *question;
        let patience = if servable { deadline.min(now.mono + GRACE) } else { deadline };
        let ticket = self.cache.read(Cache::ticket);
        let flight = self.inflight.join((at.clone(), ticket), || {
            let (upstream, cache) = (Arc::clone(upstream), Arc::clone(&self.cache));
            let recovered = Arc::clone(&self.recovered);
            fetch(upstream, cache, recovered, at.clone(), Arc::clone(link), ticket, now.lately())
        });
        match tokio::time::timeout_at(patience, flight).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(ProviderError::Misbehaved("the fetch crashed".into())),
            Err(_) => Err(ProviderError::Unreachable("it did not answer in time".into())),
        }
    }
}

/// Why who has something to serve need not ask.
fn out_of_reach(upstream: &Upstream, now: Instant) -> Option<String> {
    let health = upstream.health();
    match health.breaker.forbids(Caller::Anybody, now) {
        Some(why) => Some(why.to_owned()),
        None => health.breaker.hangs(now).then(|| "it does not answer".into()),
    }
}

/// One fetch: its answer goes into the cache, and its fate to the breaker.
async fn fetch(
    upstream: Arc<Upstream>,
    cache: Arc<SharedCache>,
    recovered: Arc<Notify>,
    at: Coordinates,
    link: Arc<Link>,
    ticket: Ticket,
    began: Moment,
) -> Result<Arc<Entry>, ProviderError> {
    let asking = upstream.ask(Caller::Anybody, began)?;
    let answer = upstream.provider.fetch(&link, ticket).await;
    let now = began.lately();
    if asking.end(&answer, now) == After::Recovered {
        recovered.notify_one();
    }
    let error = match answer {
        Ok(Fetched { value, .. }) => {
            return Ok(match upstream.provider.keeping() {
                Keeping::OnDisk => {
                    cache.change(|cache| cache.put(&at, Entry::new(value, now.wall), now, ticket))
                }
                Keeping::InRam => cache.change_in_ram(|cache| {
                    cache.put(&at, Entry::in_ram(value, now.wall), now, ticket)
                }),
            });
        }
        Err(error) => error,
    };
    if let Some(refusal) = refusal(&error) {
        let evicted = |verdict: &Verdict| *verdict == Verdict::Evicted;
        let verdict = cache.change_if(|cache| cache.doubt(&at, &refusal, now.tick), evicted);
        if evicted(&verdict) {
            tracing::warn!("dropped {} from the cache: {error}", **link);
        }
    }
    Err(error)
}
