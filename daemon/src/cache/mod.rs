//! The decrypted cache: what is known, how old it is, and whether it may be served. Pure: no clock,
//! no disk, no network. `doubt` is what the provider takes back, `budget` what a listing may change.

mod entry;
mod negative;
mod reconcile;
pub(crate) mod shared;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::reference::{CacheKey, ListingScope};
use negative::{NegativeCache, PendingRemoval};

pub use entry::BootId;
pub(crate) use entry::Entry;
pub(crate) use negative::{EvictionDecision, NegativeReason, PendingChange, RemovalReason};
pub(crate) use reconcile::Counts;
pub use reconcile::ReconcileOptions;

/// A clock that was set back may make entries of a time to come; so far that is no reason to ask.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// More invalidated entries than this, and what is remembered of them is one number.
const MANY_DROPPED: usize = 1_024;

/// What is known, by coordinates.
pub struct Cache {
    policy: Policy,
    boot: BootId,
    /// In the order in which they came, which is that of their memory: all of them are read for each write.
    entries: IndexMap<CacheKey, Known>,
    doubts: NegativeCache,
    /// For each entry that was invalidated, the count of invalidations then.
    dropped: HashMap<CacheKey, u64>,
    /// Fetches that began before so many invalidations may publish nothing at all.
    invalidation_floor: u64,
    /// What was invalidated, as long as no listing speaks for it since.
    invalidated_unconfirmed: HashSet<CacheKey>,
    invalidations: u64,
}

/// One entry and its age.
struct Known {
    entry: Arc<Entry>,
    /// When the provider gave it, on the clock that does not jump.
    fetched: BootInstant,
    /// Whether that is known: a file may name a time to come.
    dated: bool,
}

impl Known {
    /// The provider gave the same value again.
    fn renew(&mut self, at: Timestamp, fetched: BootInstant) {
        self.entry.renew(at);
        (self.fetched, self.dated) = (fetched, true);
    }

    /// Says until when it is served without asking the cache: not at all while it is in doubt.
    fn set_fresh_until(&self, doubt: Option<&PendingRemoval>, policy: &Policy) {
        self.entry.set_fresh(match doubt {
            Some(_) => BootInstant::FIRST,
            None if self.entry.is_in_ram() => BootInstant::LAST,
            None if self.dated => self.fetched.after(policy.fresh_for),
            None => BootInstant::FIRST,
        });
    }
}

/// What the config says of age.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether anything is kept at all.
    pub enabled: bool,
    /// A younger entry is served without asking.
    pub fresh_for: Duration,
    /// An older entry is refused while the provider is out; none: no limit.
    pub max_stale: Option<Duration>,
    /// Whether an entry is dropped once the provider has confirmed that it is gone or denied.
    pub evict_revoked: bool,
}

/// What the cache knows of a secret.
pub enum Answer {
    /// It may be served as it is.
    Fresh(Arc<Entry>),
    /// The provider should be asked.
    Stale {
        /// What is known.
        entry: Arc<Entry>,
        /// Whether it may be served when the provider cannot answer.
        servable: bool,
        /// Whether it is older than the config's limit. It is servable all the same when it was served in
        /// this boot: podman asks again for a container that runs, and a refusal could end that.
        past_max_stale: bool,
    },
    /// Nothing is known.
    Missing,
    /// The provider said a while ago that there is none, or not for us.
    NegativeHit(NegativeReason),
}

/// LoginRequest of when a fetch began: what was invalidated since, it may not bring back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FetchEpoch(u64);

/// What was written before the process began: whatever was invalidated since may not come back by it.
const BEFORE_ALL: FetchEpoch = FetchEpoch(0);

/// Everything at one moment; the values are shared, not copied.
pub struct Snapshot {
    /// Grows by one with each write.
    pub generation: u64,
    /// In no order.
    pub entries: Vec<(CacheKey, Arc<Entry>)>,
}

impl Snapshot {
    /// The same, in the order of coordinates.
    pub fn sorted(mut self) -> Self {
        self.entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self
    }
}

impl Cache {
    /// An empty cache of a process of this boot.
    pub fn new(policy: Policy, boot: BootId) -> Self {
        Self {
            policy,
            boot,
            entries: IndexMap::new(),
            doubts: NegativeCache::default(),
            dropped: HashMap::new(),
            invalidation_floor: 0,
            invalidated_unconfirmed: HashSet::new(),
            invalidations: 0,
        }
    }

