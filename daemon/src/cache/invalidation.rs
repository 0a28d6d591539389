//! Invalidated keys: a fetch that began before an invalidation must not bring the value back.

use std::collections::{HashMap, HashSet};

use crate::model::reference::{CacheKey, ListingScope};

/// With more invalidated keys than this, all of them are replaced by one floor.
pub(super) const MAX_INVALIDATED: usize = 1_024;

/// When a fetch began, as the count of invalidations then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FetchEpoch(u64);

/// The invalidations since the process began.
#[derive(Default)]
pub(super) struct Invalidations {
    count: u64,
    /// The count at each key's invalidation.
    invalidated: HashMap<CacheKey, u64>,
    /// A fetch that began before this count puts nothing.
    floor: u64,
    /// The keys that had an entry, until a listing confirms what became of them.
    unconfirmed: HashSet<CacheKey>,
}

impl FetchEpoch {
    /// What was written before the process began: no key that was invalidated since may come back by it.
    pub(super) const BEFORE_ALL: Self = Self(0);
}

impl Invalidations {
    /// The present epoch.
    pub(super) fn epoch(&self) -> FetchEpoch {
        FetchEpoch(self.count)
    }

    /// Records an invalidation. Any name can be invalidated, so the memory for them is limited.
    pub(super) fn record(&mut self, key: &CacheKey, existed: bool) {
        self.count += 1;
        if self.invalidated.len() >= MAX_INVALIDATED {
            self.invalidated.clear();
            self.floor = self.count;
        }
        self.invalidated.insert(key.clone(), self.count);
        if existed {
            self.unconfirmed.insert(key.clone());
        }
    }

    /// Whether a key was, or may have been, invalidated since `epoch`.
    pub(super) fn is_outdated(&self, key: &CacheKey, epoch: FetchEpoch) -> bool {
        epoch.0 < self.floor || self.invalidated.get(key).is_some_and(|count| *count > epoch.0)
    }

    /// A listing of these scopes, which was requested at `epoch`, confirms what was invalidated before.
    pub(super) fn confirm(&mut self, scopes: &[ListingScope], epoch: FetchEpoch) {
        let mut unconfirmed = std::mem::take(&mut self.unconfirmed);
        unconfirmed.retain(|key| {
            self.is_outdated(key, epoch) || !scopes.iter().any(|scope| scope.contains(key))
        });
        self.unconfirmed = unconfirmed;
    }

    /// Whether an invalidated key is not confirmed yet.
    pub(super) fn is_unconfirmed(&self, key: &CacheKey) -> bool {
        self.unconfirmed.contains(key)
    }

    /// The unconfirmed keys of a scope.
    pub(super) fn unconfirmed_in(&self, scope: &ListingScope) -> impl Iterator<Item = &CacheKey> {
        self.unconfirmed.iter().filter(|key| scope.contains(key))
    }

    /// How many keys are recorded one by one.
    #[cfg(test)]
    pub(super) fn recorded(&self) -> usize {
        self.invalidated.len()
    }
}
