//! An entry that says that it is fresh is served without asking the cache: it must never say more than the
//! cache would, whatever was done to either.

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 3] = ["A", "B", "C"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Put(usize, &'static str),
    PendingRemoval(usize, u8),
    Invalidate(usize),
    /// Which keys are listed, with which value; and whether what it takes away is accepted.
    List([Option<&'static str>; 3], bool),
    Drop(usize),
    Follow {
        fresh_minutes: u64,
        evict_revoked: bool,
    },
    /// A file gives a value of so many minutes ago, or of a time to come.
    Restore(usize, i64),
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "one", "two"])
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    prop_oneof![
        (0_u64..100).prop_map(Step::Wait),
        (key.clone(), value()).prop_map(|(key, value)| Step::Put(key, value)),
        (key.clone(), 0_u8..3).prop_map(|(key, how)| Step::PendingRemoval(key, how)),
        key.clone().prop_map(Step::Invalidate),
        (prop::array::uniform3(prop::option::of(value())), any::<bool>())
            .prop_map(|(found, accept)| Step::List(found, accept)),
        key.clone().prop_map(Step::Drop),
        (1_u64..120, any::<bool>()).prop_map(|(fresh_minutes, evict_revoked)| Step::Follow {
            fresh_minutes,
            evict_revoked
        }),
        (key, -60_i64..120).prop_map(|(key, ago)| Step::Restore(key, ago)),
    ]
}

/// A cache, each entry that it ever had, and the time.
struct Played {
    cache: Cache,
    seen: Vec<(CacheKey, Arc<Entry>)>,
    minutes: u64,
}

impl Played {
    fn now(&self, minutes: u64) -> Now {
        moment(Duration::from_secs(60 * (self.minutes + minutes)))
    }

    fn play(&mut self, step: Step) {
        let now = self.now(0);
        match step {
            Step::Wait(minutes) => self.minutes += minutes,
            Step::Put(key, value) => {
                let epoch = self.cache.begin_fetch();
                let entry = Entry::new(secret(value), now.wall);
                let served = self.cache.put(&at(KEYS[key]), entry, now, epoch);
                self.seen.push((at(KEYS[key]), served));
            }
            Step::PendingRemoval(key, how) => {
                let why = "it says so".into();
                let refusal =
                    [NegativeReason::Gone, NegativeReason::Denied, NegativeReason::Misunderstood]
                        [usize::from(how)](why);
                self.cache.doubt(&at(KEYS[key]), &refusal, now.tick);
            }
            Step::Invalidate(key) => {
                self.cache.invalidate(&at(KEYS[key]));
            }
            Step::List(found, accept) => {
                let found = KEYS.iter().zip(found).filter_map(|(key, value)| Some((*key, value?)));
                let epoch = self.cache.begin_fetch();
                let taking = ReconcileOptions { epoch, began: now, now, accept, wanted: &|_| true };
                let listing = listed(&found.collect::<Vec<_>>());
                self.cache.replace(listing, &taking);
            }
            Step::Drop(key) => {
                self.cache.retain(|other, _| *other != at(KEYS[key]));
            }
            Step::Follow { fresh_minutes, evict_revoked } => {
                let fresh_for = Duration::from_secs(60 * fresh_minutes);
                self.cache.follow(Policy { fresh_for, evict_revoked, ..POLICY });
            }
            Step::Restore(key, ago) => {
                let span = Duration::from_secs(60 * ago.unsigned_abs());
                let then = if ago < 0 { now.wall.after(span) } else { now.wall.before(span) };
                let entry = Arc::new(Entry::new(secret("restored"), then));
                let entries = vec![(at(KEYS[key]), entry)];
                self.cache.restore(Snapshot { generation: 1, entries }, now);
            }
        }
        self.seen.extend(self.cache.known(&extent()));
    }

    fn judge(&self) {
        for later in [0, 1, 30, 90] {
            let tick = self.now(later).tick;
            for (at, entry) in self.seen.iter().filter(|(_, entry)| entry.is_fresh(tick)) {
                let Answer::Fresh(known) = self.cache.get(at, tick) else {
                    panic!("{at} is served {later} min later without the cache, which would not");
                };
                assert!(Arc::ptr_eq(&known, entry), "{at} is served with what it was before");
            }
            // And it says no less: what nobody doubts is served until it is old.
            for (at, entry) in self.cache.known(&extent()) {
                let age = self.cache.fetched(&at).map(|fetched| fetched.age(tick));
                let is_young = age.is_some_and(|age| age < self.cache.policy.fresh_for);
                let is_doubted = self.cache.doubts.of(&at).is_some();
                assert_eq!(entry.is_fresh(tick), is_young && !is_doubted, "{at} {later} min later");
            }
        }
    }
}

proptest! {
    #[test]
    fn an_entry_never_says_more_than_the_cache(steps in prop::collection::vec(step(), 0..40)) {
        let mut played = Played { cache: cache(), seen: Vec::new(), minutes: 0 };
        for step in steps {
            played.play(step);
            played.judge();
        }
    }
}

#[test]
fn a_fetched_value_needs_no_cache_until_it_is_old() {
    let mut cache = cache();
    put(&mut cache, "A", "one", Duration::ZERO);
    let Answer::Fresh(entry) = cache.get(&at("A"), time(SECOND)) else { panic!("it is not fresh") };
    assert!(entry.is_fresh(time(HOUR - SECOND)));
    assert!(!entry.is_fresh(time(HOUR)));
    put(&mut cache, "A", "one", HOUR);
    assert!(entry.is_fresh(time(HOUR + SECOND)), "it was given again");
    put(&mut cache, "A", "two", HOUR);
    assert!(!entry.is_fresh(time(HOUR + SECOND)), "it was replaced");
}