    /// Puts back what was persisted, where nothing newer is known: a key may open late.
    ///
    /// The wall clock tells their age this once; from now on the boot clock does, so that neither a jump
    /// nor a clock that is set right makes anything older or younger.
    pub fn restore(&mut self, snapshot: Snapshot, now: Now) {
        for (at, entry) in snapshot.entries {
            let dated = entry.fetched_at() <= now.wall.after(CLOCKS_DIFFER);
            let fetched = now.tick.before(entry.fetched_at().age(now.wall));
            let newer = self.entries.get(&at).is_some_and(|known| known.fetched >= fetched);
            if !newer && !self.outdated(&at, BEFORE_ALL) {
                self.keep(at, Known { entry, fetched, dated });
            }
        }
    }

    /// Follows a new config. What was absent or denied under the one before may be there now.
    pub fn follow(&mut self, policy: Policy) {
        self.policy = policy;
        self.doubts.clear_negative();
        for (at, known) in &self.entries {
            known.set_fresh_until(self.doubts.of(at), &self.policy);
        }
    }

    /// The boot that its process belongs to.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// What is known of a secret at `now`.
    pub fn get(&self, at: &CacheKey, now: BootInstant) -> Answer {
        let Some(known) = self.entries.get(at) else {
            let absence = self.doubts.absence(at, now).cloned();
            return absence.map_or(Answer::Missing, Answer::NegativeHit);
        };
        let entry = &known.entry;
        let past_max_stale = self.is_overdue(known, now);
        let servable = !past_max_stale || entry.is_served(self.boot);
        let fresh = match self.doubts.of(at) {
            Some(doubt) => servable && doubt.rests(now),
            None => entry.is_fresh(now),
        };
        let entry = Arc::clone(entry);
        if fresh { Answer::Fresh(entry) } else { Answer::Stale { entry, servable, past_max_stale } }
    }

    fn is_overdue(&self, known: &Known, now: BootInstant) -> bool {
        !known.entry.is_in_ram()
            && self.policy.max_stale.is_some_and(|limit| known.fetched.age(now) > limit)
    }

    /// Whether an entry would be served after a reboot at `now` with no provider in reach.
    pub fn outlives_reboot(&self, at: &CacheKey, now: BootInstant) -> bool {
        self.entries.get(at).is_some_and(|known| !self.is_overdue(known, now))
    }

    /// How many entries are older than the config's limit, and servable only because they were served.
    pub fn past_max_stale(&self, now: BootInstant) -> usize {
        let past_max_stale = |known: &&Known| self.is_overdue(known, now);
        let served = |known: &&Known| known.entry.is_served(self.boot);
        self.entries.values().filter(past_max_stale).filter(served).count()
    }

    /// Begins a fetch.
    pub fn begin_fetch(&self) -> FetchEpoch {
        FetchEpoch(self.invalidations)
    }

    /// Takes a fetched value over, unless it was invalidated since the fetch began, or is empty and the
    /// known one is not; what is to be served comes back.
    pub fn put(&mut self, at: &CacheKey, entry: Entry, now: Now, epoch: FetchEpoch) -> Arc<Entry> {
        self.put_unless_held(at, entry, now, epoch, false).unwrap_or_else(|known| known)
    }

    fn insert(
        &mut self,
        at: &CacheKey,
        entry: Entry,
        fetched: BootInstant,
        epoch: FetchEpoch,
    ) -> Arc<Entry> {
        if !self.policy.enabled || self.outdated(at, epoch) {
            return Arc::new(entry);
        }
        self.doubts.settle(at);
        let entry = match self.entries.get_mut(at) {
            // One copy of a value in RAM, however often it is fetched.
            Some(known) if known.entry.value().same_as(entry.value()) => {
                known.renew(entry.fetched_at(), fetched);
                known.set_fresh_until(self.doubts.of(at), &self.policy);
                return Arc::clone(&known.entry);
            }
            // A container that was served the one will ask for the other.
            Some(known) => entry.was_served_in(known.entry.last_served_boot()),
            None => entry,
        };
        let entry = Arc::new(entry);
        let known = Known { entry: Arc::clone(&entry), fetched, dated: true };
        self.keep(at.clone(), known);
        entry
    }

