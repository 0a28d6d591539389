//! The decrypted cache: values, their age, and whether they may be served. It does no I/O and reads no clock.
//!
//! One lock guards them. It is held for one key or for a chunk of keys, never for a whole listing or a whole
//! snapshot: so a lookup waits for neither.

mod entries;
mod entry;
mod invalidation;
mod negative;
mod pending;
mod reconcile;
mod state;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::reference::{CacheKey, ListingScope};
use entries::Entries;
use invalidation::Invalidations;
use pending::PendingRemoval;
use state::State;

pub use entry::BootId;
pub(crate) use entry::Entry;
pub use invalidation::FetchEpoch;
pub(crate) use negative::NegativeReason;
pub(crate) use pending::{EvictionDecision, RemovalReason, WithheldEntry};
pub(crate) use reconcile::Counts;
pub use reconcile::ReconcileOptions;

/// A file may name times that are ahead of the clock by so much; beyond that, an entry's age is unknown.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// How many keys the lock is held for at a time.
const CHUNK: usize = 128;

/// The entries, shared by lookups, fetches, refreshes and the persister.
pub struct Cache {
    state: RwLock<State>,
    boot: BootId,
    /// The count of changes that must be persisted.
    changes: AtomicU64,
    /// Is called after each of them.
    observer: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

/// The configuration of ages and removals.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether values are kept at all.
    pub enabled: bool,
    /// A younger entry is served without a request.
    pub fresh_for: Duration,
    /// An older entry is refused in an outage; `None`: no limit.
    pub max_stale: Option<Duration>,
    /// Whether an entry is removed once the provider has confirmed that it is gone or denied.
    pub evict_revoked: bool,
}

/// The cache's answer to a lookup.
pub enum CacheLookup {
    /// The entry may be served without a request.
    Fresh(Arc<Entry>),
    /// The provider is to be asked.
    Stale {
        /// The entry.
        entry: Arc<Entry>,
        /// Whether it may be served when the provider does not answer.
        servable: bool,
        /// Whether it is older than `max_stale`. It is servable all the same if it was served in this boot:
        /// podman resolves the secret again for each exec in a running container.
        past_max_stale: bool,
    },
    /// There is no entry.
    Missing,
    /// The provider refused it a short time ago.
    NegativeHit(NegativeReason),
}

/// The entries to be persisted. The values are shared, not copied.
pub struct Snapshot {
    /// Grows by one with each write.
    pub generation: u64,
    /// In no order.
    pub entries: Vec<(CacheKey, Arc<Entry>)>,
}

impl Snapshot {
    fn of(entries: &Entries, generation: u64) -> Self {
        let entries = entries.iter().map(|(key, entry)| (key.clone(), Arc::clone(entry))).collect();
        Self { generation, entries }
    }

    /// The same entries in the order of keys.
    pub fn sorted(mut self) -> Self {
        self.entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self
    }
}

/// Lookups.
impl Cache {
    /// An empty cache of a process in this boot.
    pub fn new(policy: Policy, boot: BootId) -> Self {
        let state = State {
            policy,
            entries: Entries::default(),
            pending: HashMap::new(),
            negative: HashMap::new(),
            invalidations: Invalidations::default(),
        };
        let state = RwLock::new(state);
        Self { state, boot, changes: AtomicU64::new(0), observer: Mutex::default() }
    }

    /// Looks a key up at `now`.
    pub fn get(&self, key: &CacheKey, now: BootInstant) -> CacheLookup {
        let state = self.state.read();
        let Some(entry) = state.entries.get(key).cloned() else {
            let refusal = state.negative.get(key).filter(|entry| entry.since.age(now) < entry.ttl);
            let reason = refusal.map(|entry| entry.reason.clone());
            return reason.map_or(CacheLookup::Missing, CacheLookup::NegativeHit);
        };
        let past_max_stale = state.policy.is_past_max_stale(&entry, now);
        let servable = !past_max_stale || entry.was_served_in(self.boot);
        let is_fresh = match state.pending.get(key) {
            Some(pending) => servable && !pending.is_retry_due(now),
            None => state.policy.is_fresh(&entry, now),
        };
        match is_fresh {
            true => CacheLookup::Fresh(entry),
            false => CacheLookup::Stale { entry, servable, past_max_stale },
        }
    }

