//! How old an entry is, and what that means.

use super::*;

fn with(policy: Policy) -> Cache {
    Cache::new(policy, boot(1))
}

/// What the file of `cache` would hold, with the wall clock ahead of the truth by so much.
fn restored(cache: &Cache, now: Now, into: &Cache) {
    into.restore(cache.snapshot(1), now);
}

#[test]
fn an_entry_ages_from_fresh_to_stale_to_refused() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    assert!(is_fresh(&cache, "K", HOUR / 2, "v"));
    let stale = |after, servable, past_max_stale| match cache.get(&at("K"), time(after)) {
        CacheLookup::Stale { servable: s, past_max_stale: o, .. } => {
            (s, o) == (servable, past_max_stale)
        }
        _ => false,
    };
    assert!(stale(HOUR, true, false));
    assert!(stale(24 * HOUR, true, false));
    assert!(stale(25 * HOUR, false, true));
    assert!(matches!(cache.get(&at("L"), time(HOUR)), CacheLookup::Missing));
}

#[test]
fn without_a_limit_nothing_is_too_old() {
    let cache = with(Policy { max_stale: None, ..POLICY });
    put(&cache, "K", "v", Duration::ZERO);
    let answer = cache.get(&at("K"), time(10_000 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: true, past_max_stale: false, .. }));
}

#[test]
fn what_was_served_in_this_boot_is_never_too_old_and_outlives_no_reboot() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    let CacheLookup::Fresh(entry) = cache.get(&at("K"), time(HOUR / 2)) else { panic!() };
    assert!(entry.mark_served(boot(1)) && !entry.mark_served(boot(1)), "it is written once");
    let late = time(25 * HOUR);
    let past_max_stale = |cache: &Cache| match cache.get(&at("K"), late) {
        CacheLookup::Stale { servable, past_max_stale: true, .. } => servable,
        _ => panic!("it is not past_max_stale"),
    };
    assert!(past_max_stale(&cache));
    assert_eq!(cache.past_max_stale(late), 1);
    assert!(cache.survives_reboot(&at("K"), time(24 * HOUR)));
    assert!(!cache.survives_reboot(&at("K"), late));
    // A restart of psid ends no container, a reboot ends all.
    for (number, servable) in [(1, true), (2, false)] {
        let next = Cache::new(POLICY, boot(number));
        restored(&cache, moment(25 * HOUR), &next);
        assert_eq!(past_max_stale(&next), servable, "boot {number}");
    }
}

/// A container that was served the old value asks for the new one: whichever it gets, it runs.
#[test]
fn a_rotated_value_is_as_served_as_the_one_before() {
    let cache = cache();
    put(&cache, "K", "old", Duration::ZERO);
    let CacheLookup::Fresh(entry) = cache.get(&at("K"), time(Duration::ZERO)) else { panic!() };
    entry.mark_served(boot(1));
    put(&cache, "K", "new", HOUR);
    let answer = cache.get(&at("K"), time(26 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: true, past_max_stale: true, .. }));
    // Once it is revoked, it is gone.
    cache.note_refusal(&at("K"), gone(), time(26 * HOUR));
    cache.note_refusal(&at("K"), gone(), time(27 * HOUR));
    assert!(matches!(cache.get(&at("K"), time(27 * HOUR)), CacheLookup::NegativeHit(_)));
}

#[test]
fn a_snapshot_comes_back() {
    let cache = cache();
    put(&cache, "B", "2", Duration::ZERO);
    put(&cache, "A", "1", HOUR);
    let snapshot = cache.snapshot(7).sorted();
    assert_eq!(snapshot.generation, 7);
    let keys: Vec<_> = snapshot.entries.iter().map(|(at, _)| &*at.key).collect();
    assert_eq!(keys, ["A", "B"]);
    assert_eq!(cache.fetch_span(), Some((moment(Duration::ZERO).wall, moment(HOUR).wall)));
    let other = self::cache();
    other.restore(snapshot, moment(HOUR));
    assert!(is_fresh(&other, "A", HOUR, "1"));
    assert!(matches!(other.get(&at("B"), time(HOUR)), CacheLookup::Stale { .. }));
}

#[test]
fn a_key_that_opens_late_brings_back_nothing_older() {
    let cache = cache();
    put(&cache, "A", "old", Duration::ZERO);
    put(&cache, "B", "old", Duration::ZERO);
    let late = self::cache();
    put(&late, "A", "new", HOUR);
    late.invalidate(&at("B"));
    restored(&cache, moment(HOUR), &late);
    assert!(is_fresh(&late, "A", HOUR, "new"));
    assert!(matches!(late.get(&at("B"), time(HOUR)), CacheLookup::Missing));
}

