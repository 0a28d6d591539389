//! What the cache's lock guards.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::entries::Entries;
use super::invalidation::Invalidations;
use super::negative::{FIRST_TTL, NegativeCache, NegativeEntry, NegativeReason};
use super::pending::{CONFIRM_AFTER, EvictionDecision, PendingRemoval, RemovalReason};
use super::{Entry, FetchEpoch, Policy};
use crate::model::clock::{BootInstant, Now};
use crate::model::reference::CacheKey;

/// What the lock guards.
pub(super) struct State {
    pub(super) policy: Policy,
    pub(super) entries: Entries,
    pub(super) pending: HashMap<CacheKey, PendingRemoval>,
    pub(super) negative: NegativeCache,
    pub(super) invalidations: Invalidations,
}

impl State {
    /// Puts a value, unless the key was invalidated since the fetch began. An empty value in place of one that is
    /// not empty must be confirmed, or accepted by an admin. `Err` is the entry that stays.
    pub(super) fn put(
        &mut self,
        key: &CacheKey,
        new: Entry,
        now: Now,
        epoch: FetchEpoch,
        accept: bool,
    ) -> Result<Arc<Entry>, Arc<Entry>> {
        let cached = self.entries.get(key).cloned();
        let is_outdated = self.invalidations.is_outdated(key, epoch);
        if let Some(cached) = &cached
            && new.value().is_empty()
            && !cached.value().is_empty()
            && !is_outdated
            && !accept
            && !self.withhold(key, RemovalReason::Emptied, now.boot)
        {
            return Err(Arc::clone(cached));
        }
        if !self.policy.enabled || is_outdated {
            return Ok(Arc::new(new));
        }
        self.forgive(key);
        let entry = match cached {
            // One copy of a value in RAM, however often it is fetched.
            Some(cached) if cached.value().same_as(new.value()) => {
                cached.renew(now);
                return Ok(cached);
            }
            // A container that was served the former value will ask for the new one.
            Some(cached) => Arc::new(new.last_served_in(cached.last_served_boot())),
            None => Arc::new(new),
        };
        entry.renew(now);
        self.entries.insert(key.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    /// Records that the provider refused a secret.
    pub(super) fn note_refusal(
        &mut self,
        key: &CacheKey,
        reason: NegativeReason,
        now: BootInstant,
    ) -> EvictionDecision {
        if self.entries.get(key).is_none() {
            NegativeEntry::put(&mut self.negative, key, reason, now);
            return EvictionDecision::Absent;
        }
        let Policy { evict_revoked, fresh_for, .. } = self.policy;
        let pending = self.note_pending(key, (&reason).into(), now);
        let is_real = pending.reason.is_removal();
        let is_confirmed = pending.is_confirmed(now) && is_real;
        if is_confirmed && evict_revoked {
            self.evict(key, reason, now);
            return EvictionDecision::Evicted;
        }
        // An entry that is kept in any case need not be confirmed soon.
        pending.retry_after = match is_confirmed || !is_real {
            true => pending.backoff().min(fresh_for).max(FIRST_TTL),
            false => CONFIRM_AFTER,
        };
        EvictionDecision::Kept
    }

    /// Withholds a removal; true if this one confirms it. Until the next refresh, lookups send no request: the
    /// response would be the same.
    pub(super) fn withhold(
        &mut self,
        key: &CacheKey,
        reason: RemovalReason,
        now: BootInstant,
    ) -> bool {
        let retry_after = self.policy.fresh_for;
        let pending = self.note_pending(key, reason, now);
        pending.retry_after = retry_after;
        pending.is_confirmed(now)
    }

    fn note_pending(
        &mut self,
        key: &CacheKey,
        reason: RemovalReason,
        now: BootInstant,
    ) -> &mut PendingRemoval {
        let new = || PendingRemoval::new(reason, now);
        let pending = self.pending.entry(key.clone()).or_insert_with(new);
        pending.note(reason, now);
        pending
    }

    /// Removes an entry whose removal is confirmed. It stays in the negative cache for as long as an entry is
    /// fresh, so that a container that goes on asking does not cause a request each time.
    pub(super) fn evict(&mut self, key: &CacheKey, reason: NegativeReason, now: BootInstant) {
        self.remove(key);
        let ttl = self.policy.fresh_for.max(FIRST_TTL);
        self.negative.insert(key.clone(), NegativeEntry { reason, since: now, ttl });
    }

    pub(super) fn remove(&mut self, key: &CacheKey) {
        self.entries.remove(key);
        self.forgive(key);
    }

    /// Forgets what the provider said against a key.
    fn forgive(&mut self, key: &CacheKey) {
        self.pending.remove(key);
        self.negative.remove(key);
    }
}

impl Policy {
    pub(super) fn is_fresh(&self, entry: &Entry, now: BootInstant) -> bool {
        entry.is_in_ram()
            || entry.fetched_if_known().is_some_and(|fetched| now < fetched.after(self.fresh_for))
    }

    pub(super) fn is_past_max_stale(&self, entry: &Entry, now: BootInstant) -> bool {
        let is_older = |limit: Duration| entry.fetched().age(now) > limit;
        !entry.is_in_ram() && self.max_stale.is_some_and(is_older)
    }
}
