//! The decrypted cache: what is known, how old it is, and whether it may be served. Pure: no clock,
//! no disk, no network.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;

use crate::clock::Timestamp;
use crate::reference::{Coordinates, Extent, Listing};

/// How long "there is no such secret" is believed without asking again.
const ABSENCE_LASTS: Duration = Duration::from_secs(5);
/// How long an entry in doubt is served before the provider is asked about it again, so that a refusal
/// is never hotter than success.
const DOUBT_RESTS: Duration = Duration::from_secs(5);
/// A clock that was set back may make entries of a time to come; so far that is no reason to ask.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// More absences than this, and those that are over are forgotten.
const MANY_ABSENT: usize = 1_024;
/// How far apart two answers must be that say gone or denied, before `on_revoked` acts.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// What is known, by coordinates.
pub struct Cache {
    policy: Policy,
    entries: HashMap<Coordinates, Arc<Entry>>,
    /// Secrets that the provider did not give, how it said so, and when.
    absent: HashMap<Coordinates, (Refusal, Timestamp)>,
    /// Entries that the provider said are gone or denied.
    doubted: HashMap<Coordinates, Doubt>,
    /// For each entry that was invalidated, the count of invalidations then.
    dropped: HashMap<Coordinates, u64>,
    invalidations: u64,
}

/// One value and when the provider said so.
pub struct Entry {
    value: SecretBytes,
    fetched_at: Timestamp,
    /// It stays true for good, and on no disk.
    in_ram: bool,
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

/// When the provider first and last said that an entry is gone or denied.
struct Doubt {
    first: Timestamp,
    last: Timestamp,
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
    },
    /// Nothing is known.
    Missing,
    /// The provider said a moment ago that there is none, or not for us.
    KnownAbsent(Refusal),
}

/// How a provider refuses a secret, when it does answer; with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Gone(Arc<str>),
    /// It is not for us.
    Denied(Arc<str>),
}

/// Proof of when a fetch began: what was invalidated since, it may not bring back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What the provider's saying "gone" or "denied" does to an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for the answer is not confirmed yet, or the config says keep.
    Kept,
    /// It was dropped.
    Evicted,
    /// There was none.
    Absent,
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
}

/// Everything at one moment; the values are shared, not copied.
pub struct Snapshot {
    /// Grows by one with each write.
    pub generation: u64,
    /// In the order of their coordinates.
    pub entries: Vec<(Coordinates, Arc<Entry>)>,
}

