//! Ages: fresh, stale, past `max_stale`; restored ages; invalidations.

use super::*;

fn with(policy: Policy) -> Cache {
    Cache::new(policy, boot(1))
}

/// Restores the snapshot of `cache` at `now` into another one.
fn restored(cache: &Cache, now: Now, into: &Cache) {
    into.restore(cache.snapshot(1), now);
}

#[test]
fn entry_ages_from_fresh_to_stale_to_refused() {
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
fn entry_stays_servable_without_max_stale() {
    let cache = with(Policy { max_stale: None, ..POLICY });
    put(&cache, "K", "v", Duration::ZERO);
    let answer = cache.get(&at("K"), time(10_000 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: true, past_max_stale: false, .. }));
}

#[test]
fn served_entry_stays_servable_past_max_stale_until_a_reboot() {
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
    // Containers survive a restart of psid, and end with a reboot.
    for (number, servable) in [(1, true), (2, false)] {
        let next = Cache::new(POLICY, boot(number));
        restored(&cache, moment(25 * HOUR), &next);
        assert_eq!(past_max_stale(&next), servable, "boot {number}");
    }
}

/// A container that was served the old value asks for the new one.
#[test]
fn rotated_value_counts_as_served_if_the_former_value_was() {
    let cache = cache();
    put(&cache, "K", "old", Duration::ZERO);
    let CacheLookup::Fresh(entry) = cache.get(&at("K"), time(Duration::ZERO)) else { panic!() };
    entry.mark_served(boot(1));
    put(&cache, "K", "new", HOUR);
    let answer = cache.get(&at("K"), time(26 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: true, past_max_stale: true, .. }));
    // A confirmed refusal removes it.
    cache.note_refusal(&at("K"), gone(), time(26 * HOUR));
    cache.note_refusal(&at("K"), gone(), time(27 * HOUR));
    assert!(matches!(cache.get(&at("K"), time(27 * HOUR)), CacheLookup::NegativeHit(_)));
}

#[test]
fn snapshot_is_restored() {
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
fn late_restore_keeps_newer_entries() {
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

/// Ages count on the boot clock, whatever the wall clock is set to while psid runs.
#[test]
fn jump_of_the_wall_clock_changes_no_age() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    // A lookup reads no wall clock; the timestamps of the file are read once.
    let next = self::cache();
    restored(&cache, moment(HOUR / 2), &next);
    for cache in [&cache, &next] {
        assert!(is_fresh(cache, "K", HOUR - SECOND, "v"));
        assert!(matches!(cache.get(&at("K"), time(HOUR)), CacheLookup::Stale { .. }));
    }
    // An entry that was fetched while the wall clock was wrong has its true age.
    let epoch = cache.begin_fetch();
    for wall in [0, u64::MAX] {
        let now = Now { wall: Timestamp::from_millis(wall), ..moment(HOUR) };
        cache.put(&at("W"), Entry::new(secret("w"), now.wall), now, epoch);
        assert!(is_fresh(&cache, "W", HOUR + HOUR / 2, "w"));
        assert!(matches!(cache.get(&at("W"), time(2 * HOUR)), CacheLookup::Stale { .. }));
    }
}

/// If the clock was set back, the age of the file's entries is unknown: the provider is asked, and in an outage they
/// are served.
#[test]
fn entry_with_a_future_timestamp_is_stale() {
    let cache = cache();
    put(&cache, "K", "v", 2 * HOUR);
    let back = Now { wall: moment(Duration::ZERO).wall, ..moment(3 * HOUR) };
    let next = self::cache();
    restored(&cache, back, &next);
    assert_eq!(next.fetched(&at("K")), None);
    let answer = next.get(&at("K"), time(3 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: true, .. }));
    // It passes max_stale later, and its timestamp for the file stays.
    let answer = next.get(&at("K"), time(28 * HOUR));
    assert!(matches!(answer, CacheLookup::Stale { servable: false, .. }));
    assert_eq!(next.fetch_span(), cache.fetch_span());
    // A few seconds are tolerated.
    let near = Now { wall: moment(2 * HOUR - 30 * SECOND).wall, ..moment(3 * HOUR) };
    let next = self::cache();
    restored(&cache, near, &next);
    assert!(is_fresh(&next, "K", 3 * HOUR, "v"));
}

#[test]
fn serving_does_not_renew_an_entry() {
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
fn value_that_is_fetched_again_is_stored_once() {
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
fn fetch_that_began_before_an_invalidation_puts_nothing() {
    let cache = cache();
    let (before, now) = (cache.begin_fetch(), moment(HOUR));
    assert!(!cache.invalidate(&at("K")));
    cache.put(&at("K"), Entry::new(secret("old"), now.wall), now, before);
    assert!(matches!(cache.get(&at("K"), time(HOUR)), CacheLookup::Missing));
    put(&cache, "K", "new", HOUR);
    assert!(cache.invalidate(&at("K")));
    assert!(cache.is_empty());
}

/// A key that is unlocked late restores the file, and an admin invalidated secrets before.
#[test]
fn late_restore_does_not_bring_back_invalidated_keys() {
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

/// Any name can be invalidated, which must not fill psid's memory.
#[test]
fn memory_of_invalidations_is_limited() {
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
