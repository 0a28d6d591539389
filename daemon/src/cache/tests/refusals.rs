//! What the provider takes back.

use super::*;
use crate::cache::{negative::FIRST_TTL, pending::CONFIRM_AFTER};

fn keeping() -> Cache {
    Cache::new(Policy { evict_revoked: false, ..POLICY }, boot(1))
}

#[test]
fn an_absence_is_remembered_for_a_moment_and_longer_each_time() {
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
    // Whoever comes back after a while is heard.
    now += HOUR;
    cache.note_refusal(&at("K"), gone(), time(now));
    assert!(matches!(cache.get(&at("K"), time(now + FIRST_TTL)), CacheLookup::Missing));
    cache.note_refusal(&at("K"), gone(), time(now + FIRST_TTL));
    put(&cache, "K", "v", now + FIRST_TTL);
    assert!(is_fresh(&cache, "K", now + FIRST_TTL, "v"));
}

#[test]
fn many_absences_take_little_room() {
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
fn gone_must_be_said_twice_and_a_minute_apart() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    assert_eq!(cache.note_refusal(&at("K"), gone(), time(HOUR)), EvictionDecision::Kept);
    assert_eq!(cache.withheld().len(), 1);
    // It is served meanwhile, and the provider left alone about it until it can confirm it.
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

/// What had a value and was confirmed to have none is not asked for at each healthcheck.
#[test]
fn a_tombstone_keeps_lookups_off_the_provider_for_an_interval() {
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
fn one_good_answer_ends_the_doubt() {
    let cache = cache();
    put(&cache, "K", "v", Duration::ZERO);
    cache.note_refusal(&at("K"), gone(), time(HOUR));
    put(&cache, "K", "v", HOUR);
    assert!(cache.withheld().is_empty());
    assert_eq!(cache.note_refusal(&at("K"), gone(), time(3 * HOUR)), EvictionDecision::Kept);
}

#[test]
fn on_revoked_keep_keeps_and_asks_ever_less() {
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

/// A request that is not understood says nothing of the secret, and must not be repeated at each lookup.
#[test]
fn what_is_not_understood_is_asked_ever_less_and_takes_nothing_away() {
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
    // It is no first half of a confirmation.
    assert_eq!(cache.note_refusal(&at("K"), gone(), time(now)), EvictionDecision::Kept);
    // Nor does it undo one.
    cache.note_refusal(&at("K"), puzzled.clone(), time(now + 30 * SECOND));
    assert_eq!(
        cache.note_refusal(&at("K"), gone(), time(now + CONFIRM_AFTER)),
        EvictionDecision::Evicted
    );
}
