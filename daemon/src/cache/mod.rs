//! The decrypted cache: what is known, how old it is, and whether it may be served. Pure: no clock,
//! no disk, no network. `doubt` is what the provider takes back, `budget` what a listing may change.

mod entry;
mod negative;
mod reconcile;
pub mod shared;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use crate::model::clock::{Moment, Tick, Timestamp};
use crate::model::reference::{Coordinates, Extent};
use negative::{Doubt, Doubts};

pub use entry::{Boot, Entry};
pub use negative::{Cause, Doubted, Refusal, Verdict};
pub use reconcile::{Counts, Taking};

/// A clock that was set back may make entries of a time to come; so far that is no reason to ask.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// More invalidated entries than this, and what is remembered of them is one number.
const MANY_DROPPED: usize = 1_024;

/// What is known, by coordinates.
pub struct Cache {
    policy: Policy,
    boot: Boot,
    /// In the order in which they came, which is that of their memory: all of them are read for each write.
    entries: IndexMap<Coordinates, Known>,
    doubts: Doubts,
    /// For each entry that was invalidated, the count of invalidations then.
    dropped: HashMap<Coordinates, u64>,
    /// Fetches that began before so many invalidations may publish nothing at all.
    dropped_all: u64,
    /// What was invalidated, as long as no listing speaks for it since.
    unsettled: HashSet<Coordinates>,
    invalidations: u64,
}

/// One entry and its age.
struct Known {
    entry: Arc<Entry>,
    /// When the provider gave it, on the clock that does not jump.
    fetched: Tick,
    /// Whether that is known: a file may name a time to come.
    dated: bool,
}

impl Known {
    /// The provider gave the same value again.
    fn renew(&mut self, at: Timestamp, fetched: Tick) {
        self.entry.renew(at);
        (self.fetched, self.dated) = (fetched, true);
    }

