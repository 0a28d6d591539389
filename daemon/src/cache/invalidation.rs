//! Invalidated keys: a fetch that began before an invalidation must not bring the value back.

use std::collections::{HashMap, HashSet};

use crate::model::reference::{CacheKey, ListingScope};

/// With more invalidated keys than this, all of them are replaced by one floor.
pub(super) const MAX_INVALIDATED: usize = 1_024;

/// When a fetch began, as the count of invalidations then. The default is before all invalidations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchEpoch(u64);

/// The invalidations since the process began.
#[derive(Default)]
pub(super) struct Invalidations {
    /// The present epoch.
    pub(super) epoch: FetchEpoch,
    /// The epoch that each key's invalidation began.
    pub(super) invalidated: HashMap<CacheKey, FetchEpoch>,
    /// A fetch that began before this epoch puts nothing.
    floor: FetchEpoch,
    /// The keys that had an entry, until a listing confirms what became of them.
    pub(super) unconfirmed: HashSet<CacheKey>,
}

impl Invalidations {
    /// Records an invalidation. Any name can be invalidated, so the memory for them is limited.
    pub(super) fn record(&mut self, key: &CacheKey, existed: bool) {
        self.epoch.0 += 1;
        if self.invalidated.len() >= MAX_INVALIDATED {
            self.invalidated.clear();
            self.floor = self.epoch;
        }
        self.invalidated.insert(key.clone(), self.epoch);
        if existed {
            self.unconfirmed.insert(key.clone());
        }
    }

    /// Whether a key was, or may have been, invalidated since `epoch`.
    pub(super) fn is_outdated(&self, key: &CacheKey, epoch: FetchEpoch) -> bool {
        epoch < self.floor || self.invalidated.get(key).is_some_and(|began| *began > epoch)
    }

    /// A listing of these scopes, which was requested at `epoch`, confirms what was invalidated before.
    pub(super) fn confirm(&mut self, scopes: &[ListingScope], epoch: FetchEpoch) {
        let mut unconfirmed = std::mem::take(&mut self.unconfirmed);
        unconfirmed.retain(|key| {
            self.is_outdated(key, epoch) || !scopes.iter().any(|scope| scope.contains(key))
        });
        self.unconfirmed = unconfirmed;
    }
}
