//! Reconciliation of listings, and the mass-removal guard.

use super::*;
use crate::cache::pending::CONFIRM_AFTER;

fn accept(cache: &Cache, listing: Listing, after: Duration) -> Counts {
    let (epoch, now) = (cache.begin_fetch(), moment(after));
    let taking = ReconcileOptions { epoch, began: now, now, accept: true, wanted: &|_| true };
    cache.reconcile(listing, &taking)
}

fn with(keys: &[&str]) -> Cache {
    let cache = cache();
    for key in keys {
        put(&cache, key, "1", Duration::ZERO);
    }
    cache
}

fn causes(cache: &Cache) -> Vec<(String, RemovalReason)> {
    cache
        .withheld()
        .into_iter()
        .map(|(key, pending)| (key.key.to_string(), pending.reason))
        .collect()
}

#[test]
fn listing_replaces_its_scope_and_nothing_else() {
    let cache = with(&["SAME", "CHANGED", "REMOVED"]);
    let elsewhere = CacheKey::new(at("K").namespace.clone(), "/other", "K");
    let (epoch, now) = (cache.begin_fetch(), moment(Duration::ZERO));
    cache.put(&elsewhere, Entry::new(secret("1"), now.wall), now, epoch);
    let listing = listed(&[("SAME", "1"), ("CHANGED", "2"), ("ADDED", "1")]);
    let counts = take(&cache, listing, HOUR);
    assert_eq!(counts, Counts { added: 1, changed: 1, unchanged: 1, removed: 1, withheld: 0 });
    assert_eq!(cache.len(), 4);
    assert!(is_fresh(&cache, "SAME", HOUR, "1") && is_fresh(&cache, "CHANGED", HOUR, "2"));
    assert!(matches!(cache.get(&elsewhere, time(HOUR)), CacheLookup::Stale { .. }));
    // A removed secret is not requested by each lookup.
    let gone = cache.get(&at("REMOVED"), time(2 * HOUR - SECOND));
    assert!(matches!(gone, CacheLookup::NegativeHit(NegativeReason::NotFound(_))));
}

#[test]
fn listing_without_more_than_half_is_withheld_until_confirmed() {
    let cache = with(&["A", "B", "C"]);
    let refresh = |after: Duration| {
        let counts = take(&cache, listed(&[("A", "2")]), HOUR + after);
        (counts.removed, counts.withheld)
    };
    assert_eq!(refresh(Duration::ZERO), (0, 2));
    assert_eq!(refresh(CONFIRM_AFTER / 2), (0, 2));
    assert_eq!(refresh(CONFIRM_AFTER), (2, 0));
    assert_eq!(cache.len(), 1);
    assert!(is_fresh(&cache, "A", HOUR, "2"), "the rest of it is taken over");
}

#[test]
fn empty_listing_is_withheld_and_lookups_do_not_confirm_it() {
    let cache = with(&["A"]);
    assert_eq!(take(&cache, listed(&[]), HOUR).withheld, 1);
    assert_eq!(causes(&cache), [("A".into(), RemovalReason::Unlisted)]);
    // Until the next refresh, a lookup sends no request: the response would be the same.
    assert!(is_fresh(&cache, "A", 2 * HOUR - SECOND, "1"));
    // A listing that has it cancels the pending removal.
    assert_eq!(take(&cache, listed(&[("A", "1")]), HOUR + SECOND).unchanged, 1);
    assert!(causes(&cache).is_empty());
}

#[test]
fn half_of_a_scope_is_removed_at_once() {
    let cache = with(&["A", "B"]);
    let counts = take(&cache, listed(&[("A", "1")]), HOUR);
    assert_eq!((counts.removed, counts.withheld), (1, 0));
}

#[test]
fn emptied_value_of_a_listing_is_withheld_until_confirmed() {
    let cache = with(&["A", "B", "C"]);
    let listing = || listed(&[("A", "1"), ("B", ""), ("C", "2")]);
    let counts = take(&cache, listing(), HOUR);
    assert_eq!(counts, Counts { unchanged: 1, changed: 1, withheld: 1, ..Counts::default() });
    assert_eq!(causes(&cache), [("B".into(), RemovalReason::Emptied)]);
    assert!(is_fresh(&cache, "B", HOUR, "1"));
    let counts = take(&cache, listing(), HOUR + CONFIRM_AFTER);
    assert_eq!((counts.changed, counts.withheld), (1, 0));
    assert!(is_fresh(&cache, "B", HOUR + CONFIRM_AFTER, ""));
    // A value that was empty before, and a new one, may be empty.
    let counts = take(&cache, listed(&[("A", "1"), ("B", ""), ("C", "2"), ("D", "")]), 2 * HOUR);
    assert_eq!((counts.added, counts.unchanged, counts.withheld), (1, 3, 0));
}

/// The mass-removal guard applies to the value of a single fetch too.
#[test]
fn emptied_value_of_a_fetch_is_withheld_until_confirmed() {
    let cache = with(&["A"]);
    let (epoch, now) = (cache.begin_fetch(), moment(2 * HOUR));
    let served = cache.put(&at("A"), Entry::new(secret(""), now.wall), now, epoch);
    assert!(served.value().same_as(&secret("1")));
    assert!(is_fresh(&cache, "A", 3 * HOUR - SECOND, "1"));
    let now = moment(3 * HOUR);
    let served = cache.put(&at("A"), Entry::new(secret(""), now.wall), now, epoch);
    assert!(served.value().is_empty());
}

