//! Reconciliation of a listing with the entries: a listing is authoritative for its scopes, and removes what it
//! lacks. The mass-removal guard is the exception: if a listing lacks more than half of the entries, or a value
//! turned empty, a role may be being edited or a project restored. Then the removal is withheld until a second
//! listing confirms it, or an admin accepts it.

use std::collections::HashSet;
use std::fmt;

use super::negative::NegativeReason;
use super::pending::{EvictionDecision, RemovalReason};
use super::{Cache, Entry, FetchEpoch};
use crate::model::clock::Now;
use crate::model::reference::{CacheKey, Listing};

/// How a listing is reconciled.
pub struct ReconcileOptions<'a> {
    /// When it was requested: a key that was invalidated since is not brought back by it.
    pub epoch: FetchEpoch,
    /// When it was requested.
    pub began: Now,
    /// When it arrived.
    pub now: Now,
    /// Whether an admin accepts whatever it removes.
    pub accept: bool,
    /// Which of its secrets are to be kept.
    pub wanted: &'a (dyn Fn(&CacheKey) -> bool + Sync),
}

/// What a listing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New entries.
    pub added: u64,
    /// Entries with another value.
    pub changed: u64,
    /// Entries with the same value.
    pub unchanged: u64,
    /// Removed entries.
    pub removed: u64,
    /// Entries whose removal, or empty value, is withheld.
    pub withheld: u64,
}

impl Cache {
    /// Makes the entries of a listing's scopes equal to it, key by key. A listing of no scope removes nothing.
    pub fn reconcile(&self, listing: Listing, options: &ReconcileOptions<'_>) -> Counts {
        let Listing { scopes, found, denied, unread } = listing;
        let ReconcileOptions { epoch, began, now, accept, wanted } = *options;
        let (known, evict_revoked) = {
            let mut state = self.state.write();
            state.invalidations.confirm(&scopes, epoch);
            (state.entries.within(&scopes), state.policy.evict_revoked)
        };
        let others = denied.iter().chain(&unread).map(|(key, _)| key);
        let listed: HashSet<&CacheKey> = found.iter().map(|(key, _)| key).chain(others).collect();
        // An entry that was fetched after the listing was requested.
        let is_newer = |entry: &Entry| entry.fetched() > began.boot;
        let unlisted = known.iter().filter(|(key, one)| !listed.contains(key) && !is_newer(one));
        let unlisted: Vec<CacheKey> = unlisted.map(|(key, _)| key.clone()).collect();
        let is_guarded = !accept && (unlisted.len() * 2 > known.len() || !evict_revoked);
        drop(known);
        let mut counts = Counts::default();
        for key in unlisted {
            let mut state = self.state.write();
            if state.entries.get(&key).is_none_or(|entry| is_newer(entry)) {
                continue;
            }
            let unlisted = RemovalReason::Unlisted;
            if is_guarded && !(state.withhold(&key, unlisted, now.boot) && evict_revoked) {
                counts.withheld += 1;
            } else {
                let why = "a listing no longer has it".into();
                state.evict(&key, NegativeReason::NotFound(why), now.boot);
                counts.removed += 1;
            }
        }
        for (key, why) in denied {
            let reason = NegativeReason::Denied(why.into());
            let decision = self.state.write().note_refusal(&key, reason, now.boot);
            counts.removed += u64::from(decision == EvictionDecision::Evicted);
        }
        for (key, value) in found.into_iter().filter(|(key, _)| wanted(key)) {
            let mut state = self.state.write();
            let count = match state.entries.get(&key) {
                None => &mut counts.added,
                Some(entry) if entry.value().same_as(&value) => &mut counts.unchanged,
                Some(entry) if is_newer(entry) => {
                    counts.unchanged += 1;
                    continue;
                }
                Some(_) => &mut counts.changed,
            };
            match state.put(&key, Entry::new(value, now.wall), now, epoch, accept) {
                Ok(_) => *count += 1,
                Err(_) => counts.withheld += 1,
            }
        }
        self.note_change();
        counts
    }
}

impl Counts {
    /// Whether entries changed.
    pub fn is_change(&self) -> bool {
        self.added + self.changed + self.removed > 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, changed, unchanged, removed, withheld } = self;
        write!(f, "{added} added, {changed} changed, {unchanged} unchanged, {removed} removed")?;
        if *withheld > 0 { write!(f, ", {withheld} withheld") } else { Ok(()) }
    }
}
