//! Pending removals: entries that the provider refused, or that a listing lacks, and that are served until a
//! second response confirms it.

use std::time::Duration;

use super::negative::{FIRST_TTL, NegativeEntry, NegativeReason};
use super::{Policy, State};
use crate::model::clock::BootInstant;
use crate::model::reference::CacheKey;

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

/// What the provider says against an entry, which is served all the same.
#[derive(Clone, Copy)]
pub struct PendingRemoval {
    /// Why it may be removed.
    pub reason: RemovalReason,
    /// When it said so first.
    pub since: BootInstant,
    pub(super) last: BootInstant,
    times: u32,
    /// How long after `last` the entry is served without a request.
    pub(super) retry_after: Duration,
}

impl State {
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
        let removal = match reason {
            NegativeReason::NotFound(_) => RemovalReason::NotFound,
            NegativeReason::Denied(_) => RemovalReason::Denied,
            NegativeReason::BadResponse(_) | NegativeReason::Failed(_) => {
                RemovalReason::BadResponse
            }
        };
        let pending = self.note_pending(key, removal, now);
        let is_real = pending.reason != RemovalReason::BadResponse;
        let is_confirmed = pending.is_confirmed(now) && is_real;
        if is_confirmed && evict_revoked {
            self.evict(key, reason, now);
            return EvictionDecision::Evicted;
        }
        // An entry that is kept in any case need not be confirmed soon: the time doubles with each response.
        let backoff = CONFIRM_AFTER.saturating_mul(1 << pending.times.saturating_sub(1).min(16));
        pending.retry_after = match is_confirmed || !is_real {
            true => backoff.min(fresh_for).max(FIRST_TTL),
            false => CONFIRM_AFTER,
        };
        EvictionDecision::Kept
    }

    /// Withholds a removal; true if this one confirms it. Until the next refresh, lookups send no request: the
    /// response would be the same.
    pub(super) fn withhold(
        &mut self,
        key: &CacheKey,
        why: RemovalReason,
        now: BootInstant,
    ) -> bool {
        let retry_after = self.policy.fresh_for;
        let pending = self.note_pending(key, why, now);
        pending.retry_after = retry_after;
        pending.is_confirmed(now)
    }

    fn note_pending(
        &mut self,
        key: &CacheKey,
        reason: RemovalReason,
        now: BootInstant,
    ) -> &mut PendingRemoval {
        let (since, last, retry_after) = (now, now, Duration::ZERO);
        let new = PendingRemoval { reason, since, last, times: 0, retry_after };
        let pending = self.pending.entry(key.clone()).or_insert(new);
        // Two responses confirm each other if they say the same; an unusable one says nothing.
        let (bad, emptied) = (RemovalReason::BadResponse, RemovalReason::Emptied);
        let agrees = (reason == emptied) == (pending.reason == emptied) && pending.reason != bad;
        if reason != bad && !agrees {
            *pending = new;
        }
        pending.last = now;
        pending.times = pending.times.saturating_add(1);
        pending
    }

    /// Removes an entry whose removal is confirmed. It stays in the negative cache for as long as an entry is
    /// fresh, so that a container that goes on asking does not cause a request each time.
    pub(super) fn evict(&mut self, key: &CacheKey, reason: NegativeReason, now: BootInstant) {
        self.remove(key);
        let ttl = self.policy.fresh_for.max(FIRST_TTL);
        self.negative.insert(key.clone(), NegativeEntry { reason, since: now, ttl });
    }
}

impl PendingRemoval {
    fn is_confirmed(&self, now: BootInstant) -> bool {
        self.since.age(now) >= CONFIRM_AFTER
    }
}