impl Cache {
    /// An empty cache.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            entries: HashMap::new(),
            absent: HashMap::new(),
            doubted: HashMap::new(),
            dropped: HashMap::new(),
            invalidations: 0,
        }
    }

    /// Puts back what was persisted, where nothing newer is known: a key may open late.
    pub fn restore(&mut self, snapshot: Snapshot) {
        for (at, entry) in snapshot.entries {
            let newer =
                self.entries.get(&at).is_some_and(|known| known.fetched_at >= entry.fetched_at);
            if !newer && !self.dropped.contains_key(&at) {
                self.entries.insert(at, entry);
            }
        }
    }

    /// Follows a new config.
    pub fn follow(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What is known of a secret at `now`.
    pub fn get(&self, at: &Coordinates, now: Timestamp) -> Answer {
        let Some(entry) = self.entries.get(at) else {
            return match self.absent.get(at) {
                Some((refusal, since)) if since.age(now) < ABSENCE_LASTS => {
                    Answer::KnownAbsent(refusal.clone())
                }
                _ => Answer::Missing,
            };
        };
        let age = entry.fetched_at.age(now);
        let servable = self.policy.max_stale.is_none_or(|limit| age <= limit);
        let fresh = match self.doubted.get(at) {
            Some(doubt) => servable && doubt.last.age(now) < self.doubt_rests(),
            None if entry.in_ram => true,
            // Of a time to come, nothing can be told.
            None => age < self.policy.fresh_for && entry.fetched_at <= now.after(CLOCKS_DIFFER),
        };
        let entry = Arc::clone(entry);
        if fresh { Answer::Fresh(entry) } else { Answer::Stale { entry, servable } }
    }

    fn doubt_rests(&self) -> Duration {
        // What is kept in any case need not be confirmed soon.
        if self.policy.evict_revoked { DOUBT_RESTS } else { CONFIRM_AFTER }
    }

    /// Begins a fetch.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.invalidations)
    }

    /// Takes a fetched value over, unless it was invalidated since the fetch began.
    pub fn put(&mut self, at: &Coordinates, entry: Entry, ticket: Ticket) -> Arc<Entry> {
        let entry = Arc::new(entry);
        if self.policy.enabled && !self.outdated(at, ticket) {
            self.absent.remove(at);
            self.doubted.remove(at);
            self.entries.insert(at.clone(), Arc::clone(&entry));
        }
        entry
    }

    /// Takes note that the provider says gone or denied. An entry is believed over one such answer:
    /// a permission being edited, or a proxy, must not empty a fleet's caches.
    pub fn doubt(&mut self, at: &Coordinates, refusal: &Refusal, now: Timestamp) -> Verdict {
        if !self.entries.contains_key(at) {
            self.note_absence(at, refusal, now);
            return Verdict::Absent;
        }
        let doubt = self.doubted.entry(at.clone()).or_insert(Doubt { first: now, last: now });
        doubt.last = now;
        if doubt.first.age(now) < CONFIRM_AFTER || !self.policy.evict_revoked {
            return Verdict::Kept;
        }
        self.remove(at);
        self.note_absence(at, refusal, now);
        Verdict::Evicted
    }

    /// Takes note that the provider says gone or denied of many; tells how many that evicted.
    pub fn doubt_all(&mut self, at: &[Coordinates], refusal: &Refusal, now: Timestamp) -> u64 {
        at.iter().map(|at| u64::from(self.doubt(at, refusal, now) == Verdict::Evicted)).sum()
    }

    fn note_absence(&mut self, at: &Coordinates, refusal: &Refusal, now: Timestamp) {
        if self.absent.len() >= MANY_ABSENT {
            self.absent.retain(|_, (_, since)| since.age(now) < ABSENCE_LASTS);
        }
        self.absent.insert(at.clone(), (refusal.clone(), now));
    }

    /// The entries of some extents.
    pub fn within(&self, extents: &[Extent]) -> Vec<Coordinates> {
        let inside = |at: &&Coordinates| extents.iter().any(|extent| extent.contains(at));
        self.entries.keys().filter(inside).cloned().collect()
    }

    /// Makes a whole listing, asked for at `began`, the truth of its extents.
    ///
    /// What is not in it is gone. But a listing that lacks more than half of what is known may be a role
    /// that was edited: then each is in doubt until it is confirmed.
    pub fn replace(
        &mut self,
        listing: Listing,
        ticket: Ticket,
        began: Timestamp,
        now: Timestamp,
    ) -> Counts {
        let Listing { extents, found, denied } = listing;
        let mut counts = Counts::default();
        let known = self.within(&extents);
        let present: HashSet<&Coordinates> =
            found.iter().map(|(at, _)| at).chain(&denied).collect();
        let newer =
            |at: &Coordinates| self.entries.get(at).is_some_and(|entry| entry.fetched_at > began);
        let gone: Vec<Coordinates> =
            known.iter().filter(|at| !present.contains(at) && !newer(at)).cloned().collect();
        if gone.len() * 2 > known.len() || !self.policy.evict_revoked {
            counts.removed +=
                self.doubt_all(&gone, &Refusal::Gone("a listing has it no more".into()), now);
        } else {
            counts.removed += gone.len() as u64;
            gone.iter().for_each(|at| self.remove(at));
        }
        counts.removed +=
            self.doubt_all(&denied, &Refusal::Denied("a listing hides its value".into()), now);
        for (at, value) in found {
            match self.entries.get(&at) {
                None => counts.added += 1,
                Some(known) if known.value.same_as(&value) => counts.unchanged += 1,
                // It was fetched while the listing was on its way.
                Some(known) if known.fetched_at > began => {
                    counts.unchanged += 1;
                    continue;
                }
                Some(_) => counts.changed += 1,
            }
            self.put(&at, Entry::new(value, now), ticket);
        }
        counts
    }

    /// Drops the entries that nobody wants; tells whether there were any.
    pub fn retain(&mut self, wanted: impl Fn(&Coordinates, Timestamp) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|at, entry| wanted(at, entry.fetched_at));
        self.doubted.retain(|at, _| self.entries.contains_key(at));
        self.entries.len() < before
    }

    /// How many entries the provider says are gone or denied, and that are served all the same.
    pub fn doubted(&self) -> usize {
        self.doubted.len()
    }

    fn remove(&mut self, at: &Coordinates) {
        self.entries.remove(at);
        self.doubted.remove(at);
    }

    /// Drops an entry; true when there was one. A fetch that began before may not bring it back.
    pub fn invalidate(&mut self, at: &Coordinates) -> bool {
        self.invalidations += 1;
        self.dropped.insert(at.clone(), self.invalidations);
        self.absent.remove(at);
        self.doubted.remove(at);
        self.entries.remove(at).is_some()
    }

    fn outdated(&self, at: &Coordinates, ticket: Ticket) -> bool {
        self.dropped.get(at).is_some_and(|dropped| *dropped > ticket.0)
    }

    /// Everything that may reach a disk, in order, to be persisted as `generation`.
    pub fn snapshot(&self, generation: u64) -> Snapshot {
        let kept = self.entries.iter().filter(|(_, entry)| !entry.in_ram);
        let mut entries: Vec<_> = kept.map(|(at, entry)| (at.clone(), Arc::clone(entry))).collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
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

    /// When the oldest and the newest entry were fetched.
    pub fn fetch_span(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.entries.values().map(|entry| entry.fetched_at);
        Some((times().min()?, times().max()?))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, changed, unchanged, removed } = self;
        write!(f, "{added} added, {changed} changed, {unchanged} unchanged, {removed} removed")
    }
}

impl Entry {
    /// A value that the provider gave at `fetched_at`.
    pub fn new(value: SecretBytes, fetched_at: Timestamp) -> Self {
        Self { value, fetched_at, in_ram: false }
    }

    /// A value that never changes and must not reach a disk.
    pub fn in_ram(value: SecretBytes, fetched_at: Timestamp) -> Self {
        Self { value, fetched_at, in_ram: true }
    }

    /// The value.
    pub fn value(&self) -> &SecretBytes {
        &self.value
    }

    /// When the provider gave it.
    pub fn fetched_at(&self) -> Timestamp {
        self.fetched_at
    }
}

#[cfg(test)]
mod tests;
