//! The decrypted cache: values, their age, and whether they may be served. It does no I/O and reads no clock.
//!
//! One lock guards them. It is held for one key at a time, also by a listing and a snapshot, so that a lookup waits
//! for neither.

mod entries;
mod entry;
mod former;
mod invalidation;
mod negative;
mod pending;
mod reconcile;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::reference::{CacheKey, ListingScope};
use entries::Entries;
use former::FormerValues;
use invalidation::Invalidations;
use negative::NegativeEntry;

pub use entry::BootId;
pub(crate) use entry::{Entry, Replacement};
pub use invalidation::FetchEpoch;
pub(crate) use negative::NegativeReason;
pub(crate) use pending::{EvictionDecision, PendingRemoval, RemovalReason};
pub(crate) use reconcile::Counts;
pub use reconcile::ReconcileOptions;

/// A file may name times that are ahead of the clock by so much; beyond that, an entry's age is unknown.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The entries, shared by lookups, fetches, refreshes and the persister.
pub struct Cache {
    state: RwLock<State>,
    boot: BootId,
    /// The count of changes that must be persisted.
    changes: AtomicU64,
    /// Is called after each of them.
    observer: RwLock<Box<dyn Fn() + Send + Sync>>,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    policy: Policy,
    entries: Entries,
    /// The pending removals of entries.
    pending: HashMap<CacheKey, PendingRemoval>,
    /// The refusals of keys without an entry.
    negative: HashMap<CacheKey, NegativeEntry>,
    invalidations: Invalidations,
    /// The values that were removed.
    former: FormerValues,
    /// The present boot, as a number.
    boot: u64,
}

