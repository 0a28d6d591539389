//! The negative cache: secrets that the provider refused, and that the cache has no entry of. They are not
//! requested again at each lookup.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::clock::BootInstant;
use crate::model::reference::CacheKey;

/// How long a first refusal is cached. Each further one doubles the time.
pub(super) const FIRST_TTL: Duration = Duration::from_secs(5);
const MAX_TTL: Duration = Duration::from_secs(300);
/// The limit for an error that may be transient: the longest pause of an outage.
const MAX_TTL_OF_FAILURE: Duration = Duration::from_secs(120);
/// How many refusals are cached.
const MAX_ENTRIES: usize = 1_024;

/// Why the provider did not return a secret, with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NegativeReason {
    /// It does not exist.
    NotFound(Arc<str>),
    /// The identity has no access to it.
    Denied(Arc<str>),
    /// The response is not usable. That says nothing about the secret.
    BadResponse(Arc<str>),
    /// The request for this secret failed. That says nothing about the secret, and may be transient.
    Failed(Arc<str>),
}

/// A refusal.
pub(super) struct NegativeEntry {
    pub(super) reason: NegativeReason,
    pub(super) since: BootInstant,
    pub(super) ttl: Duration,
}

impl NegativeEntry {
    /// Caches a refusal, twice as long as the last one.
    pub(super) fn put(
        cache: &mut HashMap<CacheKey, Self>,
        key: &CacheKey,
        reason: NegativeReason,
        now: BootInstant,
    ) {
        // It is remembered for a while after its end, so that a further refusal doubles its time.
        let is_remembered = |entry: &Self| entry.since.age(now) < entry.ttl * 2;
        if cache.len() >= MAX_ENTRIES {
            cache.retain(|_, entry| is_remembered(entry));
        }
        if cache.len() >= MAX_ENTRIES
            && let Some((oldest, _)) = cache.iter().min_by_key(|(_, entry)| entry.since)
        {
            let oldest = oldest.clone();
            cache.remove(&oldest);
        }
        let last = cache.get(key).filter(|entry| is_remembered(entry)).map(|entry| entry.ttl);
        let limit = match reason {
            NegativeReason::Failed(_) => MAX_TTL_OF_FAILURE,
            _ => MAX_TTL.max(last.unwrap_or_default()),
        };
        let ttl = last.map_or(FIRST_TTL, |last| (last * 2).min(limit));
        cache.insert(key.clone(), Self { reason, since: now, ttl });
    }
}
