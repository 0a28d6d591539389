//! The decrypted cache: values, their age, and whether they may be served. It does no I/O and reads no clock.
//!
//! The entries are ordered by namespace, directory and name, so that a directory is a range of them. One lock
//! guards them. It is held for one key or for a chunk of keys, never for a whole listing or a whole snapshot, and
//! exclusively only for keys that change: the unchanged part of a listing and a snapshot share it with lookups.

mod changes;
mod entry;
mod eviction;
mod invalidation;
mod negative;
mod pending;
mod reconcile;
mod state;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use psi_common::SecretBytes;

use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::reference::{CacheKey, ListingScope};
use changes::Changes;
use state::{Cached, State};

pub use entry::BootId;
pub(crate) use entry::Entry;
pub use invalidation::FetchEpoch;
pub(crate) use negative::NegativeReason;
pub(crate) use pending::{EvictionDecision, RemovalReason, WithheldEntry};
pub(crate) use reconcile::Counts;
pub use reconcile::ReconcileOptions;

/// A file may name times that are ahead of the clock by so much; beyond that, an entry's age is unknown.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The entries, shared by lookups, fetches, refreshes and the persister.
pub struct Cache {
    state: RwLock<State>,
    boot: BootId,
    changes: Changes,
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
    /// In the order of keys, when they come from a [`Cache`].
    pub entries: Vec<(CacheKey, Arc<Entry>)>,
}

impl Snapshot {
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
        Self { state: RwLock::new(State::new(policy)), boot, changes: Changes::default() }
    }

    /// Looks a key up at `now`.
    pub fn get(&self, key: &CacheKey, now: BootInstant) -> CacheLookup {
        let state = self.state.read();
        let Some(cached) = state.entries.get(key) else {
            let reason = state.negative.get(key, now);
            return reason.map_or(CacheLookup::Missing, CacheLookup::NegativeHit);
        };
        let past_max_stale = state.policy.is_past_max_stale(cached, now);
        let servable = !past_max_stale || cached.entry.was_served_in(self.boot);
        let is_fresh = match state.pending.get(key) {
            Some(pending) => servable && !pending.is_retry_due(now),
            None => state.policy.is_fresh(cached, now),
        };
        let entry = Arc::clone(&cached.entry);
        match is_fresh {
            true => CacheLookup::Fresh(entry),
            false => CacheLookup::Stale { entry, servable, past_max_stale },
        }
    }

    /// Whether there is an entry.
    pub fn contains(&self, key: &CacheKey) -> bool {
        self.state.read().entries.contains_key(key)
    }

    /// Whether the key's directory has entries, and none of this key, which was not invalidated either.
    pub fn is_known_without(&self, key: &CacheKey) -> bool {
        let path = key.path.to_string();
        let directory = ListingScope { realm: key.realm.clone(), path, recursive: false };
        let state = self.state.read();
        !state.entries.contains_key(key)
            && !state.invalidations.is_unconfirmed(key)
            && state.range(Some(&directory), None).next().is_some()
    }

    /// The entries of a scope, in order.
    pub fn entries_in(&self, scope: &ListingScope) -> Vec<(CacheKey, Arc<Entry>)> {
        let mut entries = Vec::new();
        self.visit(Some(scope), |key, cached| {
            entries.push((key.clone(), Arc::clone(&cached.entry)));
        });
        entries
    }

    /// An invalidated key of a scope that no listing has confirmed since.
    pub fn invalidated_unconfirmed(&self, scope: &ListingScope) -> Option<CacheKey> {
        let state = self.state.read();
        let is_missing = |key: &&CacheKey| !state.entries.contains_key(*key);
        state.invalidations.unconfirmed_in(scope).find(is_missing).cloned()
    }

    /// When an entry was fetched; `None` if there is none, or the time is unknown.
    pub fn fetched(&self, key: &CacheKey) -> Option<BootInstant> {
        self.state.read().entries.get(key).and_then(Cached::fetched)
    }

    /// When the oldest entry of a scope was fetched; `None` if there is none, or a time is unknown.
    pub fn oldest_fetch(&self, scope: &ListingScope) -> Option<BootInstant> {
        let mut oldest = Some(BootInstant::LAST);
        let mut is_empty = true;
        self.visit(Some(scope), |_, cached| {
            is_empty = false;
            oldest = oldest.and_then(|oldest| Some(oldest.min(cached.fetched()?)));
        });
        oldest.filter(|_| !is_empty)
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
        let cached = state.entries.get(key);
        cached.is_some_and(|cached| !state.policy.is_past_max_stale(cached, now))
    }

    /// How many entries are older than `max_stale`, and servable only because they were served in this boot.
    pub fn past_max_stale(&self, now: BootInstant) -> usize {
        let policy = self.state.read().policy;
        let mut count = 0;
        self.visit(None, |_, cached| {
            let is_kept = cached.entry.was_served_in(self.boot);
            count += usize::from(is_kept && policy.is_past_max_stale(cached, now));
        });
        count
    }

    /// When the oldest and the newest entry were fetched, by the wall clock of those times.
    pub fn fetch_span(&self) -> Option<(Timestamp, Timestamp)> {
        let mut span = None;
        self.visit(None, |_, cached| {
            let at = cached.entry.fetched_at();
            let (oldest, newest) = span.unwrap_or((at, at));
            span = Some((oldest.min(at), newest.max(at)));
        });
        span
    }

    /// The entries that may be written to a disk, to be persisted as `generation`.
    pub fn snapshot(&self, generation: u64) -> Snapshot {
        let mut entries = Vec::with_capacity(self.len());
        self.visit(None, |key, cached| {
            if !cached.entry.is_in_ram() {
                entries.push((key.clone(), Arc::clone(&cached.entry)));
            }
        });
        Snapshot { generation, entries }
    }
}