/// Whatever the wall clock is set to while psid runs: what is young stays young, and what grows old does.
#[test]
fn a_jump_of_the_wall_clock_changes_no_age() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    // There is no wall clock in the question; the file's stamps are read once.
    let next = self::cache();
    restored(&cache, moment(HOUR / 2), &next);
    for cache in [&cache, &next] {
        assert!(is_fresh(cache, "K", HOUR - SECOND, "v"));
        assert!(matches!(cache.get(&at("K"), time(HOUR)), CacheLookup::Stale { .. }));
    }
    // An entry that was fetched while the clock was wrong is as old as it is.
    let epoch = cache.begin_fetch();
    for wall in [0, u64::MAX] {
        let now = Now { wall: Timestamp::from_millis(wall), ..moment(HOUR) };
        cache.put(&at("W"), Entry::new(secret("w"), now.wall), now, epoch);
        assert!(is_fresh(&cache, "W", HOUR + HOUR / 2, "w"));
        assert!(matches!(cache.get(&at("W"), time(2 * HOUR)), CacheLookup::Stale { .. }));
    }
}

/// A clock that was set back, or that is dead: how old the file's entries are is not known, so the provider
/// is asked; in an outage they are served.
#[test]
fn a_stamp_of_a_time_to_come_is_a_reason_to_ask() {
    let cache = cache();
    put(&cache, "K", "v", 2 * HOUR);
    let back = Now { wall: moment(Duration::ZERO).wall, ..moment(3 * HOUR) };
    let next = self::cache();
    restored(&cache, back, &next);
    assert_eq!(next.fetched(&at("K")), None);
    let answer = next.get(&at("K"), time(3 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: true, .. }));
    // It does not stay so for ever, and the file keeps the stamp that it had.
    let answer = next.get(&at("K"), time(28 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: false, .. }));
    assert_eq!(next.fetch_span(), cache.fetch_span());
    // A few seconds are no matter.
    let near = Now { wall: moment(2 * HOUR - 30 * SECOND).wall, ..moment(3 * HOUR) };
    let next = self::cache();
    restored(&cache, near, &next);
    assert!(is_fresh(&next, "K", 3 * HOUR, "v"));
}

#[test]
fn serving_makes_nothing_younger() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    let fetched = cache.fetched(&at("K"));
    for after in [Duration::ZERO, HOUR, 20 * HOUR] {
        match cache.get(&at("K"), time(after)) {
            CacheLookup::Fresh(entry) | CacheLookup::Stale { entry, .. } => {
                entry.mark_served(boot(1))
            }
            _ => panic!(),
        };
        cache.note_refusal(&at("K"), NegativeReason::BadResponse("?".into()), time(after));
    }
    assert_eq!(cache.fetched(&at("K")), fetched);
    assert_eq!(
        cache.fetch_span(),
        Some((moment(Duration::ZERO).wall, moment(Duration::ZERO).wall))
    );
}

#[test]
fn one_value_is_held_once_however_often_it_is_fetched() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    let value = |cache: &Cache| match cache.get(&at("K"), time(HOUR)) {
        CacheLookup::Fresh(entry) | CacheLookup::Stale { entry, .. } => {
            std::ptr::from_ref(entry.value())
        }
        _ => panic!(),
    };
    let first = value(&cache);
    put(&cache, "K", "v", HOUR);
    assert_eq!(value(&cache), first);
    assert_eq!(cache.fetched(&at("K")), Some(time(HOUR)));
}

#[test]
fn a_fetch_that_began_before_an_invalidation_may_not_publish() {
    let cache = cache();
    let (before, now) = (cache.begin_fetch(), moment(HOUR));
    assert!(!cache.invalidate(&at("K")));
    cache.put(&at("K"), Entry::new(secret("old"), now.wall), now, before);
    assert!(matches!(cache.get(&at("K"), time(HOUR)), CacheLookup::Missing));
    put(&cache, "K", "new", HOUR);
    assert!(cache.invalidate(&at("K")));
    assert!(cache.is_empty());
}

/// A key that opens late restores what was written before; an admin took something back meanwhile.
#[test]
fn what_was_invalidated_before_the_key_opened_stays_gone_however_many_there_were() {
    for invalidated in [1, MAX_INVALIDATED, MAX_INVALIDATED + 1, 3 * MAX_INVALIDATED] {
        let cache = cache();
        for number in 0..invalidated {
            cache.invalidate(&at(&format!("K{number}")));
        }
        let entry = |key: &str| (at(key), Arc::new(Entry::new(secret("old"), moment(HOUR).wall)));
        let last = format!("K{}", invalidated - 1);
        let entries = vec![entry("K0"), entry(&last)];
        cache.restore(Snapshot { generation: 1, entries }, moment(HOUR));
        for key in ["K0", &last] {
            let found = cache.get(&at(key), time(HOUR));
            assert!(matches!(found, CacheLookup::Missing), "{key} of {invalidated}");
        }
    }
}

/// Whoever may look up may also invalidate whatever name: that must not fill psid's memory.
#[test]
fn many_invalidations_are_remembered_as_one() {
    let cache = cache();
    let (before, now) = (cache.begin_fetch(), moment(HOUR));
    for number in 0..3 * MAX_INVALIDATED {
        cache.invalidate(&at(&format!("K{number}")));
    }
    assert!(cache.state.read().invalidations.invalidated.len() <= MAX_INVALIDATED);
    cache.put(&at("K0"), Entry::new(secret("old"), now.wall), now, before);
    assert!(matches!(cache.get(&at("K0"), time(HOUR)), CacheLookup::Missing));
    put(&cache, "K0", "new", HOUR);
    assert!(matches!(cache.get(&at("K0"), time(HOUR)), CacheLookup::Fresh(_)));
}
