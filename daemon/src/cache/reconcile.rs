//! What a refresh may change at once. A listing is the provider's word, and what it has no more is gone.
//! But one that lacks more than half of what is known, or in which values turned empty, may be a role
//! that is being edited, or a project that is being restored: the last good is kept until a second
//! listing confirms it, or an admin does.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::negative::{NegativeReason, RemovalReason};
use super::{Cache, Entry, FetchEpoch};
use crate::model::clock::Now;
use crate::model::reference::{CacheKey, Listing, ListingScope};

/// How a listing is taken over.
pub struct ReconcileOptions<'a> {
    /// LoginRequest of when it was asked for: what was invalidated since, it may not bring back.
    pub epoch: FetchEpoch,
    /// When it was asked for.
    pub began: Now,
    /// When it came.
    pub now: Now,
    /// Whether an admin confirms whatever it takes away.
    pub accept: bool,
    /// Which of its secrets are to be kept.
    pub wanted: &'a (dyn Fn(&CacheKey) -> bool + Sync),
}

/// What a listing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The cache had it not.
    pub added: u64,
    /// The value differs.
    pub changed: u64,
    /// The value is the same.
    pub unchanged: u64,
    /// The provider has it no more.
    pub removed: u64,
    /// The provider has it no more, or empty, and that is not believed yet.
    pub held: u64,
}

impl Cache {
    /// Makes a whole listing the truth of its extents.
    pub fn replace(&mut self, listing: Listing, taking: &ReconcileOptions<'_>) -> Counts {
        let Listing { extents, found, denied, unread } = listing;
        self.settle(&extents, taking.epoch);
        let present: HashSet<CacheKey> = found
            .iter()
            .map(|(at, _)| at)
            .chain(denied.iter().chain(&unread).map(|(at, _)| at))
            .cloned()
            .collect();
        let mut counts = self.take_away(&extents, &present, taking);
        for (at, why) in denied {
            counts.removed +=
                self.doubt_all(&[at], &NegativeReason::Denied(why.into()), taking.now.tick);
        }
        for (at, value) in found {
            if (taking.wanted)(&at) {
                self.take(&at, Entry::new(value, taking.now.wall), taking, &mut counts);
            }
        }
        counts
    }

    /// What was invalidated before a listing was asked for is as the listing says.
    fn settle(&mut self, extents: &[ListingScope], epoch: FetchEpoch) {
        let mut invalidated_unconfirmed = std::mem::take(&mut self.invalidated_unconfirmed);
        invalidated_unconfirmed.retain(|at| {
            self.outdated(at, epoch) || !extents.iter().any(|extent| extent.contains(at))
        });
        self.invalidated_unconfirmed = invalidated_unconfirmed;
    }

    /// Drops what is known of these extents and not present any more, or holds it back.
    fn take_away(
        &mut self,
        extents: &[ListingScope],
        present: &HashSet<CacheKey>,
        taking: &ReconcileOptions<'_>,
    ) -> Counts {
        let mut counts = Counts::default();
        let known = self.within(extents);
        let gone: Vec<&CacheKey> =
            known.iter().filter(|at| !present.contains(at) && !self.is_newer(at, taking)).collect();
        let over_budget = gone.len() * 2 > known.len() || !self.policy.evict_revoked;
        let now = taking.now.tick;
        for at in gone {
            if !taking.accept && over_budget {
                let confirmed = self.hold(at, RemovalReason::Removed, now);
                if !confirmed || !self.policy.evict_revoked {
                    counts.held += 1;
                    continue;
                }
            }
            self.evict(at, NegativeReason::Gone("a listing has it no more".into()), now);
            counts.removed += 1;
        }
        counts
    }

    fn take(
        &mut self,
        at: &CacheKey,
        new: Entry,
        taking: &ReconcileOptions<'_>,
        counts: &mut Counts,
    ) {
        let is_newer = self.is_newer(at, taking);
        let count = match self.entries.get(at) {
            None => &mut counts.added,
            Some(known) if known.entry.value().same_as(new.value()) => &mut counts.unchanged,
            // It was fetched while the listing was on its way.
            Some(_) if is_newer => {
                counts.unchanged += 1;
                return;
            }
            Some(_) => &mut counts.changed,
        };
        match self.put_unless_held(at, new, taking.now, taking.epoch, taking.accept) {
            Ok(_) => *count += 1,
            Err(_) => counts.held += 1,
        }
    }

    /// Puts a value, unless it is empty in the place of one that is not: that must be confirmed. `Err` is
    /// the one that stays.
    pub(super) fn put_unless_held(
        &mut self,
        at: &CacheKey,
        new: Entry,
        now: Now,
        epoch: FetchEpoch,
        accept: bool,
    ) -> Result<Arc<Entry>, Arc<Entry>> {
        let good = self.entries.get(at).filter(|known| !known.entry.value().is_empty());
        if let Some(good) = good.map(|known| Arc::clone(&known.entry))
            && new.value().is_empty()
            && !accept
            && !self.outdated(at, epoch)
            && !self.hold(at, RemovalReason::Emptied, now.tick)
        {
            return Err(good);
        }
        Ok(self.insert(at, new, now.tick, epoch))
    }

    fn is_newer(&self, at: &CacheKey, taking: &ReconcileOptions<'_>) -> bool {
        self.entries.get(at).is_some_and(|known| known.fetched > taking.began.tick)
    }
}

impl Counts {
    /// Whether the cache is another one than before.
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
