//! The decrypted cache: what is known, how old it is, and whether it may be served. Pure: no clock,
//! no disk, no network.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;

use crate::clock::Timestamp;
use crate::reference::{Coordinates, Extent};

/// How long "there is no such secret" is believed without asking again.
const ABSENCE_LASTS: Duration = Duration::from_secs(5);
/// How far apart two answers must be that say gone or denied, before `on_revoked` acts.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// What is known, by coordinates.
pub struct Cache {
    policy: Policy,
    entries: HashMap<Coordinates, Arc<Entry>>,
    /// Secrets that the provider did not have, and when it said so.
    absent: HashMap<Coordinates, Timestamp>,
    /// Entries that the provider said are gone or denied, and when it first did.
    doubted: HashMap<Coordinates, Timestamp>,
    /// For each entry that was invalidated, the count of invalidations then.
    dropped: HashMap<Coordinates, u64>,
    invalidations: u64,
}

/// One value and when the provider said so.
pub struct Entry {
    value: SecretBytes,
    fetched_at: Timestamp,
}

/// What the config says of age.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
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
    },
    /// Nothing is known.
    Missing,
    /// The provider said a moment ago that there is none.
    KnownAbsent,
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

    /// Puts back what was persisted.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.entries = snapshot.entries.into_iter().collect();
    }

    /// Follows a new config.
    pub fn follow(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What is known of a secret at `now`.
    pub fn get(&self, at: &Coordinates, now: Timestamp) -> Answer {
        let Some(entry) = self.entries.get(at) else {
            let absent = self.absent.get(at).is_some_and(|since| since.age(now) < ABSENCE_LASTS);
            return if absent { Answer::KnownAbsent } else { Answer::Missing };
        };
        let age = entry.fetched_at.age(now);
        if age < self.policy.fresh_for && !self.doubted.contains_key(at) {
            return Answer::Fresh(Arc::clone(entry));
        }
        let servable = self.policy.max_stale.is_none_or(|limit| age <= limit);
        Answer::Stale { entry: Arc::clone(entry), servable }
    }

    /// Begins a fetch.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.invalidations)
    }

    /// Takes a fetched value over, unless it was invalidated since the fetch began.
    pub fn put(
        &mut self,
        at: &Coordinates,
        value: SecretBytes,
        ticket: Ticket,
        now: Timestamp,
    ) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(value, now));
        if !self.outdated(at, ticket) {
            self.absent.remove(at);
            self.doubted.remove(at);
            self.entries.insert(at.clone(), Arc::clone(&entry));
        }
        entry
    }

    /// Takes note that the provider says gone or denied. An entry is believed over one such answer:
    /// a permission being edited, or a proxy, must not empty a fleet's caches.
    pub fn doubt(&mut self, at: &Coordinates, now: Timestamp) -> Verdict {
        if !self.entries.contains_key(at) {
            self.absent.insert(at.clone(), now);
            return Verdict::Absent;
        }
        let since = *self.doubted.entry(at.clone()).or_insert(now);
        if since.age(now) < CONFIRM_AFTER || !self.policy.evict_revoked {
            return Verdict::Kept;
        }
        self.entries.remove(at);
        self.doubted.remove(at);
        self.absent.insert(at.clone(), now);
        Verdict::Evicted
    }

    /// Takes note that the provider says gone or denied of a whole extent; true when that evicted any.
    pub fn doubt_all(&mut self, extent: &Extent, now: Timestamp) -> bool {
        let inside: Vec<_> =
            self.entries.keys().filter(|at| extent.contains(at)).cloned().collect();
        inside.iter().fold(false, |any, at| any | (self.doubt(at, now) == Verdict::Evicted))
    }

    /// Makes a whole listing the truth of its extent.
    pub fn replace(
        &mut self,
        extent: &Extent,
        found: Vec<(Coordinates, SecretBytes)>,
        ticket: Ticket,
        now: Timestamp,
    ) -> Counts {
        let mut counts = Counts::default();
        let gone: Vec<Coordinates> = {
            let present: std::collections::HashSet<&Coordinates> =
                found.iter().map(|(at, _)| at).collect();
            self.entries
                .keys()
                .filter(|at| extent.contains(at) && !present.contains(at))
                .cloned()
                .collect()
        };
        for at in gone {
            self.entries.remove(&at);
            self.doubted.remove(&at);
            counts.removed += 1;
        }
        for (at, value) in found {
            match self.entries.get(&at) {
                None => counts.added += 1,
                Some(known) if known.value.same_as(&value) => counts.unchanged += 1,
                Some(_) => counts.changed += 1,
            }
            self.put(&at, value, ticket, now);
        }
        counts
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

    /// Everything, in order, to be persisted as `generation`.
    pub fn snapshot(&self, generation: u64) -> Snapshot {
        let mut entries: Vec<_> =
            self.entries.iter().map(|(at, entry)| (at.clone(), Arc::clone(entry))).collect();
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
        Self { value, fetched_at }
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
mod tests {
    use super::*;
    use crate::reference::Realm;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn cache() -> Cache {
        Cache::new(Policy { fresh_for: HOUR, max_stale: Some(24 * HOUR), evict_revoked: true })
    }

    fn at(key: &str) -> Coordinates {
        Coordinates { realm: Realm::new(&["p"]), path: "/app".into(), key: key.into() }
    }

    fn extent() -> Extent {
        Extent { realm: Realm::new(&["p"]), path: "/app".into(), recursive: false }
    }

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    fn time(span: Duration) -> Timestamp {
        Timestamp::from_millis(1_000_000).after(span)
    }

    fn put(cache: &mut Cache, key: &str, value: &str, now: Timestamp) {
        let ticket = cache.ticket();
        cache.put(&at(key), secret(value), ticket, now);
    }

    #[test]
    fn an_entry_ages_from_fresh_to_stale_to_refused() {
        let mut cache = cache();
        put(&mut cache, "K", "v", time(Duration::ZERO));
        assert!(matches!(cache.get(&at("K"), time(HOUR / 2)), Answer::Fresh(_)));
        assert!(matches!(cache.get(&at("K"), time(HOUR)), Answer::Stale { servable: true, .. }));
        assert!(matches!(
            cache.get(&at("K"), time(24 * HOUR)),
            Answer::Stale { servable: true, .. }
        ));
        assert!(matches!(
            cache.get(&at("K"), time(25 * HOUR)),
            Answer::Stale { servable: false, .. }
        ));
        assert!(matches!(cache.get(&at("L"), time(HOUR)), Answer::Missing));
    }

    #[test]
    fn without_a_limit_nothing_is_too_old() {
        let mut cache =
            Cache::new(Policy { fresh_for: HOUR, max_stale: None, evict_revoked: true });
        put(&mut cache, "K", "v", time(Duration::ZERO));
        assert!(matches!(
            cache.get(&at("K"), time(10_000 * HOUR)),
            Answer::Stale { servable: true, .. }
        ));
    }

    #[test]
    fn an_absence_is_remembered_for_a_moment() {
        let mut cache = cache();
        assert_eq!(cache.doubt(&at("K"), time(Duration::ZERO)), Verdict::Absent);
        assert!(matches!(cache.get(&at("K"), time(Duration::from_secs(1))), Answer::KnownAbsent));
        assert!(matches!(cache.get(&at("K"), time(ABSENCE_LASTS)), Answer::Missing));
    }

    #[test]
    fn gone_must_be_said_twice_and_a_minute_apart() {
        let mut cache = cache();
        put(&mut cache, "K", "v", time(Duration::ZERO));
        assert_eq!(cache.doubt(&at("K"), time(HOUR)), Verdict::Kept);
        assert_eq!(cache.doubt(&at("K"), time(HOUR + Duration::from_secs(59))), Verdict::Kept);
        // In doubt, even a young entry is asked for again.
        assert!(matches!(cache.get(&at("K"), time(Duration::ZERO)), Answer::Stale { .. }));
        assert_eq!(cache.doubt(&at("K"), time(HOUR + Duration::from_secs(60))), Verdict::Evicted);
        assert!(matches!(
            cache.get(&at("K"), time(HOUR + Duration::from_secs(61))),
            Answer::KnownAbsent
        ));
    }

    #[test]
    fn one_good_answer_ends_the_doubt() {
        let mut cache = cache();
        put(&mut cache, "K", "v", time(Duration::ZERO));
        cache.doubt(&at("K"), time(HOUR));
        put(&mut cache, "K", "v", time(HOUR));
        assert_eq!(cache.doubt(&at("K"), time(3 * HOUR)), Verdict::Kept);
    }

    #[test]
    fn on_revoked_keep_keeps() {
        let mut cache =
            Cache::new(Policy { fresh_for: HOUR, max_stale: None, evict_revoked: false });
        put(&mut cache, "K", "v", time(Duration::ZERO));
        cache.doubt(&at("K"), time(HOUR));
        assert_eq!(cache.doubt(&at("K"), time(9 * HOUR)), Verdict::Kept);
    }

    #[test]
    fn a_fetch_that_began_before_an_invalidation_may_not_publish() {
        let mut cache = cache();
        let before = cache.ticket();
        assert!(!cache.invalidate(&at("K")));
        cache.put(&at("K"), secret("old"), before, time(HOUR));
        assert!(matches!(cache.get(&at("K"), time(HOUR)), Answer::Missing));
        put(&mut cache, "K", "new", time(HOUR));
        assert!(cache.invalidate(&at("K")));
        assert!(cache.is_empty());
    }

    #[test]
    fn a_listing_replaces_its_extent_and_nothing_else() {
        let mut cache = cache();
        for (key, value) in [("SAME", "1"), ("CHANGED", "1"), ("REMOVED", "1")] {
            put(&mut cache, key, value, time(Duration::ZERO));
        }
        let elsewhere = Coordinates { path: "/other".into(), ..at("K") };
        let ticket = cache.ticket();
        cache.put(&elsewhere, secret("1"), ticket, time(Duration::ZERO));
        let found = [("SAME", "1"), ("CHANGED", "2"), ("ADDED", "1")]
            .map(|(key, value)| (at(key), secret(value)));
        let counts = cache.replace(&extent(), found.into(), ticket, time(HOUR));
        assert_eq!(counts, Counts { added: 1, changed: 1, unchanged: 1, removed: 1 });
        assert_eq!(cache.len(), 4);
        assert!(matches!(cache.get(&at("REMOVED"), time(HOUR)), Answer::Missing));
        assert!(matches!(cache.get(&at("SAME"), time(HOUR)), Answer::Fresh(_)));
        assert!(matches!(cache.get(&elsewhere, time(HOUR)), Answer::Stale { .. }));
    }

    #[test]
    fn a_snapshot_comes_back() {
        let mut cache = cache();
        put(&mut cache, "B", "2", time(Duration::ZERO));
        put(&mut cache, "A", "1", time(HOUR));
        let snapshot = cache.snapshot(7);
        assert_eq!(snapshot.generation, 7);
        assert_eq!(
            snapshot.entries.iter().map(|(at, _)| at.key.as_str()).collect::<Vec<_>>(),
            ["A", "B"]
        );
        assert_eq!(cache.fetch_span(), Some((time(Duration::ZERO), time(HOUR))));
        let mut other = self::cache();
        other.restore(snapshot);
        assert!(
            matches!(other.get(&at("A"), time(HOUR)), Answer::Fresh(entry) if entry.value().expose_secret() == b"1")
        );
    }
}