    /// Whether there is an entry.
    pub fn contains(&self, key: &CacheKey) -> bool {
        self.state.read().entries.get(key).is_some()
    }

    /// Whether the key's directory has entries, and none of this key, which was not invalidated either.
    pub fn is_known_without(&self, key: &CacheKey) -> bool {
        let state = self.state.read();
        let directory = state.entries.directory_of(key);
        directory.is_some_and(|entries| !entries.contains_key(key))
            && !state.invalidations.unconfirmed.contains(key)
    }

    /// The entries of a scope, in order.
    pub fn entries_in(&self, scope: &ListingScope) -> Vec<(CacheKey, Arc<Entry>)> {
        Snapshot::of(&self.entries_within(scope), 0).sorted().entries
    }

    /// An invalidated key of a scope that no listing has confirmed since.
    pub fn invalidated_unconfirmed(&self, scope: &ListingScope) -> Option<CacheKey> {
        let state = self.state.read();
        let is_missing = |key: &&CacheKey| scope.contains(key) && state.entries.get(key).is_none();
        state.invalidations.unconfirmed.iter().find(is_missing).cloned()
    }

    /// When an entry was fetched; `None` if there is none, or the time is unknown.
    pub fn fetched(&self, key: &CacheKey) -> Option<BootInstant> {
        self.state.read().entries.get(key)?.fetched_if_known()
    }

    /// When the oldest entry of a scope was fetched; `None` if there is none, or a time is unknown.
    pub fn oldest_fetch(&self, scope: &ListingScope) -> Option<BootInstant> {
        let entries = self.entries_within(scope);
        let fetched: Option<Vec<_>> =
            entries.iter().map(|(_, one)| one.fetched_if_known()).collect();
        fetched?.into_iter().min()
    }