/// An empty value does not confirm a removal, and a removal does not confirm an empty value.
#[test]
fn responses_that_differ_do_not_confirm_a_removal() {
    let cache = with(&["A"]);
    take(&cache, listed(&[("A", "")]), HOUR);
    assert_eq!(cache.note_refusal(&at("A"), gone(), time(2 * HOUR)), EvictionDecision::Kept);
    assert_eq!(take(&cache, listed(&[("A", "")]), 3 * HOUR).withheld, 1);
    assert!(cache.contains(&at("A")));
}

#[test]
fn admin_accepts_the_removals_of_a_listing() {
    let cache = with(&["A", "B", "C"]);
    let counts = accept(&cache, listed(&[("C", "")]), HOUR);
    assert_eq!(counts, Counts { changed: 1, removed: 2, ..Counts::default() });
    assert_eq!(cache.len(), 1);
}

#[test]
fn on_revoked_keep_withholds_removals_until_an_admin_accepts() {
    let cache = Cache::new(Policy { evict_revoked: false, ..POLICY }, boot(1));
    for key in ["A", "B", "C"] {
        put(&cache, key, "1", Duration::ZERO);
    }
    let listing = || listed(&[("A", "1"), ("B", "1")]);
    for after in [HOUR, 2 * HOUR, 9 * HOUR] {
        assert_eq!(take(&cache, listing(), after).withheld, 1);
    }
    assert_eq!(accept(&cache, listing(), 10 * HOUR).removed, 1);
}

#[test]
fn denied_secret_does_not_affect_the_others() {
    let cache = with(&["A", "B", "C"]);
    let listing = Listing {
        denied: vec![(at("C"), "it is hidden".into())],
        ..listed(&[("A", "1"), ("B", "1")])
    };
    let counts = take(&cache, listing, HOUR);
    assert_eq!((counts.unchanged, counts.removed, counts.withheld), (2, 0, 0));
    assert_eq!(causes(&cache), [("C".into(), RemovalReason::Denied)]);
}

/// An unusable value means neither that the secret is gone nor that it is denied.
#[test]
fn unread_secret_stays_cached_and_ages() {
    let cache = with(&["A", "B", "C"]);
    for hours in 1..4 {
        let unread =
            vec![(at("B"), "it is too large".into()), (at("NEW"), "it is too large".into())];
        let listing = Listing { unread, ..listed(&[("A", "1"), ("C", "1")]) };
        let counts = take(&cache, listing, hours * HOUR);
        assert_eq!(counts, Counts { unchanged: 2, ..Counts::default() });
    }
    assert!(cache.contains(&at("B")) && !cache.contains(&at("NEW")));
    assert_eq!(cache.fetched(&at("B")), Some(time(Duration::ZERO)), "it ages");
    assert!(causes(&cache).is_empty());
}

/// The server refuses a whole listing because of one reference. That removes only the secret with the reference.
#[test]
fn secret_denied_twice_is_removed_alone() {
    let cache = with(&["A", "B", "C", "R"]);
    for hours in 1..4 {
        let denied = vec![(at("R"), "its reference leads to what is not ours".into())];
        let listing = Listing { denied, ..listed(&[("A", "1"), ("B", "1"), ("C", "1")]) };
        let counts = take(&cache, listing, hours * HOUR);
        assert_eq!((counts.unchanged, counts.withheld), (3, 0));
    }
    assert_eq!(cache.len(), 3);
    assert!(!cache.contains(&at("R")));
}

#[test]
fn listing_keeps_values_fetched_since_its_request() {
    let cache = with(&["A"]);
    let epoch = cache.begin_fetch();
    put(&cache, "A", "new", HOUR);
    put(&cache, "B", "new", HOUR);
    let (began, now) = (moment(HOUR / 2), moment(2 * HOUR));
    let taking = ReconcileOptions { epoch, began, now, accept: false, wanted: &|_| true };
    cache.reconcile(listed(&[("A", "old")]), &taking);
    for key in ["A", "B"] {
        assert!(is_fresh(&cache, key, HOUR, "new"), "{key}");
    }
}

/// An unregistered secret is not added; one that a script looked up before does not count as unlisted.
#[test]
fn unwanted_secret_is_neither_added_nor_removed() {
    let cache = with(&["A", "SCRIPT", "SCRIPT_2", "SCRIPT_3"]);
    let (epoch, now) = (cache.begin_fetch(), moment(2 * HOUR));
    let wanted = |of: &CacheKey| &*of.key == "A";
    let taking = ReconcileOptions { epoch, began: now, now, accept: false, wanted: &wanted };
    let listing =
        listed(&[("A", "1"), ("SCRIPT", "1"), ("SCRIPT_2", "1"), ("SCRIPT_3", "1"), ("B", "1")]);
    let counts = cache.reconcile(listing, &taking);
    assert_eq!(counts, Counts { unchanged: 1, ..Counts::default() });
    assert_eq!(cache.len(), 4);
    assert_eq!(cache.fetched(&at("SCRIPT")), Some(time(Duration::ZERO)), "it ages");
}

#[test]
fn listing_with_the_same_values_renews_entries() {
    let cache = with(&["A", "B"]);
    assert_eq!(take(&cache, listed(&[("A", "1"), ("B", "1")]), 5 * HOUR).unchanged, 2);
    assert!(is_fresh(&cache, "A", 6 * HOUR - SECOND, "1"));
    assert_eq!(cache.fetch_span(), Some((moment(5 * HOUR).wall, moment(5 * HOUR).wall)));
}
