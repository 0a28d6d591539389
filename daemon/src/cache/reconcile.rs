//! Reconciliation of a listing with the entries: a listing is authoritative for its scopes, and removes what it
//! lacks. The mass-removal guard is the exception: if a listing lacks more than half of the entries, or a value
//! turned empty, a role may be being edited or a project restored. Then the removal is withheld until a second
//! listing confirms it, or an admin accepts it.

use std::collections::HashSet;
use std::fmt;

use psi_common::SecretBytes;

use super::negative::NegativeReason;
use super::pending::{EvictionDecision, RemovalReason};
use super::state::State;
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
    /// Makes the entries of a listing's scopes equal to it, in chunks. A listing of no scope only adds values.
    pub fn reconcile(&self, listing: Listing, options: &ReconcileOptions<'_>) -> Counts {
        let Listing { scopes, found, denied, unread } = listing;
        let (known, evict_revoked) = {
            let mut state = self.state.write();
            state.invalidations.confirm(&scopes, options.epoch);
            (state.entries.within(&scopes), state.policy.evict_revoked)
        };
        let others = denied.iter().chain(&unread).map(|(key, _)| key);
        let listed: HashSet<&CacheKey> = found.iter().map(|(key, _)| key).chain(others).collect();
        let unlisted = known
            .iter()
            .filter(|(key, entry)| !listed.contains(key) && !options.is_outrun_by(entry));
        let unlisted: Vec<CacheKey> = unlisted.map(|(key, _)| key.clone()).collect();
        let is_guarded = unlisted.len() * 2 > known.len() || !evict_revoked;
        drop(known);
        let mut counts = Counts::default();
        self.apply(unlisted, |state, key| {
            state.remove_unlisted(&key, is_guarded && !options.accept, options, &mut counts);
            true
        });
        self.apply(denied, |state, (key, why)| {
            let reason = NegativeReason::Denied(why.into());
            let decision = state.note_refusal(&key, reason, options.now.boot);
            counts.removed += u64::from(decision == EvictionDecision::Evicted);
            true
        });
        let wanted = found.into_iter().filter(|(key, _)| (options.wanted)(key));
        self.apply(wanted, |state, (key, value)| {
            state.take(&key, value, options, &mut counts);
            true
        });
        counts
    }
}

impl State {
    fn remove_unlisted(
        &mut self,
        key: &CacheKey,
        is_guarded: bool,
        options: &ReconcileOptions<'_>,
        counts: &mut Counts,
    ) {
        // It may have been removed or fetched since the listing was compared.
        if self.entries.get(key).is_none_or(|entry| options.is_outrun_by(entry)) {
            return;
        }
        let now = options.now.boot;
        if is_guarded {
            let is_confirmed = self.withhold(key, RemovalReason::Unlisted, now);
            if !is_confirmed || !self.policy.evict_revoked {
                counts.withheld += 1;
                return;
            }
        }
        self.evict(key, NegativeReason::NotFound("a listing no longer has it".into()), now);
        counts.removed += 1;
    }

    fn take(
        &mut self,
        key: &CacheKey,
        value: SecretBytes,
        options: &ReconcileOptions<'_>,
        counts: &mut Counts,
    ) {
        let count = match self.entries.get(key) {
            None => &mut counts.added,
            Some(entry) if entry.value().same_as(&value) => &mut counts.unchanged,
            Some(entry) if options.is_outrun_by(entry) => {
                counts.unchanged += 1;
                return;
            }
            Some(_) => &mut counts.changed,
        };
        let ReconcileOptions { epoch, now, accept, .. } = *options;
        match self.put(key, Entry::new(value, now.wall), now, epoch, accept) {
            Ok(_) => *count += 1,
            Err(_) => counts.withheld += 1,
        }
    }
}

impl ReconcileOptions<'_> {
    /// Whether an entry was fetched after the listing was requested.
    fn is_outrun_by(&self, entry: &Entry) -> bool {
        entry.fetched() > self.began.boot
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
