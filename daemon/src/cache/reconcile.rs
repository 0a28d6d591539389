//! Reconciliation of a listing with the entries: a listing is authoritative for its scopes, and removes what it
//! lacks. The mass-removal guard is the exception: if a listing lacks more than half of the entries, or a value
//! turned empty, a role may be being edited or a project restored. Then the removal is withheld until a second
//! listing confirms it, or an admin accepts it.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use psi_common::SecretBytes;

use super::negative::NegativeReason;
use super::pending::{EvictionDecision, RemovalReason};
use super::{Cache, Entry, FetchEpoch, Replacement, State};
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
                drop(state);
                self.note_change();
            }
        }
        for (key, why) in denied {
            let reason = NegativeReason::Denied(why.into());
            let decision = self.note_refusal(&key, reason, now.boot);
            counts.removed += u64::from(decision == EvictionDecision::Evicted);
        }
        for (key, value) in found.into_iter().filter(|(key, _)| wanted(key)) {
            // That is most of a listing as a rule. Lookups go on meanwhile.
            if self.state.read().renew_unchanged(&key, &value, options) {
                counts.unchanged += 1;
                continue;
            }
            let new = Entry::new(value, now.wall);
            self.state.write().put(&key, new, options, &mut counts);
            // At once, not at the end: a verification of the file must not take this for a difference.
            self.note_change();
        }
        // The times of the renewed entries.
        self.note_change();
        counts
    }
}

impl State {
    /// Renews an entry whose value a listing confirms, if nothing else is to be done; true if it did.
    pub(super) fn renew_unchanged(
        &self,
        key: &CacheKey,
        value: &SecretBytes,
        options: &ReconcileOptions<'_>,
    ) -> bool {
        let cached = self.entries.get(key).filter(|cached| {
            cached.value().same_as(value)
                && self.policy.enabled
                && !self.pending.contains_key(key)
                && !self.invalidations.is_outdated(key, options.epoch)
        });
        cached.map(|cached| cached.renew(options.now)).is_some()
    }

    /// Puts a value, unless the key was invalidated or fetched since the request. An empty value in place of another
    /// one must be confirmed, or accepted by an admin. Returns the entry to serve.
    pub(super) fn put(
        &mut self,
        key: &CacheKey,
        new: Entry,
        options: &ReconcileOptions<'_>,
        counts: &mut Counts,
    ) -> Arc<Entry> {
        let ReconcileOptions { epoch, began, now, accept, .. } = *options;
        let is_outdated = self.invalidations.is_outdated(key, epoch);
        let cached = self.entries.get(key).cloned();
        let is_same = cached.as_ref().is_some_and(|cached| cached.value().same_as(new.value()));
        let (count, kept) = match &cached {
            None => (&mut counts.added, None),
            Some(_) if is_same => (&mut counts.unchanged, None),
            Some(newer) if newer.fetched() > began.boot => (&mut counts.unchanged, Some(newer)),
            Some(cached)
                if new.value().is_empty()
                    && !(accept || is_outdated)
                    && !self.withhold(key, RemovalReason::Emptied, now.boot) =>
            {
                (&mut counts.withheld, Some(cached))
            }
            Some(_) => (&mut counts.changed, None),
        };
        *count += 1;
        if let Some(kept) = kept {
            return Arc::clone(kept);
        }
        if !self.policy.enabled || is_outdated {
            return Arc::new(new);
        }
        self.pending.remove(key);
        self.negative.remove(key);
        let entry = match cached {
            // One copy of a value in RAM, however often it is fetched.
            Some(cached) if is_same => cached,
            cached => {
                // A container that was served the former value will ask for the new one.
                let served = cached.as_ref().map_or(0, |cached| cached.last_served_boot());
                let new = new.last_served_in(served);
                let differs = self.former.take_if_other(key, new.value());
                let entry = Arc::new(match cached.is_some() || differs {
                    true => new.replacing(Replacement { boot: self.boot, at: now.boot }),
                    false => new,
                });
                self.entries.insert(key.clone(), Arc::clone(&entry));
                entry
            }
        };
        entry.renew(now);
        entry
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
