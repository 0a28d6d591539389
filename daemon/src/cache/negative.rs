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

/// The refused secrets.
#[derive(Default)]
pub(super) struct NegativeCache(HashMap<CacheKey, NegativeEntry>);

struct NegativeEntry {
    reason: NegativeReason,
    since: BootInstant,
    ttl: Duration,
}

impl NegativeCache {
    /// The reason that is cached for a key.
    pub(super) fn get(&self, key: &CacheKey, now: BootInstant) -> Option<NegativeReason> {
        let entry = self.0.get(key)?;
        (entry.since.age(now) < entry.ttl).then(|| entry.reason.clone())
    }

    /// Caches a refusal, twice as long as the last one.
    pub(super) fn put(&mut self, key: &CacheKey, reason: &NegativeReason, now: BootInstant) {
        if self.0.len() >= MAX_ENTRIES {
            self.0.retain(|_, entry| entry.is_remembered(now));
        }
        if self.0.len() >= MAX_ENTRIES
            && let Some((oldest, _)) = self.0.iter().min_by_key(|(_, entry)| entry.since)
        {
            let oldest = oldest.clone();
            self.0.remove(&oldest);
        }
        let last = self.0.get(key).filter(|entry| entry.is_remembered(now));
        let limit = match reason {
            NegativeReason::Failed(_) => MAX_TTL_OF_FAILURE,
            _ => MAX_TTL.max(last.map_or(Duration::ZERO, |entry| entry.ttl)),
        };
        let ttl = last.map_or(FIRST_TTL, |entry| (entry.ttl * 2).min(limit));
        self.put_for(key, reason.clone(), now, ttl);
    }

    /// Caches a refusal for a given time.
    pub(super) fn put_for(
        &mut self,
        key: &CacheKey,
        reason: NegativeReason,
        now: BootInstant,
        ttl: Duration,
    ) {
        self.0.insert(key.clone(), NegativeEntry { reason, since: now, ttl });
    }

    pub(super) fn remove(&mut self, key: &CacheKey) {
        self.0.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl NegativeEntry {
    /// Whether a further refusal doubles its time: also for a while after its end.
    fn is_remembered(&self, now: BootInstant) -> bool {
        self.since.age(now) < self.ttl * 2
    }
}