    /// Says until when it is served without asking the cache: not at all while it is in doubt.
    fn vouch(&self, doubt: Option<&Doubt>, policy: &Policy) {
        self.entry.set_fresh(match doubt {
            Some(_) => Tick::FIRST,
            None if self.entry.is_in_ram() => Tick::LAST,
            None if self.dated => self.fetched.after(policy.fresh_for),
            None => Tick::FIRST,
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
        overdue: bool,
    },
    /// Nothing is known.
    Missing,
    /// The provider said a while ago that there is none, or not for us.
    KnownAbsent(Refusal),
}

/// Proof of when a fetch began: what was invalidated since, it may not bring back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What was written before the process began: whatever was invalidated since may not come back by it.
const BEFORE_ALL: Ticket = Ticket(0);

/// Everything at one moment; the values are shared, not copied.
pub struct Snapshot {
    /// Grows by one with each write.
    pub generation: u64,
    /// In no order.
    pub entries: Vec<(Coordinates, Arc<Entry>)>,
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
    pub fn new(policy: Policy, boot: Boot) -> Self {
        Self {
            policy,
            boot,
            entries: IndexMap::new(),
            doubts: Doubts::default(),
            dropped: HashMap::new(),
            dropped_all: 0,
            unsettled: HashSet::new(),
            invalidations: 0,
        }
    }

    /// Puts back what was persisted, where nothing newer is known: a key may open late.
    ///
    /// The wall clock tells their age this once; from now on the boot clock does, so that neither a jump
    /// nor a clock that is set right makes anything older or younger.
    pub fn restore(&mut self, snapshot: Snapshot, now: Moment) {
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
        self.doubts.forget_absences();
        for (at, known) in &self.entries {
            known.vouch(self.doubts.of(at), &self.policy);
        }
    }

    /// The boot that its process belongs to.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// What is known of a secret at `now`.
    pub fn get(&self, at: &Coordinates, now: Tick) -> Answer {
        let Some(known) = self.entries.get(at) else {
            let absence = self.doubts.absence(at, now).cloned();
            return absence.map_or(Answer::Missing, Answer::KnownAbsent);
        };
        let entry = &known.entry;
        let overdue = self.is_overdue(known, now);
        let servable = !overdue || entry.is_served(self.boot);
        let fresh = match self.doubts.of(at) {
            Some(doubt) => servable && doubt.rests(now),
            None => entry.is_fresh(now),
        };
        let entry = Arc::clone(entry);
        if fresh { Answer::Fresh(entry) } else { Answer::Stale { entry, servable, overdue } }
    }

    fn is_overdue(&self, known: &Known, now: Tick) -> bool {
        !known.entry.is_in_ram()
            && self.policy.max_stale.is_some_and(|limit| known.fetched.age(now) > limit)
    }

    /// Whether an entry would be served after a reboot at `now` with no provider in reach.
    pub fn outlives_reboot(&self, at: &Coordinates, now: Tick) -> bool {
        self.entries.get(at).is_some_and(|known| !self.is_overdue(known, now))
    }

    /// How many entries are older than the config's limit, and servable only because they were served.
    pub fn overdue(&self, now: Tick) -> usize {
        let overdue = |known: &&Known| self.is_overdue(known, now);
        let served = |known: &&Known| known.entry.is_served(self.boot);
        self.entries.values().filter(overdue).filter(served).count()
    }

    /// Begins a fetch.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.invalidations)
    }

    /// Takes a fetched value over, unless it was invalidated since the fetch began, or is empty and the
    /// known one is not; what is to be served comes back.
    pub fn put(
        &mut self,
        at: &Coordinates,
        entry: Entry,
        now: Moment,
        ticket: Ticket,
    ) -> Arc<Entry> {
        self.put_unless_held(at, entry, now, ticket, false).unwrap_or_else(|known| known)
    }

    fn insert(
        &mut self,
        at: &Coordinates,
        entry: Entry,
        fetched: Tick,
        ticket: Ticket,
    ) -> Arc<Entry> {
        if !self.policy.enabled || self.outdated(at, ticket) {
            return Arc::new(entry);
        }
        self.doubts.settle(at);
        let entry = match self.entries.get_mut(at) {
            // One copy of a value in RAM, however often it is fetched.
            Some(known) if known.entry.value().same_as(entry.value()) => {
                known.renew(entry.fetched_at(), fetched);
                known.vouch(self.doubts.of(at), &self.policy);
                return Arc::clone(&known.entry);
            }
            // A container that was served the one will ask for the other.
            Some(known) => entry.was_served_in(known.entry.served_in()),
            None => entry,
        };
        let entry = Arc::new(entry);
        let known = Known { entry: Arc::clone(&entry), fetched, dated: true };
        self.keep(at.clone(), known);
        entry
    }

    fn keep(&mut self, at: Coordinates, known: Known) {
        known.vouch(self.doubts.of(&at), &self.policy);
        if let Some(before) = self.entries.insert(at, known) {
            before.entry.take_back();
        }
    }

    /// The entries of some extents.
    pub fn within(&self, extents: &[Extent]) -> Vec<Coordinates> {
        let inside = |at: &&Coordinates| extents.iter().any(|extent| extent.contains(at));
        self.entries.keys().filter(inside).cloned().collect()
    }

    /// What is known of an extent, in no order.
    pub fn known(&self, extent: &Extent) -> Vec<(Coordinates, Arc<Entry>)> {
        let inside = self.entries.iter().filter(|(at, _)| extent.contains(at));
        inside.map(|(at, known)| (at.clone(), Arc::clone(&known.entry))).collect()
    }

    /// Whether a folder is known, and has no such key, as far as anybody knows.
    pub fn is_known_without(&self, at: &Coordinates) -> bool {
        let in_folder = |other: &Coordinates| other.realm == at.realm && other.path == at.path;
        !self.contains(at) && !self.unsettled.contains(at) && self.entries.keys().any(in_folder)
    }

    /// An entry of an extent that was invalidated, and that nothing was heard of since.
    pub fn unsettled(&self, extent: &Extent) -> Option<&Coordinates> {
        self.unsettled.iter().find(|at| extent.contains(at) && !self.contains(at))
    }

    /// Whether anything is kept at all.
    pub fn keeps(&self) -> bool {
        self.policy.enabled
    }

    /// When an entry was fetched; nothing when there is none, or nobody knows.
    pub fn fetched(&self, at: &Coordinates) -> Option<Tick> {
        self.entries.get(at).filter(|known| known.dated).map(|known| known.fetched)
    }

    /// Drops the entries that nobody wants; tells whether there were any.
    pub fn retain(&mut self, wanted: impl Fn(&Coordinates, Tick) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|at, known| {
            let keep = wanted(at, known.fetched);
            if !keep {
                known.entry.take_back();
            }
            keep
        });
        self.doubts.retain(|at| self.entries.contains_key(at));
        self.entries.len() < before
    }

    fn remove(&mut self, at: &Coordinates) {
        if let Some(known) = self.entries.swap_remove(at) {
            known.entry.take_back();
        }
        self.doubts.settle(at);
    }

    /// Drops an entry; true when there was one. A fetch that began before may not bring it back.
    pub fn invalidate(&mut self, at: &Coordinates) -> bool {
        self.invalidations += 1;
        // Any name can be invalidated, and psid's memory is not for all of them.
        if self.dropped.len() >= MANY_DROPPED {
            self.dropped.clear();
            self.dropped_all = self.invalidations;
        }
        self.dropped.insert(at.clone(), self.invalidations);
        let existed = self.contains(at);
        if existed {
            self.unsettled.insert(at.clone());
        }
        self.remove(at);
        existed
    }

    fn outdated(&self, at: &Coordinates, ticket: Ticket) -> bool {
        ticket.0 < self.dropped_all
            || self.dropped.get(at).is_some_and(|dropped| *dropped > ticket.0)
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
    pub fn contains(&self, at: &Coordinates) -> bool {
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
