//! Pending removals: entries that the provider refused, or that a listing lacks, and that are served until a
//! second response confirms it.

use std::time::Duration;

use super::negative::NegativeReason;
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

/// An entry that is served although its removal is pending.
pub struct WithheldEntry {
    /// Its key.
    pub key: CacheKey,
    /// Why.
    pub reason: RemovalReason,
    /// Since when.
    pub since: BootInstant,
}

/// What the provider says against an entry.
pub(super) struct PendingRemoval {
    pub(super) first: BootInstant,
    last: BootInstant,
    pub(super) reason: RemovalReason,
    times: u32,
    /// How long after `last` the entry is served without a request.
    pub(super) retry_after: Duration,
}

impl PendingRemoval {
    pub(super) fn new(reason: RemovalReason, now: BootInstant) -> Self {
        Self { first: now, last: now, reason, times: 0, retry_after: Duration::ZERO }
    }

    pub(super) fn note(&mut self, reason: RemovalReason, now: BootInstant) {
        // Two responses confirm each other if they say the same; an unusable one says nothing.
        let agrees = (reason == RemovalReason::Emptied) == (self.reason == RemovalReason::Emptied)
            && self.reason.is_removal();
        if reason.is_removal() && !agrees {
            *self = Self::new(reason, now);
        }
        self.last = now;
        self.times = self.times.saturating_add(1);
    }

    /// Whether the provider is to be asked again.
    pub(super) fn is_retry_due(&self, now: BootInstant) -> bool {
        self.last.age(now) >= self.retry_after
    }

    pub(super) fn is_confirmed(&self, now: BootInstant) -> bool {
        self.first.age(now) >= CONFIRM_AFTER
    }

    /// [`CONFIRM_AFTER`], doubled by each response after the first.
    pub(super) fn backoff(&self) -> Duration {
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
    pub(super) fn is_removal(self) -> bool {
        self != Self::BadResponse
    }
}
