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
use super::state::{Cached, State};
use super::{Cache, Entry, FetchEpoch};
use crate::model::clock::Now;
use crate::model::reference::{CacheKey, Listing, ListingScope};

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
    pub held: u64,
}

impl Cache {
    /// Makes the entries of a listing's scopes equal to it, in chunks.
    pub fn reconcile(&self, listing: Listing, options: &ReconcileOptions<'_>) -> Counts {
        let Listing { extents, found, denied, unread } = listing;
        self.state.write().invalidations.confirm(&extents, options.epoch);
        let others = denied.iter().chain(&unread).map(|(key, _)| key);
        let listed: HashSet<&CacheKey> = found.iter().map(|(key, _)| key).chain(others).collect();
        let (unlisted, is_guarded) = self.unlisted(&extents, &listed, options);
        let mut counts = Counts::default();
        self.apply(unlisted, |state, key| {
            state.remove_unlisted(&key, is_guarded, options, &mut counts);
            true
        });
        self.apply(denied, |state, (key, why)| {
            let reason = NegativeReason::Denied(why.into());
            let decision = state.note_refusal(&key, &reason, options.now.boot);
            counts.removed += u64::from(decision == EvictionDecision::Evicted);
            true
        });
        let mut unchanged = 0;
        let wanted = found.into_iter().filter(|(key, _)| (options.wanted)(key));
        let changed = wanted.filter(|(key, value)| {
            let is_renewed = self.renew_unchanged(key, value, options);
            unchanged += u64::from(is_renewed);
            !is_renewed
        });
        self.apply(changed, |state, (key, value)| {
            state.take(&key, Entry::new(value, options.now.wall), options, &mut counts);
            true
        });
        counts.unchanged += unchanged;
        if unchanged > 0 {
            self.changes.note();
        }
        counts
    }

    /// Renews an entry that a listing confirms. That is most of a listing as a rule, and needs no exclusive
    /// lock: lookups go on meanwhile.
    pub(super) fn renew_unchanged(
        &self,
        key: &CacheKey,
        value: &SecretBytes,
        options: &ReconcileOptions<'_>,
    ) -> bool {
        let state = self.state.read();
        let is_settled = |cached: &&Cached| {
            state.policy.enabled
                && cached.is_dated
                && cached.entry.value().same_as(value)
                && state.pending.get(key).is_none()
                && !state.invalidations.is_outdated(key, options.epoch)
        };
        let Some(cached) = state.entries.get(key).filter(is_settled) else { return false };
        cached.renew(options.now.wall, options.now.boot);
        true
    }

    /// The entries of these scopes that a listing lacks, and whether the mass-removal guard withholds them.
    fn unlisted(
        &self,
        scopes: &[ListingScope],
        listed: &HashSet<&CacheKey>,
        options: &ReconcileOptions<'_>,
    ) -> (Vec<CacheKey>, bool) {
        let (mut unlisted, mut known) = (Vec::new(), 0);
        for (index, scope) in scopes.iter().enumerate() {
            self.visit(Some(scope), |key, cached| {
                // Scopes may overlap; each entry counts once.
                if scopes[..index].iter().any(|earlier| earlier.contains(key)) {
                    return;
                }
                known += 1;
                if !listed.contains(key) && cached.fetched.get() <= options.began.boot {
                    unlisted.push(key.clone());
                }
            });
        }
        let is_mass_removal = unlisted.len() * 2 > known;
        (unlisted, is_mass_removal || !self.state.read().policy.evict_revoked)
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
        if !self.entries.contains_key(key) || self.is_newer(key, options) {
            return;
        }
        let now = options.now.boot;
        if is_guarded && !options.accept {
            let is_confirmed = self.withhold(key, RemovalReason::Unlisted, now);
            if !is_confirmed || !self.policy.evict_revoked {
                counts.held += 1;
                return;
            }
        }
        self.evict(key, NegativeReason::NotFound("a listing no longer has it".into()), now);
        counts.removed += 1;
    }

    fn take(
        &mut self,
        key: &CacheKey,
        new: Entry,
        options: &ReconcileOptions<'_>,
        counts: &mut Counts,
    ) {
        let is_newer = self.is_newer(key, options);
        let count = match self.entries.get(key) {
            None => &mut counts.added,
            Some(cached) if cached.entry.value().same_as(new.value()) => &mut counts.unchanged,
            // It was fetched after the listing was requested.
            Some(_) if is_newer => {
                counts.unchanged += 1;
                return;
            }
            Some(_) => &mut counts.changed,
        };
        let put = match options.accept {
            true => Ok(self.insert(key, new, options.now.boot, options.epoch)),
            false => self.put_unless_emptied(key, new, options.now, options.epoch),
        };
        match put {
            Ok(_) => *count += 1,
            Err(_) => counts.held += 1,
        }
    }

    /// Puts a value, unless it is empty and the cached one is not: that must be confirmed. `Err` is the entry
    /// that stays.
    pub(super) fn put_unless_emptied(
        &mut self,
        key: &CacheKey,
        new: Entry,
        now: Now,
        epoch: FetchEpoch,
    ) -> Result<Arc<Entry>, Arc<Entry>> {
        if new.value().is_empty()
            && let Some(cached) = self.entries.get(key)
            && !cached.entry.value().is_empty()
            && !self.invalidations.is_outdated(key, epoch)
        {
            let kept = Arc::clone(&cached.entry);
            if !self.withhold(key, RemovalReason::Emptied, now.boot) {
                return Err(kept);
            }
        }
        Ok(self.insert(key, new, now.boot, epoch))
    }

    fn is_newer(&self, key: &CacheKey, options: &ReconcileOptions<'_>) -> bool {
        self.entries.get(key).is_some_and(|cached| cached.fetched.get() > options.began.boot)
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
        let Self { added, changed, unchanged, removed, held } = self;
        write!(f, "{added} added, {changed} changed, {unchanged} unchanged, {removed} removed")?;
        if *held > 0 { write!(f, ", {held} held back") } else { Ok(()) }
    }
}
