//! Pending removals: entries that the provider refused, or that a listing lacks, and that are served until a
//! second response confirms it.

use std::collections::HashMap;
use std::time::Duration;

use super::negative::{FIRST_TTL, NegativeReason};
use super::state::State;
use super::{Cache, Policy};
use crate::model::clock::BootInstant;
use crate::model::reference::{CacheKey, ListingScope};

/// How far apart two responses must be that say that a secret is gone or denied, before its entry is removed.
/// In between, it is served without a request.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// What a refusal does to an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum EvictionDecision {
    /// It stays: the refusal is not confirmed yet, or the configuration says so.
    Kept,
    /// It was removed.
    Evicted,
    /// There was none.
    Absent,
}

/// Why the removal of an entry is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalReason {
    /// The provider says that it does not exist.
    NotFound,
    /// The provider denies access to it.
    Denied,
    /// A listing lacks it, as it lacks more than half of the entries.
    Unlisted,
    /// Its value is empty.
    Emptied,
    /// The response is not usable, which is no reason for a removal.
    BadResponse,
}

/// An entry that is served although its removal is pending.
pub struct WithheldEntry {
    /// Its key.
    pub key: CacheKey,
    /// Why.
    pub reason: RemovalReason,
    /// Since when.
    pub since: BootInstant,
}

/// The pending removals, by key.
#[derive(Default)]
pub(super) struct PendingRemovals(HashMap<CacheKey, PendingRemoval>);

/// What the provider says against an entry.
pub(super) struct PendingRemoval {
    first: BootInstant,
    last: BootInstant,
    reason: RemovalReason,
    times: u32,
    /// How long after `last` the entry is served without a request.
    retry_after: Duration,
}

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

impl PendingRemovals {
    pub(super) fn get(&self, key: &CacheKey) -> Option<&PendingRemoval> {
        self.0.get(key)
    }

    pub(super) fn remove(&mut self, key: &CacheKey) {
        self.0.remove(key);
    }

    fn withheld(&self) -> Vec<WithheldEntry> {
        let removals = self.0.iter().filter(|(_, pending)| pending.reason.is_removal());
        let withheld = removals.map(|(key, PendingRemoval { reason, first, .. })| WithheldEntry {
            key: key.clone(),
            reason: *reason,
            since: *first,
        });
        withheld.collect()
    }

    fn note(
        &mut self,
        key: &CacheKey,
        reason: RemovalReason,
        now: BootInstant,
    ) -> &mut PendingRemoval {
        let first = || PendingRemoval {
            first: now,
            last: now,
            reason,
            times: 0,
            retry_after: Duration::ZERO,
        };
        let pending = self.0.entry(key.clone()).or_insert_with(first);
        // Two responses confirm each other if they say the same; an unusable one says nothing.
        if reason.is_removal() && !reason.agrees_with(pending.reason) {
            *pending = first();
        }
        pending.last = now;
        pending.times = pending.times.saturating_add(1);
        pending
    }
}

impl PendingRemoval {
    /// Whether the provider is to be asked again.
    pub(super) fn is_retry_due(&self, now: BootInstant) -> bool {
        self.last.age(now) >= self.retry_after
    }

    fn is_confirmed(&self, now: BootInstant) -> bool {
        self.first.age(now) >= CONFIRM_AFTER
    }

    /// [`CONFIRM_AFTER`], doubled by each response after the first.
    fn backoff(&self) -> Duration {
        CONFIRM_AFTER.saturating_mul(1 << self.times.saturating_sub(1).min(16))
    }
}

impl From<&NegativeReason> for RemovalReason {
    fn from(reason: &NegativeReason) -> Self {
        match reason {
            NegativeReason::NotFound(_) => Self::NotFound,
            NegativeReason::Denied(_) => Self::Denied,
            NegativeReason::BadResponse(_) | NegativeReason::Failed(_) => Self::BadResponse,
        }
    }
}

impl RemovalReason {
    fn is_removal(self) -> bool {
        self != Self::BadResponse
    }

    fn agrees_with(self, other: Self) -> bool {
        (self == Self::Emptied) == (other == Self::Emptied) && other.is_removal()
    }
}
