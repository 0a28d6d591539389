//! Refusals: the negative cache, and pending removals.

use super::*;
use crate::cache::{negative::FIRST_TTL, pending::CONFIRM_AFTER};

fn keeping() -> Cache {
    Cache::new(Policy { evict_revoked: false, ..POLICY }, boot(1))
}

#[test]
fn refusal_is_cached_twice_as_long_each_time() {
    let cache = cache();
    let mut now = Duration::ZERO;
    for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(cache.note_refusal(&at("K"), gone(), time(now)), EvictionDecision::Absent);
        let lasts = seconds * SECOND;
        let known = cache.get(&at("K"), time(now + lasts - Duration::from_millis(1)));
        assert!(matches!(known, CacheLookup::NegativeHit(_)), "{seconds}");
        assert!(
            matches!(cache.get(&at("K"), time(now + lasts)), CacheLookup::Missing),
            "{seconds}"
        );
        now += lasts;
    }
    // After a while, the first duration applies again.
    now += HOUR;
    cache.note_refusal(&at("K"), gone(), time(now));
    assert!(matches!(cache.get(&at("K"), time(now + FIRST_TTL)), CacheLookup::Missing));
    cache.note_refusal(&at("K"), gone(), time(now + FIRST_TTL));
    put(&cache, "K", "v", now + FIRST_TTL);
    assert!(is_fresh(&cache, "K", now + FIRST_TTL, "v"));
}

#[test]
fn memory_of_refusals_is_limited() {
    let cache = cache();
    for number in 0..5_000_u64 {
        let key = format!("K{number}");
        cache.note_refusal(&at(&key), gone(), time(Duration::from_millis(number)));
    }
    let known = |number: u64| {
        let key = format!("K{number}");
        matches!(cache.get(&at(&key), time(SECOND)), CacheLookup::NegativeHit(_))
    };
    assert_eq!((0..5_000).filter(|number| known(*number)).count(), 1_024);
    assert!(known(4_999) && !known(0));
}

#[test]
fn removal_is_confirmed_by_a_second_refusal_after_a_minute() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    assert_eq!(cache.note_refusal(&at("K"), gone(), time(HOUR)), EvictionDecision::Kept);
    assert_eq!(cache.withheld().len(), 1);
    // It is served meanwhile without a request, until the provider can confirm it.
    assert!(is_fresh(&cache, "K", HOUR + CONFIRM_AFTER - SECOND, "v"));
    let confirmable = time(HOUR + CONFIRM_AFTER);
    assert!(matches!(cache.get(&at("K"), confirmable), CacheLookup::Stale { servable: true, .. }));
    assert_eq!(
        cache.note_refusal(&at("K"), gone(), time(HOUR + 59 * SECOND)),
        EvictionDecision::Kept
    );
    assert_eq!(cache.note_refusal(&at("K"), gone(), confirmable), EvictionDecision::Evicted);
    assert!(cache.is_empty() && cache.withheld().is_empty());
}

/// A secret whose removal is confirmed is not requested at each healthcheck.
#[test]
fn removed_secret_is_not_requested_for_an_interval() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    cache.note_refusal(&at("K"), gone(), time(Duration::ZERO));
    cache.note_refusal(&at("K"), gone(), time(CONFIRM_AFTER));
    let mut buried = CONFIRM_AFTER;
    for _ in 0..3 {
        let known = cache.get(&at("K"), time(buried + HOUR - SECOND));
        assert!(matches!(known, CacheLookup::NegativeHit(NegativeReason::NotFound(_))));
        assert!(matches!(cache.get(&at("K"), time(buried + HOUR)), CacheLookup::Missing));
        buried += HOUR;
        cache.note_refusal(&at("K"), gone(), time(buried));
    }
    put(&cache, "K", "back", buried);
    assert!(is_fresh(&cache, "K", buried, "back"));
}

#[test]
fn value_cancels_a_pending_removal() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    cache.note_refusal(&at("K"), gone(), time(HOUR));
    put(&cache, "K", "v", HOUR);
    assert!(cache.withheld().is_empty());
    assert_eq!(cache.note_refusal(&at("K"), gone(), time(3 * HOUR)), EvictionDecision::Kept);
}

#[test]
fn on_revoked_keep_keeps_the_entry_and_retries_less_often() {
    let cache = keeping();
    put(&cache, "K", "v", Duration::ZERO);
    let mut now = 2 * HOUR;
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(cache.note_refusal(&at("K"), gone(), time(now)), EvictionDecision::Kept);
        let rests = minutes * 60 * SECOND;
        assert!(is_fresh(&cache, "K", now + rests - SECOND, "v"), "{minutes}");
        assert!(!is_fresh(&cache, "K", now + rests, "v"), "{minutes}");
        now += rests;
    }
}

/// A bad response says nothing about the secret, and must not cause a request at each lookup.
#[test]
fn bad_response_removes_nothing_and_is_retried_less_often() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    let puzzled = NegativeReason::BadResponse("422".into());
    let mut now = 2 * HOUR;
    for minutes in [1, 2, 4] {
        assert_eq!(
            cache.note_refusal(&at("K"), puzzled.clone(), time(now)),
            EvictionDecision::Kept
        );
        assert!(is_fresh(&cache, "K", now + minutes * 60 * SECOND - SECOND, "v"));
        now += minutes * 60 * SECOND;
        assert!(!is_fresh(&cache, "K", now, "v"));
    }
    assert!(cache.withheld().is_empty(), "nobody took it back");
    // A bad response is not the first refusal of a confirmation.
    assert_eq!(cache.note_refusal(&at("K"), gone(), time(now)), EvictionDecision::Kept);
    // It does not cancel one either.
    cache.note_refusal(&at("K"), puzzled.clone(), time(now + 30 * SECOND));
    assert_eq!(
        cache.note_refusal(&at("K"), gone(), time(now + CONFIRM_AFTER)),
        EvictionDecision::Evicted
    );
}