    /// Whether values are kept at all.
    pub fn is_enabled(&self) -> bool {
        self.state.read().policy.enabled
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.state.read().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an entry would be served after a reboot at `now` without its provider.
    pub fn survives_reboot(&self, key: &CacheKey, now: BootInstant) -> bool {
        let state = self.state.read();
        state.entries.get(key).is_some_and(|entry| !state.policy.is_past_max_stale(entry, now))
    }

    /// How many entries are older than `max_stale`, and servable only because they were served in this boot.
    pub fn past_max_stale(&self, now: BootInstant) -> usize {
        let policy = self.state.read().policy;
        let is_kept = |(_, entry): &(&CacheKey, &Arc<Entry>)| {
            entry.was_served_in(self.boot) && policy.is_past_max_stale(entry, now)
        };
        self.entries().iter().filter(is_kept).count()
    }

    /// When the oldest and the newest entry were fetched, by the wall clock of those times.
    pub fn fetch_span(&self) -> Option<(Timestamp, Timestamp)> {
        let entries = self.entries();
        let times = || entries.iter().map(|(_, entry)| entry.fetched_at());
        Some((times().min()?, times().max()?))
    }

    /// The entries whose removal is pending, in order.
    pub fn withheld(&self) -> Vec<WithheldEntry> {
        let withheld = |(key, pending): (&CacheKey, &PendingRemoval)| {
            let PendingRemoval { reason, first: since, .. } = *pending;
            reason.is_removal().then(|| WithheldEntry { key: key.clone(), reason, since })
        };
        let mut all: Vec<_> = self.state.read().pending.iter().filter_map(withheld).collect();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// The entries that may be written to a disk, to be persisted as `generation`.
    pub fn snapshot(&self, generation: u64) -> Snapshot {
        let mut snapshot = Snapshot::of(&self.entries(), generation);
        snapshot.entries.retain(|(_, entry)| !entry.is_in_ram());
        snapshot
    }

    fn entries(&self) -> Entries {
        self.state.read().entries.clone()
    }

    fn entries_within(&self, scope: &ListingScope) -> Entries {
        self.state.read().entries.within(std::slice::from_ref(scope))
    }
}

/// Changes.
impl Cache {
    /// Begins a fetch: keys that are invalidated from now on are not put by it.
    pub fn begin_fetch(&self) -> FetchEpoch {
        self.state.read().invalidations.epoch
    }

    /// Puts a fetched value, unless the key was invalidated since the fetch began, or the value is empty and
    /// the cached one is not. Returns the entry to serve.
    pub fn put(&self, key: &CacheKey, entry: Entry, now: Now, epoch: FetchEpoch) -> Arc<Entry> {
        let is_persisted = !entry.is_in_ram();
        let put = self.state.write().put(key, entry, now, epoch, false);
        if is_persisted {
            self.note_change();
        }
        put.unwrap_or_else(|kept| kept)
    }

    /// Notes that an entry is served. It is persisted once in a boot, not at each lookup.
    pub fn mark_served(&self, entry: &Entry) {
        if entry.mark_served(self.boot) && !entry.is_in_ram() {
            self.note_change();
        }
    }

    /// Records that the provider refused a secret. One refusal removes no entry: a permission that is being
    /// edited, or a proxy's error page, must not empty the caches of a fleet.
    pub fn note_refusal(
        &self,
        key: &CacheKey,
        reason: NegativeReason,
        now: BootInstant,
    ) -> EvictionDecision {
        let decision = self.state.write().note_refusal(key, reason, now);
        if decision == EvictionDecision::Evicted {
            self.note_change();
        }
        decision
    }

    /// Records that the provider refused a whole scope; returns how many entries that removed.
    pub fn note_refusal_of(
        &self,
        scope: &ListingScope,
        reason: &NegativeReason,
        now: BootInstant,
    ) -> u64 {
        let mut evicted = 0;
        self.apply(self.entries_in(scope), |state, (key, _)| {
            let decision = state.note_refusal(&key, reason.clone(), now);
            evicted += u64::from(decision == EvictionDecision::Evicted);
            decision == EvictionDecision::Evicted
        });
        evicted
    }

    /// Removes an entry; true if there was one. A fetch that began before does not bring it back.
    pub fn invalidate(&self, key: &CacheKey) -> bool {
        let existed = {
            let mut state = self.state.write();
            let existed = state.entries.get(key).is_some();
            state.invalidations.record(key, existed);
            state.remove(key);
            existed
        };
        self.note_change();
        existed
    }

    /// Removes the entries that `is_wanted` rejects by their key and the time of their fetch.
    pub fn remove_unwanted(&self, is_wanted: impl Fn(&CacheKey, BootInstant) -> bool) {
        let is_unwanted = |key: &CacheKey, entry: &Entry| !is_wanted(key, entry.fetched());
        let entries = self.entries();
        let unwanted = entries.iter().filter(|(key, entry)| is_unwanted(key, entry));
        let unwanted: Vec<CacheKey> = unwanted.map(|(key, _)| key.clone()).collect();
        drop(entries);
        self.apply(unwanted, |state, key| {
            // It may have been fetched meanwhile.
            if state.entries.get(&key).is_some_and(|entry| is_unwanted(&key, entry)) {
                state.remove(&key);
            }
            true
        });
    }

    /// Restores what was persisted, except where the cache has newer entries: a key may be unlocked late.
    ///
    /// The age is computed once by the wall clock, and counted by the boot clock from then on, so that a
    /// correction of the wall clock changes no age.
    pub fn restore(&self, snapshot: Snapshot, now: Now) {
        self.apply(snapshot.entries, |state, (key, entry)| {
            let is_dated = entry.fetched_at() <= now.wall.after(MAX_CLOCK_SKEW);
            entry.set_fetched(now.boot.before(entry.fetched_at().age(now.wall)), is_dated);
            let is_newer = |cached: &Arc<Entry>| cached.fetched() >= entry.fetched();
            if !state.entries.get(&key).is_some_and(is_newer)
                && !state.invalidations.is_outdated(&key, FetchEpoch::default())
            {
                state.entries.insert(key, entry);
            }
            false
        });
    }

    /// Applies a new configuration. What was refused under the former one is asked for again.
    pub fn reconfigure(&self, policy: Policy) {
        let mut state = self.state.write();
        state.policy = policy;
        state.negative.clear();
    }

    /// Applies a change to each item; it returns whether the change must be persisted. The lock is released
    /// after each chunk, and items are taken without it.
    fn apply<T>(
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
                self.note_change();
            }
        }
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        let observer = self.observer.lock().clone();
        if let Some(observer) = observer {
            observer();
        }
    }

    /// The count of changes that must be persisted. A reader of the count sees them.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Calls `observer` after each change that must be persisted, in place of the observer so far.
    pub fn observe(&self, observer: impl Fn() + Send + Sync + 'static) {
        *self.observer.lock() = Some(Arc::new(observer));
    }
}

#[cfg(test)]
mod tests;
