//! What a provider takes back: an entry that it refuses is in doubt until that is confirmed, and what
//! there is no entry of is known to be absent for a while. Neither is asked about at each lookup: an
//! error must not be hotter than success.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Cache;
use crate::model::clock::BootInstant;
use crate::model::reference::CacheKey;

/// How long "there is no such secret" is believed at first without asking again. Each time that it is
/// said again, it is believed for twice as long.
pub(super) const ABSENCE_LASTS: Duration = Duration::from_secs(5);
const ABSENCE_LASTS_AT_MOST: Duration = Duration::from_secs(300);
/// How long a failure that may pass is remembered at most, as long as an outage's longest pause.
const FAILURE_LASTS_AT_MOST: Duration = Duration::from_secs(120);
/// More absences than this, and those that are over are forgotten.
const MANY_ABSENT: usize = 1_024;
/// How far apart two answers must be that say gone or denied, before `on_revoked` acts. In between, the
/// entry is served without asking.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// How a provider refuses a secret, when it does answer; with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NegativeReason {
    /// There is none.
    Gone(Arc<str>),
    /// It is not for us.
    Denied(Arc<str>),
    /// It does not understand what it is asked: that says nothing of the secret.
    Misunderstood(Arc<str>),
    /// It failed at this one: that says nothing of the secret, and may pass.
    Failed(Arc<str>),
}

/// What the provider's refusing does to an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum EvictionDecision {
    /// It stays, for the answer is not confirmed yet, or the config says keep.
    Kept,
    /// It was dropped.
    Evicted,
    /// There was none.
    Absent,
}

/// Why an entry is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalReason {
    /// The provider said that it is gone.
    Gone,
    /// The provider said that it is not for us.
    Denied,
    /// A listing lacks it, and more than half of what was known.
    Removed,
    /// It turned empty.
    Emptied,
    /// The provider did not understand the question.
    Misunderstood,
}

/// An entry that is served although the provider took it back.
pub struct PendingChange {
    /// Which one.
    pub at: CacheKey,
    /// Why.
    pub cause: RemovalReason,
    /// Since when.
    pub since: BootInstant,
}

/// What the provider last said against an entry.
pub(super) struct PendingRemoval {
    first: BootInstant,
    last: BootInstant,
    cause: RemovalReason,
    times: u32,
    /// How long after the last answer the provider is left alone.
    rests: Duration,
}

/// A secret that the provider did not give.
pub(super) struct NegativeEntry {
    refusal: NegativeReason,
    since: BootInstant,
    lasts: Duration,
}

/// Everything that the provider takes back.
#[derive(Default)]
pub(super) struct NegativeCache {
    doubted: HashMap<CacheKey, PendingRemoval>,
    absent: HashMap<CacheKey, NegativeEntry>,
}

impl Cache {
    /// Takes note that the provider refuses a secret. An entry is believed over one such answer: a
    /// permission being edited, or a proxy, must not empty a fleet's caches.
    pub fn doubt(
        &mut self,
        at: &CacheKey,
        refusal: &NegativeReason,
        now: BootInstant,
    ) -> EvictionDecision {
        let Some(known) = self.entries.get(at) else {
            self.doubts.note_absence(at, refusal, now);
            return EvictionDecision::Absent;
        };
        known.entry.expire();
        let doubt = self.doubts.note(at, refusal.cause(), now);
        let confirmed = doubt.is_confirmed(now) && doubt.cause != RemovalReason::Misunderstood;
        if !confirmed || !self.policy.evict_revoked {
            // What is kept in any case need not be confirmed soon.
            let again = CONFIRM_AFTER.saturating_mul(1 << doubt.times.saturating_sub(1).min(16));
            doubt.rests = if confirmed || doubt.cause == RemovalReason::Misunderstood {
                again.min(self.policy.fresh_for).max(ABSENCE_LASTS)
            } else {
                CONFIRM_AFTER
            };
            return EvictionDecision::Kept;
        }
        self.evict(at, refusal.clone(), now);
        EvictionDecision::Evicted
    }

    /// Takes note that the provider refuses many; tells how many that evicted.
    pub fn doubt_all(
        &mut self,
        at: &[CacheKey],
        refusal: &NegativeReason,
        now: BootInstant,
    ) -> u64 {
        at.iter()
            .map(|at| u64::from(self.doubt(at, refusal, now) == EvictionDecision::Evicted))
            .sum()
    }

    /// Takes note that a refresh would take a secret away; true when it is confirmed by this one. Until
    /// the next refresh, lookups are no reason to ask: the answer would be the same.
    pub(super) fn hold(&mut self, at: &CacheKey, cause: RemovalReason, now: BootInstant) -> bool {
        let rests = self.policy.fresh_for;
        if let Some(known) = self.entries.get(at) {
            known.entry.expire();
        }
        let doubt = self.doubts.note(at, cause, now);
        doubt.rests = rests;
        doubt.is_confirmed(now)
    }