    fn keep(&mut self, at: CacheKey, known: Known) {
        known.set_fresh_until(self.doubts.of(&at), &self.policy);
        if let Some(before) = self.entries.insert(at, known) {
            before.entry.expire();
        }
    }

    /// The entries of some extents.
    pub fn within(&self, extents: &[ListingScope]) -> Vec<CacheKey> {
        let inside = |at: &&CacheKey| extents.iter().any(|extent| extent.contains(at));
        self.entries.keys().filter(inside).cloned().collect()
    }

    /// What is known of an extent, in no order.
    pub fn known(&self, extent: &ListingScope) -> Vec<(CacheKey, Arc<Entry>)> {
        let inside = self.entries.iter().filter(|(at, _)| extent.contains(at));
        inside.map(|(at, known)| (at.clone(), Arc::clone(&known.entry))).collect()
    }

    /// Whether a folder is known, and has no such key, as far as anybody knows.
    pub fn is_known_without(&self, at: &CacheKey) -> bool {
        let in_folder = |other: &CacheKey| other.realm == at.realm && other.path == at.path;
        !self.contains(at)
            && !self.invalidated_unconfirmed.contains(at)
            && self.entries.keys().any(in_folder)
    }

    /// An entry of an extent that was invalidated, and that nothing was heard of since.
    pub fn invalidated_unconfirmed(&self, extent: &ListingScope) -> Option<&CacheKey> {
        self.invalidated_unconfirmed.iter().find(|at| extent.contains(at) && !self.contains(at))
    }

    /// Whether anything is kept at all.
    pub fn keeps(&self) -> bool {
        self.policy.enabled
    }

    /// When an entry was fetched; nothing when there is none, or nobody knows.
    pub fn fetched(&self, at: &CacheKey) -> Option<BootInstant> {
        self.entries.get(at).filter(|known| known.dated).map(|known| known.fetched)
    }

    /// Drops the entries that nobody wants; tells whether there were any.
    pub fn retain(&mut self, wanted: impl Fn(&CacheKey, BootInstant) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|at, known| {
            let keep = wanted(at, known.fetched);
            if !keep {
                known.entry.expire();
            }
            keep
        });
        self.doubts.retain(|at| self.entries.contains_key(at));
        self.entries.len() < before
    }

    fn remove(&mut self, at: &CacheKey) {
        if let Some(known) = self.entries.swap_remove(at) {
            known.entry.expire();
        }
        self.doubts.settle(at);
    }

    /// Drops an entry; true when there was one. A fetch that began before may not bring it back.
    pub fn invalidate(&mut self, at: &CacheKey) -> bool {
        self.invalidations += 1;
        // Any name can be invalidated, and psid's memory is not for all of them.
        if self.dropped.len() >= MANY_DROPPED {
            self.dropped.clear();
            self.invalidation_floor = self.invalidations;
        }
        self.dropped.insert(at.clone(), self.invalidations);
        let existed = self.contains(at);
        if existed {
            self.invalidated_unconfirmed.insert(at.clone());
        }
        self.remove(at);
        existed
    }

    fn outdated(&self, at: &CacheKey, epoch: FetchEpoch) -> bool {
        epoch.0 < self.invalidation_floor
            || self.dropped.get(at).is_some_and(|dropped| *dropped > epoch.0)
    }

    /// Everything that may reach a disk, to be persisted as `generation`.
    pub fn snapshot(&self, generation: u64) -> Snapshot {
        // Lookups wait behind a change that waits for this: nothing is done here that can be done later.
        let mut entries = Vec::with_capacity(self.entries.len());
        let kept = self.entries.iter().filter(|(_, known)| !known.entry.is_in_ram());
        entries.extend(kept.map(|(at, known)| (at.clone(), Arc::clone(&known.entry))));
        Snapshot { generation, entries }
    }

    /// Whether there is an entry.
    pub fn contains(&self, at: &CacheKey) -> bool {
        self.entries.contains_key(at)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the oldest and the newest entry were fetched, by the wall clock of those times.
    pub fn fetch_span(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.entries.values().map(|known| known.entry.fetched_at());
        Some((times().min()?, times().max()?))
    }
}

#[cfg(test)]
mod tests;
