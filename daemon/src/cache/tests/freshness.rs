//! After any sequence of changes, an entry is fresh while it is young and no removal is pending.

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 3] = ["A", "B", "C"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Put(usize, &'static str),
    Refuse(usize, u8),
    Invalidate(usize),
    /// The listed keys with their values, and whether removals are accepted.
    List([Option<&'static str>; 3], bool),
    Drop(usize),
    Follow {
        fresh_minutes: u64,
        evict_revoked: bool,
    },
    /// A file has a value of so many minutes ago, or of a future time.
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
        (key.clone(), 0_u8..3).prop_map(|(key, how)| Step::Refuse(key, how)),
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

/// A cache and the time.
struct Played {
    cache: Cache,
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
                self.cache.put(&at(KEYS[key]), entry, now, epoch);
            }
            Step::Refuse(key, how) => {
                let why = "it says so".into();
                let refusal =
                    [NegativeReason::NotFound, NegativeReason::Denied, NegativeReason::BadResponse]
                        [usize::from(how)](why);
                self.cache.note_refusal(&at(KEYS[key]), refusal, now.boot);
            }
            Step::Invalidate(key) => {
                self.cache.invalidate(&at(KEYS[key]));
            }
            Step::List(found, accept) => {
                let found = KEYS.iter().zip(found).filter_map(|(key, value)| Some((*key, value?)));
                let epoch = self.cache.begin_fetch();
                let taking = ReconcileOptions { epoch, began: now, now, accept, wanted: &|_| true };
                let listing = listed(&found.collect::<Vec<_>>());
                self.cache.reconcile(listing, &taking);
            }
            Step::Drop(key) => {
                self.cache.remove_unwanted(|other, _| *other != at(KEYS[key]));
            }
            Step::Follow { fresh_minutes, evict_revoked } => {
                let fresh_for = Duration::from_secs(60 * fresh_minutes);
                self.cache.reconfigure(Policy { fresh_for, evict_revoked, ..POLICY });
            }
            Step::Restore(key, ago) => {
                let span = Duration::from_secs(60 * ago.unsigned_abs());
                let then = if ago < 0 { now.wall.after(span) } else { now.wall.before(span) };
                let entry = Arc::new(Entry::new(secret("restored"), then));
                let entries = vec![(at(KEYS[key]), entry)];
                self.cache.restore(Snapshot { generation: 1, entries }, now);
            }
        }
    }

    fn check(&self) {
        for later in [0, 1, 30, 90] {
            let boot = self.now(later).boot;
            for (key, entry) in self.cache.entries_in(&scope()) {
                let state = self.cache.state.read();
                let is_pending = state.pending.contains_key(&key);
                let fresh_for = state.policy.fresh_for;
                drop(state);
                let age = self.cache.fetched(&key).map(|fetched| fetched.age(boot));
                let is_young = age.is_some_and(|age| age < fresh_for);
                match self.cache.get(&key, boot) {
                    CacheLookup::Fresh(found) => {
                        assert!(Arc::ptr_eq(&found, &entry), "{key} {later} min later");
                        assert!(is_young || is_pending, "{key} {later} min later");
                    }
                    CacheLookup::Stale { .. } => {
                        assert!(!is_young || is_pending, "{key} {later} min later");
                    }
                    _ => panic!("{key} has an entry, and is not found"),
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn entry_is_fresh_while_it_is_young_and_no_removal_is_pending(steps in prop::collection::vec(step(), 0..40)) {
        let mut played = Played { cache: cache(), minutes: 0 };
        for step in steps {
            played.play(step);
            played.check();
        }
    }
}

#[test]
fn fetched_value_is_fresh_until_fresh_for_ends() {
    let cache = cache();
    put(&cache, "A", "one", Duration::ZERO);
    assert!(is_fresh(&cache, "A", HOUR - SECOND, "one"));
    assert!(!is_fresh(&cache, "A", HOUR, "one"));
    put(&cache, "A", "one", HOUR);
    assert!(is_fresh(&cache, "A", HOUR + SECOND, "one"), "it was fetched again");
    put(&cache, "A", "two", HOUR);
    assert!(is_fresh(&cache, "A", HOUR + SECOND, "two"), "it was replaced");
}