    /// Drops an entry that the provider took back for good. That is remembered as long as an entry is
    /// fresh: a container that goes on asking does not reach the provider each time.
    pub(super) fn evict(&mut self, at: &CacheKey, refusal: NegativeReason, now: BootInstant) {
        self.remove(at);
        let lasts = self.policy.fresh_for.max(ABSENCE_LASTS);
        self.doubts.absent.insert(at.clone(), NegativeEntry { refusal, since: now, lasts });
    }

    /// The entries that the provider took back, and that are served all the same; in order.
    pub fn doubted(&self) -> Vec<PendingChange> {
        let real = self.doubts.doubted.iter().filter(|(_, doubt)| doubt.cause.is_taken_back());
        let mut all: Vec<_> = real
            .map(|(at, doubt)| PendingChange {
                at: at.clone(),
                cause: doubt.cause,
                since: doubt.first,
            })
            .collect();
        all.sort_unstable_by(|a, b| a.at.cmp(&b.at));
        all
    }
}

impl NegativeCache {
    pub(super) fn of(&self, at: &CacheKey) -> Option<&PendingRemoval> {
        self.doubted.get(at)
    }

    /// The provider gave it, or nobody is to remember.
    pub(super) fn settle(&mut self, at: &CacheKey) {
        self.doubted.remove(at);
        self.absent.remove(at);
    }

    /// Keeps the doubts about what there is.
    pub(super) fn retain(&mut self, there_is: impl Fn(&CacheKey) -> bool) {
        self.doubted.retain(|at, _| there_is(at));
    }

    pub(super) fn clear_negative(&mut self) {
        self.absent.clear();
    }

    /// What is remembered of a secret that there is no entry of.
    pub(super) fn absence(&self, at: &CacheKey, now: BootInstant) -> Option<&NegativeReason> {
        let absence = self.absent.get(at)?;
        (absence.since.age(now) < absence.lasts).then_some(&absence.refusal)
    }

    fn note(
        &mut self,
        at: &CacheKey,
        cause: RemovalReason,
        now: BootInstant,
    ) -> &mut PendingRemoval {
        let new = PendingRemoval { first: now, last: now, cause, times: 0, rests: Duration::ZERO };
        let doubt = self.doubted.entry(at.clone()).or_insert(new);
        // Two answers confirm each other when they say the same; one that was not understood says nothing.
        if cause != RemovalReason::Misunderstood && !cause.agrees_with(doubt.cause) {
            *doubt =
                PendingRemoval { first: now, last: now, cause, times: 0, rests: Duration::ZERO };
        }
        doubt.last = now;
        doubt.times = doubt.times.saturating_add(1);
        doubt
    }

    fn note_absence(&mut self, at: &CacheKey, refusal: &NegativeReason, now: BootInstant) {
        if self.absent.len() >= MANY_ABSENT {
            self.absent.retain(|_, absence| absence.is_remembered(now));
        }
        // Whoever asks for more names than that, each of them once, is not slowed down by remembering.
        if self.absent.len() >= MANY_ABSENT
            && let Some(oldest) = self.absent.iter().min_by_key(|(_, absence)| absence.since)
        {
            let oldest = oldest.0.clone();
            self.absent.remove(&oldest);
        }
        let before = self.absent.get(at).filter(|absence| absence.is_remembered(now));
        let at_most = match refusal {
            NegativeReason::Failed(_) => FAILURE_LASTS_AT_MOST,
            _ => ABSENCE_LASTS_AT_MOST.max(before.map_or(Duration::ZERO, |absence| absence.lasts)),
        };
        let lasts = before.map_or(ABSENCE_LASTS, |absence| (absence.lasts * 2).min(at_most));
        let absence = NegativeEntry { refusal: refusal.clone(), since: now, lasts };
        self.absent.insert(at.clone(), absence);
    }
}

impl PendingRemoval {
    /// Whether the provider is left alone about it.
    pub(super) fn rests(&self, now: BootInstant) -> bool {
        self.last.age(now) < self.rests
    }

    fn is_confirmed(&self, now: BootInstant) -> bool {
        self.first.age(now) >= CONFIRM_AFTER
    }
}

impl NegativeEntry {
    /// Beyond its end, so that who goes on asking is known.
    fn is_remembered(&self, now: BootInstant) -> bool {
        self.since.age(now) < self.lasts * 2
    }
}

impl NegativeReason {
    fn cause(&self) -> RemovalReason {
        match self {
            Self::Gone(_) => RemovalReason::Gone,
            Self::Denied(_) => RemovalReason::Denied,
            Self::Misunderstood(_) | Self::Failed(_) => RemovalReason::Misunderstood,
        }
    }
}

impl RemovalReason {
    /// Whether the provider took the secret back.
    fn is_taken_back(self) -> bool {
        self != Self::Misunderstood
    }

    fn agrees_with(self, other: Self) -> bool {
        (self == Self::Emptied) == (other == Self::Emptied) && other != Self::Misunderstood
    }
}
