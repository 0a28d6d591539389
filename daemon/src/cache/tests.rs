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
    cache.put(&at(key), Entry::new(secret(value), now), ticket);
}

#[test]
fn an_entry_ages_from_fresh_to_stale_to_refused() {
    let mut cache = cache();
    put(&mut cache, "K", "v", time(Duration::ZERO));
    assert!(matches!(cache.get(&at("K"), time(HOUR / 2)), Answer::Fresh(_)));
    assert!(matches!(cache.get(&at("K"), time(HOUR)), Answer::Stale { servable: true, .. }));
    assert!(matches!(cache.get(&at("K"), time(24 * HOUR)), Answer::Stale { servable: true, .. }));
    assert!(matches!(cache.get(&at("K"), time(25 * HOUR)), Answer::Stale { servable: false, .. }));
    assert!(matches!(cache.get(&at("L"), time(HOUR)), Answer::Missing));
}

#[test]
fn without_a_limit_nothing_is_too_old() {
    let mut cache =
        Cache::new(Policy { enabled: true, fresh_for: HOUR, max_stale: None, evict_revoked: true });
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
    assert!(matches!(cache.get(&at("K"), time(Duration::from_secs(1))), Answer::KnownAbsent(_)));
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
    assert_eq!(cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(3 * HOUR)), Verdict::Kept);
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
    assert_eq!(cache.doubt(&at("K"), &Refusal::Gone("x".into()), time(9 * HOUR)), Verdict::Kept);
}

#[test]
fn a_fetch_that_began_before_an_invalidation_may_not_publish() {
    let mut cache = cache();
    let before = cache.ticket();
    assert!(!cache.invalidate(&at("K")));
    cache.put(&at("K"), Entry::new(secret("old"), time(HOUR)), before);
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
    cache.put(&elsewhere, Entry::new(secret("1"), time(Duration::ZERO)), ticket);
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

fn listed(found: &[(&str, &str)]) -> Listing {
    let found = found.iter().map(|(key, value)| (at(key), secret(value))).collect();
    Listing { extents: vec![extent()], found, denied: Vec::new() }
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
    let listing = Listing { denied: vec![at("C")], ..listed(&[("A", "1"), ("B", "1")]) };
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
    assert!(matches!(cache.get(&at("A"), time(HOUR - Duration::from_secs(30))), Answer::Fresh(_)));
}
