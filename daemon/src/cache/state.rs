//! What the cache's lock guards, and work on many keys, which releases the lock after each chunk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLockWriteGuard;

use super::invalidation::Invalidations;
use super::negative::NegativeCache;
use super::pending::PendingRemovals;
use super::{Cache, Entry, FetchEpoch, Policy};
use crate::model::clock::{AtomicBootInstant, BootInstant, Timestamp};
use crate::model::reference::{CacheKey, ListingScope};

/// How many keys the lock is held for at a time.
pub(super) const CHUNK: usize = 128;

/// What the lock guards.
pub(super) struct State {
    pub(super) policy: Policy,
    pub(super) entries: BTreeMap<CacheKey, Cached>,
    pub(super) pending: PendingRemovals,
    pub(super) negative: NegativeCache,
    pub(super) invalidations: Invalidations,
}

/// An entry and its age.
pub(super) struct Cached {
    pub(super) entry: Arc<Entry>,
    /// When the provider returned it, on the boot clock, which does not jump.
    pub(super) fetched: AtomicBootInstant,
    /// Whether `fetched` is known: a file may name a time in the future.
    pub(super) is_dated: bool,
}

impl Cache {
    /// Visits the entries of a scope, or all, in order.
    pub(super) fn visit(
        &self,
        scope: Option<&ListingScope>,
        mut visit: impl FnMut(&CacheKey, &Cached),
    ) {
        let mut after: Option<CacheKey> = None;
        loop {
            let state = self.state.read();
            let (mut count, mut last) = (0, None);
            for (key, cached) in state.range(scope, after.as_ref()).take(CHUNK) {
                (count, last) = (count + 1, Some(key));
                if scope.is_none_or(|scope| scope.contains(key)) {
                    visit(key, cached);
                }
            }
            match last {
                Some(key) if count == CHUNK => after = Some(key.clone()),
                _ => return,
            }
        }
    }

    /// Applies a change to each item; it returns whether the change must be persisted.
    pub(super) fn apply<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        mut change: impl FnMut(&mut State, T) -> bool,
    ) {
        let mut items = items.into_iter();
        loop {
            let chunk: Vec<T> = items.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                return;
            }
            let mut state = self.state.write();
            let changed =
                chunk.into_iter().fold(false, |changed, item| change(&mut state, item) | changed);
            // A lookup that waits for the lock gets it before the next chunk.
            RwLockWriteGuard::unlock_fair(state);
            if changed {
                self.changes.note();
            }
        }
    }
}

impl State {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            entries: BTreeMap::new(),
            pending: PendingRemovals::default(),
            negative: NegativeCache::default(),
            invalidations: Invalidations::default(),
        }
    }

    /// The entries of a scope, or all, after a key. Below a recursive scope there may be others between them.
    pub(super) fn range<'a>(
        &'a self,
        scope: Option<&'a ListingScope>,
        after: Option<&CacheKey>,
    ) -> impl Iterator<Item = (&'a CacheKey, &'a Cached)> {
        let first = scope.map(|scope| CacheKey::new(scope.realm.clone(), scope.path.as_str(), ""));
        let from = match (after, &first) {
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let is_inside = move |(key, _): &(&CacheKey, &Cached)| {
            scope.is_none_or(|scope| {
                key.realm == scope.realm
                    && match scope.recursive {
                        true => key.path.starts_with(&scope.path),
                        false => *key.path == *scope.path,
                    }
            })
        };
        self.entries.range((from, Bound::Unbounded)).take_while(is_inside)
    }

    pub(super) fn insert(
        &mut self,
        key: &CacheKey,
        entry: Entry,
        fetched: BootInstant,
        epoch: FetchEpoch,
    ) -> Arc<Entry> {
        if !self.policy.enabled || self.invalidations.is_outdated(key, epoch) {
            return Arc::new(entry);
        }
        self.forgive(key);
        let entry = match self.entries.get_mut(key) {
            // One copy of a value in RAM, however often it is fetched.
            Some(cached) if cached.entry.value().same_as(entry.value()) => {
                cached.renew(entry.fetched_at(), fetched);
                cached.is_dated = true;
                return Arc::clone(&cached.entry);
            }
            // A container that was served the former value will ask for the new one.
            Some(cached) => entry.last_served_in(cached.entry.last_served_boot()),
            None => entry,
        };
        let entry = Arc::new(entry);
        let cached = Cached::new(Arc::clone(&entry), fetched, true);
        self.entries.insert(key.clone(), cached);
        entry
    }

    pub(super) fn remove(&mut self, key: &CacheKey) {
        self.entries.remove(key);
        self.forgive(key);
    }

    /// Forgets what the provider said against a key.
    pub(super) fn forgive(&mut self, key: &CacheKey) {
        self.pending.remove(key);
        self.negative.remove(key);
    }
}

impl Policy {
    pub(super) fn is_fresh(&self, cached: &Cached, now: BootInstant) -> bool {
        cached.entry.is_in_ram()
            || cached.fetched().is_some_and(|fetched| now < fetched.after(self.fresh_for))
    }

    pub(super) fn is_past_max_stale(&self, cached: &Cached, now: BootInstant) -> bool {
        let is_older = |limit: Duration| cached.fetched.get().age(now) > limit;
        !cached.entry.is_in_ram() && self.max_stale.is_some_and(is_older)
    }
}

impl Cached {
    pub(super) fn new(entry: Arc<Entry>, fetched: BootInstant, is_dated: bool) -> Self {
        Self { entry, fetched: AtomicBootInstant::new(fetched), is_dated }
    }

    /// Records that the provider returned the same value again.
    pub(super) fn renew(&self, fetched_at: Timestamp, fetched: BootInstant) {
        self.entry.renew(fetched_at);
        self.fetched.set(fetched);
    }

    pub(super) fn fetched(&self) -> Option<BootInstant> {
        self.is_dated.then_some(self.fetched.get())
    }
}
