//! The decrypted cache: what is known, how old it is, and whether it may be served. Pure: no clock,
//! no disk, no network.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;

use crate::clock::Timestamp;
use crate::reference::{Coordinates, Extent};

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

/// What a provider listed.
pub struct Listed {
    /// What the listing speaks for.
    pub extents: Vec<Extent>,
    /// The values.
    pub found: Vec<(Coordinates, SecretBytes)>,
    /// What is there and not for us.
    pub denied: Vec<Coordinates>,
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
    pub fn put(
        &mut self,
        at: &Coordinates,
        value: SecretBytes,
        ticket: Ticket,
        now: Timestamp,
    ) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(value, now));
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
        listing: Listed,
        ticket: Ticket,
        began: Timestamp,
        now: Timestamp,
    ) -> Counts {
        let Listed { extents, found, denied } = listing;
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
            self.put(&at, value, ticket, now);
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
        Cache::new(Policy {
            enabled: true,
            fresh_for: HOUR,
            max_stale: Some(24 * HOUR),
            evict_revoked: true,
        })
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
        let mut cache = Cache::new(Policy {
            enabled: true,
            fresh_for: HOUR,
            max_stale: None,
            evict_revoked: true,
        });
        put(&mut cache, "K", "v", time(Duration::ZERO));
        assert!(matches!(
            cache.get(&at("K"), time(10_000 * HOUR)),
            Answer::Stale { servable: true, .. }
        ));
    }

    #[test]
    fn an_absence_is_remembered_for_a_moment() {
        let mut cache = cache();
        assert_eq!(
            cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(Duration::ZERO)),
            Verdict::Absent
        );
        assert!(matches!(
            cache.get(&at("K"), time(Duration::from_secs(1))),
            Answer::KnownAbsent(_)
        ));
        assert!(matches!(cache.get(&at("K"), time(ABSENCE_LASTS)), Answer::Missing));
    }

    #[test]
    fn gone_must_be_said_twice_and_a_minute_apart() {
        let mut cache = cache();
        put(&mut cache, "K", "v", time(Duration::ZERO));
        assert_eq!(cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(HOUR)), Verdict::Kept);
        assert_eq!(
            cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(HOUR + Duration::from_secs(59))),
            Verdict::Kept
        );
        // In doubt, it is served for a moment, and then asked for again however young it is.
        let doubted = HOUR + Duration::from_secs(59);
        assert!(matches!(cache.get(&at("K"), time(doubted)), Answer::Fresh(_)));
        assert!(matches!(cache.get(&at("K"), time(doubted + DOUBT_RESTS)), Answer::Stale { .. }));
        assert_eq!(
            cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(HOUR + Duration::from_secs(60))),
            Verdict::Evicted
        );
        assert!(matches!(
            cache.get(&at("K"), time(HOUR + Duration::from_secs(61))),
            Answer::KnownAbsent(_)
        ));
    }

    #[test]
    fn one_good_answer_ends_the_doubt() {
        let mut cache = cache();
        put(&mut cache, "K", "v", time(Duration::ZERO));
        cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(HOUR));
        put(&mut cache, "K", "v", time(HOUR));
        assert_eq!(
            cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(3 * HOUR)),
            Verdict::Kept
        );
    }

    #[test]
    fn on_revoked_keep_keeps() {
        let mut cache = Cache::new(Policy {
            enabled: true,
            fresh_for: HOUR,
            max_stale: None,
            evict_revoked: false,
        });
        put(&mut cache, "K", "v", time(Duration::ZERO));
        cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(HOUR));
        assert_eq!(
            cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(9 * HOUR)),
            Verdict::Kept
        );
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
        let listing = listed(&[("SAME", "1"), ("CHANGED", "2"), ("ADDED", "1")]);
        let counts = cache.replace(listing, ticket, time(HOUR), time(HOUR));
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

    fn listed(found: &[(&str, &str)]) -> Listed {
        let found = found.iter().map(|(key, value)| (at(key), secret(value))).collect();
        Listed { extents: vec![extent()], found, denied: Vec::new() }
    }

    #[test]
    fn a_listing_that_lacks_more_than_half_must_be_confirmed() {
        let mut cache = cache();
        for key in ["A", "B", "C"] {
            put(&mut cache, key, "1", time(Duration::ZERO));
        }
        let ticket = cache.ticket();
        let mut refresh = |after: Duration| {
            let now = time(HOUR + after);
            cache.replace(listed(&[("A", "1")]), ticket, now, now).removed
        };
        assert_eq!(refresh(Duration::ZERO), 0);
        assert_eq!(refresh(Duration::from_secs(30)), 0);
        assert_eq!(refresh(Duration::from_secs(61)), 2);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_secret_that_is_hidden_says_nothing_of_the_others() {
        let mut cache = cache();
        for key in ["A", "B", "C"] {
            put(&mut cache, key, "1", time(Duration::ZERO));
        }
        let ticket = cache.ticket();
        let listing = Listed { denied: vec![at("C")], ..listed(&[("A", "1"), ("B", "1")]) };
        let counts = cache.replace(listing, ticket, time(HOUR), time(HOUR));
        assert_eq!((counts.unchanged, counts.removed), (2, 0));
        assert_eq!((cache.len(), cache.doubted()), (3, 1));
    }

    #[test]
    fn a_listing_does_not_undo_what_was_fetched_since_it_was_asked_for() {
        let mut cache = cache();
        put(&mut cache, "A", "old", time(Duration::ZERO));
        let ticket = cache.ticket();
        put(&mut cache, "A", "new", time(HOUR));
        put(&mut cache, "B", "new", time(HOUR));
        cache.replace(listed(&[("A", "old")]), ticket, time(HOUR / 2), time(2 * HOUR));
        for key in ["A", "B"] {
            let Answer::Fresh(entry) = cache.get(&at(key), time(HOUR)) else { panic!("{key}") };
            assert_eq!(entry.value().expose_secret(), b"new");
        }
    }

    #[test]
    fn a_key_that_opens_late_brings_back_nothing_older() {
        let mut cache = cache();
        put(&mut cache, "A", "old", time(Duration::ZERO));
        put(&mut cache, "B", "old", time(Duration::ZERO));
        let snapshot = cache.snapshot(1);
        let mut late = self::cache();
        put(&mut late, "A", "new", time(HOUR));
        late.invalidate(&at("B"));
        late.restore(snapshot);
        assert!(
            matches!(late.get(&at("A"), time(HOUR)), Answer::Fresh(entry) if entry.value().expose_secret() == b"new")
        );
        assert!(matches!(late.get(&at("B"), time(HOUR)), Answer::Missing));
    }

    #[test]
    fn a_time_to_come_is_a_reason_to_ask() {
        let mut cache = cache();
        put(&mut cache, "A", "1", time(HOUR));
        assert!(matches!(
            cache.get(&at("A"), time(Duration::ZERO)),
            Answer::Stale { servable: true, .. }
        ));
        assert!(matches!(
            cache.get(&at("A"), time(HOUR - Duration::from_secs(30))),
            Answer::Fresh(_)
        ));
    }
}
