//! Evictions: what a refusal of the provider does to an entry.

use super::negative::{FIRST_TTL, NegativeReason};
use super::pending::{CONFIRM_AFTER, EvictionDecision, RemovalReason, WithheldEntry};
use super::state::State;
use super::{Cache, Policy};
use crate::model::clock::BootInstant;
use crate::model::reference::{CacheKey, ListingScope};

impl Cache {
    /// Records that the provider refused a secret. One refusal removes no entry: a permission that is being
    /// edited, or a proxy's error page, must not empty the caches of a fleet.
    pub fn note_refusal(
        &self,
        key: &CacheKey,
        reason: &NegativeReason,
        now: BootInstant,
    ) -> EvictionDecision {
        let decision = self.state.write().note_refusal(key, reason, now);
        if decision == EvictionDecision::Evicted {
            self.changes.note();
        }
        decision
    }

    /// Records that the provider refused a whole scope; returns how many entries that removed.
    pub fn note_refusal_of(
        &self,
        scope: &ListingScope,
        reason: &NegativeReason,
        now: BootInstant,
    ) -> u64 {
        let mut evicted = 0;
        self.apply(self.entries_in(scope), |state, (key, _)| {
            let is_evicted = state.note_refusal(&key, reason, now) == EvictionDecision::Evicted;
            evicted += u64::from(is_evicted);
            is_evicted
        });
        evicted
    }

    /// The entries that are served although their removal is pending, in order.
    pub fn withheld(&self) -> Vec<WithheldEntry> {
        let mut all = self.state.read().pending.withheld();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }
}

impl State {
    pub(super) fn note_refusal(
        &mut self,
        key: &CacheKey,
        reason: &NegativeReason,
        now: BootInstant,
    ) -> EvictionDecision {
        if !self.entries.contains_key(key) {
            self.negative.put(key, reason, now);
            return EvictionDecision::Absent;
        }
        let Policy { evict_revoked, fresh_for, .. } = self.policy;
        let pending = self.pending.note(key, reason.into(), now);
        let is_real = pending.reason.is_removal();
        let is_confirmed = pending.is_confirmed(now) && is_real;
        if is_confirmed && evict_revoked {
            self.evict(key, reason.clone(), now);
            return EvictionDecision::Evicted;
        }
        // An entry that is kept in any case need not be confirmed soon.
        pending.retry_after = match is_confirmed || !is_real {
            true => pending.backoff().min(fresh_for).max(FIRST_TTL),
            false => CONFIRM_AFTER,
        };
        EvictionDecision::Kept
    }

    /// Withholds the removal that a listing asks for; true if this one confirms it. Until the next refresh,
    /// lookups send no request: the response would be the same.
    pub(super) fn withhold(
        &mut self,
        key: &CacheKey,
        reason: RemovalReason,
        now: BootInstant,
    ) -> bool {
        let pending = self.pending.note(key, reason, now);
        pending.retry_after = self.policy.fresh_for;
        pending.is_confirmed(now)
    }

    /// Removes an entry whose removal is confirmed. It stays in the negative cache for as long as an entry is
    /// fresh, so that a container that goes on asking does not cause a request each time.
    pub(super) fn evict(&mut self, key: &CacheKey, reason: NegativeReason, now: BootInstant) {
        self.remove(key);
        self.negative.put_for(key, reason, now, self.policy.fresh_for.max(FIRST_TTL));
    }
}