/// The configuration of ages and removals.
#[derive(Clone, Copy, Debug, Default)]
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
        let state = RwLock::new(State { policy, boot: boot.0.get(), ..State::default() });
        Self { state, boot, changes: AtomicU64::new(0), observer: RwLock::new(Box::new(|| ())) }
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
            Some(pending) => servable && pending.last.age(now) < pending.retry_after,
            None => entry.is_fresh(state.policy.fresh_for, now),
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
        let entries = self.state.read().entries.within([scope]);
        Snapshot { generation: 0, entries: entries.to_vec() }.sorted().entries
    }

    /// An invalidated one of these keys that no listing has confirmed since.
    pub fn invalidated_unconfirmed(&self, of: impl Fn(&CacheKey) -> bool) -> Option<CacheKey> {
        let state = self.state.read();
        let mut unconfirmed = state.invalidations.unconfirmed.iter();
        unconfirmed.find(|key| of(key) && state.entries.get(key).is_none()).cloned()
    }

    /// The entry of a key, whatever its age.
    pub(crate) fn entry(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.state.read().entries.get(key).cloned()
    }

    /// When the entry's value replaced another one in this boot.
    pub fn replaced_in_this_boot(&self, entry: &Entry) -> Option<BootInstant> {
        entry.replaced().filter(|replaced| replaced.boot == self.boot.0.get()).map(|it| it.at)
    }

    /// When an entry was fetched; `None` if there is none, or the time is unknown.
    pub fn fetched(&self, key: &CacheKey) -> Option<BootInstant> {
        self.state.read().entries.get(key)?.fetched_if_known()
    }

    /// When the oldest entry of a scope was fetched; `None` if there is none, or a time is unknown.
    pub fn oldest_fetch(&self, scope: &ListingScope) -> Option<BootInstant> {
        let entries = self.state.read().entries.within([scope]);
        let fetched = entries.iter().map(|(_, entry)| entry.fetched_if_known());
        fetched.collect::<Option<Vec<_>>>()?.into_iter().min()
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
        let (policy, entries) = (self.state.read().policy, self.entries());
        let is_past = |entry: &Entry| policy.is_past_max_stale(entry, now);
        entries.iter().filter(|(_, one)| one.was_served_in(self.boot) && is_past(one)).count()
    }

    /// When the oldest and the newest entry were fetched, by the wall clock of those times.
    pub fn fetch_span(&self) -> Option<(Timestamp, Timestamp)> {
        let entries = self.entries();
        let times = || entries.iter().map(|(_, entry)| entry.fetched_at());
        Some((times().min()?, times().max()?))
    }

    /// The entries that are served although their removal is pending, in order.
    pub fn withheld(&self) -> Vec<(CacheKey, PendingRemoval)> {
        let state = self.state.read();
        let is_removal = |pending: &PendingRemoval| pending.reason != RemovalReason::BadResponse;
        let removals = state.pending.iter().filter(|(_, pending)| is_removal(pending));
        let mut removals: Vec<_> = removals.map(|(key, pending)| (key.clone(), *pending)).collect();
        removals.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        removals
    }

    /// The entries that may be written to a disk, to be persisted as `generation`.
    pub fn snapshot(&self, generation: u64) -> Snapshot {
        let mut entries = self.entries().to_vec();
        entries.retain(|(_, entry)| !entry.in_ram);
        Snapshot { generation, entries }
    }

    /// All entries as they are now. The lock ends with the call: in an expression, it would last for what follows.
    fn entries(&self) -> Entries {
        self.state.read().entries.clone()
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
        let is_persisted = !entry.in_ram;
        let options = ReconcileOptions { epoch, began: now, now, accept: false, wanted: &|_| true };
        let entry = self.state.write().put(key, entry, &options, &mut Counts::default());
        if is_persisted {
            self.note_change();
        }
        entry
    }

    /// Notes that an entry is served. It is persisted once in a boot, not at each lookup.
    pub fn mark_served(&self, entry: &Entry) {
        if entry.mark_served(self.boot) && !entry.in_ram {
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

    /// Removes an entry; true if there was one. A fetch that began before does not bring it back.
    pub fn invalidate(&self, key: &CacheKey) -> bool {
        let mut state = self.state.write();
        let existed = state.entries.get(key).is_some();
        state.invalidations.record(key, existed);
        state.remove(key);
        drop(state);
        self.note_change();
        existed
    }

    /// Removes the entries that `is_wanted` rejects by their key and the time of their fetch.
    pub fn remove_unwanted(&self, is_wanted: impl Fn(&CacheKey, BootInstant) -> bool) {
        let mut entries = self.entries().to_vec();
        entries.retain(|(key, entry)| !is_wanted(key, entry.fetched()));
        for (key, _) in &entries {
            let mut state = self.state.write();
            // It may have been fetched meanwhile.
            if state.entries.get(key).is_some_and(|entry| !is_wanted(key, entry.fetched())) {
                state.remove(key);
            }
        }
        if !entries.is_empty() {
            self.note_change();
        }
    }

    /// Restores what was persisted, except where the cache has newer entries: a key may be unlocked late.
    ///
    /// The age is computed once by the wall clock, and counted by the boot clock from then on, so that a
    /// correction of the wall clock changes no age.
    pub fn restore(&self, snapshot: Snapshot, now: Now) {
        for (key, entry) in snapshot.entries {
            let is_dated = entry.fetched_at() <= now.wall.after(MAX_CLOCK_SKEW);
            entry.set_fetched(now.boot.before(entry.fetched_at().age(now.wall)), is_dated);
            let mut state = self.state.write();
            let cached = state.entries.get(&key);
            if cached.is_none_or(|cached| cached.fetched() < entry.fetched())
                && !state.invalidations.is_outdated(&key, FetchEpoch::default())
            {
                state.entries.insert(key, entry);
            }
        }
    }

    /// Applies a new configuration. What was refused under the former one is asked for again.
    pub fn reconfigure(&self, policy: Policy) {
        let mut state = self.state.write();
        state.policy = policy;
        state.negative.clear();
    }

    /// The count of changes that must be persisted. A reader of the count sees them.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Calls `observer` after each change that must be persisted, in place of the observer so far.
    pub fn observe(&self, observer: impl Fn() + Send + Sync + 'static) {
        *self.observer.write() = Box::new(observer);
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.observer.read()();
    }
}

impl State {
    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.get(key) {
            self.former.note(key, entry.value());
        }
        self.entries.remove(key);
        self.pending.remove(key);
        self.negative.remove(key);
    }
}

impl Policy {
    fn is_past_max_stale(&self, entry: &Entry, now: BootInstant) -> bool {
        let is_older = |limit| entry.fetched().age(now) > limit;
        !entry.in_ram && self.max_stale.is_some_and(is_older)
    }
}

#[cfg(test)]
mod tests;