/// Changes.
impl Cache {
    /// Begins a fetch: keys that are invalidated from now on are not put by it.
    pub fn begin_fetch(&self) -> FetchEpoch {
        self.state.read().invalidations.epoch()
    }

    /// Puts a fetched value, unless the key was invalidated since the fetch began, or the value is empty and
    /// the cached one is not. Returns the entry to serve.
    pub fn put(&self, key: &CacheKey, entry: Entry, now: Now, epoch: FetchEpoch) -> Arc<Entry> {
        let is_persisted = !entry.is_in_ram();
        let put = self.state.write().put_unless_emptied(key, entry, now, epoch);
        if is_persisted {
            self.changes.note();
        }
        put.unwrap_or_else(|kept| kept)
    }

    /// Puts values that came with a fetch, except where the cache has one that was fetched since `began`.
    pub fn put_older(
        &self,
        values: Vec<(CacheKey, SecretBytes)>,
        began: BootInstant,
        now: Now,
        epoch: FetchEpoch,
    ) {
        self.apply(values, |state, (key, value)| {
            let fetched = state.entries.get(&key).and_then(Cached::fetched);
            if fetched.is_none_or(|fetched| fetched <= began) {
                let _ = state.put_unless_emptied(&key, Entry::new(value, now.wall), now, epoch);
            }
            true
        });
    }

    /// Notes that an entry is served. It is persisted once in a boot, not at each lookup.
    pub fn mark_served(&self, entry: &Entry) {
        if entry.mark_served(self.boot) && !entry.is_in_ram() {
            self.changes.note();
        }
    }

    /// Removes an entry; true if there was one. A fetch that began before does not bring it back.
    pub fn invalidate(&self, key: &CacheKey) -> bool {
        let existed = {
            let mut state = self.state.write();
            let existed = state.entries.contains_key(key);
            state.invalidations.record(key, existed);
            state.remove(key);
            existed
        };
        self.changes.note();
        existed
    }

    /// Removes the entries that `is_wanted` rejects by their key and the time of their fetch.
    pub fn remove_unwanted(&self, is_wanted: impl Fn(&CacheKey, BootInstant) -> bool) {
        let mut unwanted = Vec::new();
        self.visit(None, |key, cached| {
            if !is_wanted(key, cached.fetched.get()) {
                unwanted.push(key.clone());
            }
        });
        self.apply(unwanted, |state, key| {
            // It may have been fetched meanwhile.
            if state.entries.get(&key).is_some_and(|cached| !is_wanted(&key, cached.fetched.get()))
            {
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
            let fetched = now.boot.before(entry.fetched_at().age(now.wall));
            let is_newer = |cached: &Cached| cached.fetched.get() >= fetched;
            if !state.entries.get(&key).is_some_and(is_newer)
                && !state.invalidations.is_outdated(&key, FetchEpoch::BEFORE_ALL)
            {
                state.entries.insert(key, Cached::new(entry, fetched, is_dated));
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

    /// The count of changes that must be persisted.
    pub fn changes(&self) -> u64 {
        self.changes.count()
    }

    /// Calls `observer` after each change that must be persisted, in place of the observer so far.
    pub fn observe(&self, observer: impl Fn() + Send + Sync + 'static) {
        self.changes.observe(observer);
    }
}

#[cfg(test)]
mod tests;
