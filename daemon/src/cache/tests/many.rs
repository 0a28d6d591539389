//! Work on many keys, for which the lock is released after each of them.

use super::*;

const MANY: usize = 641;

fn name(number: usize) -> String {
    format!("K{number:05}")
}

fn full(count: usize) -> Cache {
    let cache = cache();
    for number in 0..count {
        put(&cache, &name(number), "1", Duration::ZERO);
    }
    cache
}

fn in_directory(path: &str, recursive: bool) -> ListingScope {
    ListingScope { path: path.into(), recursive, ..scope() }
}

fn put_in(cache: &Cache, path: &str, count: usize) {
    let (epoch, now) = (cache.begin_fetch(), moment(Duration::ZERO));
    for number in 0..count {
        let key = CacheKey::new(scope().namespace, path, name(number));
        cache.put(&key, Entry::new(secret("1"), now.wall), now, epoch);
    }
}

#[test]
fn snapshot_of_many_entries_is_complete_and_in_order() {
    for count in [0, 1, 127, 128, 129, 256, MANY] {
        let keys: Vec<_> = full(count)
            .snapshot(1)
            .sorted()
            .entries
            .iter()
            .map(|(key, _)| key.key.to_string())
            .collect();
        assert_eq!(keys, (0..count).map(name).collect::<Vec<_>>());
    }
}

#[test]
fn scope_contains_its_directories_and_no_sibling() {
    let cache = cache();
    // By their bytes, `/app!` and `/app-b` are between `/app` and `/app/sub`.
    let paths = ["/", "/ap", "/app", "/app!", "/app-b", "/app/sub", "/app/sub/deep", "/app0"];
    for path in paths {
        put_in(&cache, path, 130);
    }
    let elsewhere = CacheKey::new(Namespace::new(&["q"]), "/app", "K");
    let (epoch, now) = (cache.begin_fetch(), moment(Duration::ZERO));
    cache.put(&elsewhere, Entry::new(secret("1"), now.wall), now, epoch);
    let size = |path, recursive| cache.entries_in(&in_directory(path, recursive)).len();
    for path in paths {
        assert_eq!(size(path, false), 130, "{path}");
    }
    assert_eq!(size("/app", true), 3 * (130));
    assert_eq!(size("/app/sub", true), 2 * (130));
    assert_eq!(size("/", true), paths.len() * (130));
    assert_eq!((size("/nothing", true), size("/nothing", false)), (0, 0));
    assert!(cache.is_known_without(&CacheKey::new(scope().namespace, "/app", "NEW")));
    assert!(!cache.is_known_without(&CacheKey::new(scope().namespace, "/app", name(0))));
    assert!(!cache.is_known_without(&CacheKey::new(scope().namespace, "/nothing", "NEW")));
}

#[test]
fn oldest_fetch_of_a_scope_is_that_of_its_entries() {
    let cache = full(2);
    assert_eq!(cache.oldest_fetch(&scope()), Some(time(Duration::ZERO)));
    put(&cache, &name(0), "1", HOUR);
    put(&cache, &name(1), "1", 2 * HOUR);
    assert_eq!(cache.oldest_fetch(&scope()), Some(time(HOUR)));
    assert_eq!(cache.oldest_fetch(&in_directory("/other", true)), None);
}

#[test]
fn listing_of_many_secrets_is_reconciled_whole() {
    let cache = full(MANY);
    // A third is gone, a third is changed, and as many are new.
    let found = || {
        let value = |number| if number % 2 == 0 { "1" } else { "2" };
        let numbers = MANY / 3..MANY + MANY / 3;
        numbers.map(|number| (at(&name(number)), secret(value(number)))).collect::<Vec<_>>()
    };
    let listing = Listing { scopes: vec![scope()], found: found(), ..Listing::default() };
    let counts = take(&cache, listing, HOUR);
    let (kept, gone) = ((MANY - MANY / 3) as u64, (MANY / 3) as u64);
    assert_eq!((counts.added, counts.removed, counts.withheld), (gone, gone, 0));
    assert_eq!(counts.changed + counts.unchanged, kept);
    let entries = cache.entries_in(&scope());
    assert_eq!(entries.len(), found().len());
    for ((key, value), (cached, entry)) in found().iter().zip(&entries) {
        assert!(key == cached && value.same_as(entry.value()), "{key}");
    }
}

#[test]
fn mass_removal_guard_counts_entries_of_overlapping_scopes_once() {
    let cache = full(4);
    let scopes = vec![scope(), in_directory("/", true), scope()];
    let listing = Listing { scopes, ..listed(&[(&name(0), "1"), (&name(1), "1")]) };
    assert_eq!(take(&cache, listing, HOUR).removed, 2);
}

/// Lookups, fetches and invalidations run during a listing, and count.
#[test]
fn lock_is_free_during_a_listing() {
    let cache = full(MANY);
    let found: Vec<_> = (0..MANY).map(|number| (at(&name(number)), secret("2"))).collect();
    let listing = Listing { scopes: vec![scope()], found, ..Listing::default() };
    let (epoch, now) = (cache.begin_fetch(), moment(HOUR));
    let last = at(&name(MANY - 1));
    let changes_before = AtomicU64::new(0);
    let wanted = |key: &CacheKey| {
        assert!(matches!(
            cache.get(&at(&name(0)), now.boot),
            CacheLookup::Stale { .. } | CacheLookup::Fresh(_)
        ));
        if *key == at(&name(128)) {
            assert!(is_fresh(&cache, &name(0), HOUR, "2"), "it is listed before");
            assert!(cache.invalidate(&last));
            put(&cache, &name(MANY - 2), "3", 2 * HOUR);
            changes_before.store(cache.changes(), Ordering::Relaxed);
        }
        true
    };
    let options = ReconcileOptions { epoch, began: now, now, accept: false, wanted: &wanted };
    cache.reconcile(listing, &options);
    assert!(!cache.contains(&last), "it was invalidated after the listing was requested");
    assert!(is_fresh(&cache, &name(MANY - 2), 2 * HOUR, "3"), "it was fetched since");
    let before = changes_before.into_inner();
    assert!(
        before > 0 && cache.changes() > before,
        "a write that is under way is followed by another one"
    );
}

/// Most of a listing is unchanged as a rule. That part is renewed beside other readers of the lock.
#[test]
fn unchanged_part_of_a_listing_needs_no_exclusive_lock() {
    let cache = full(MANY);
    let found: Vec<_> = (0..MANY).map(|number| (at(&name(number)), secret("1"))).collect();
    let (epoch, now) = (cache.begin_fetch(), moment(HOUR));
    let options = ReconcileOptions { epoch, began: now, now, accept: false, wanted: &|_| true };
    let renew = |key: &CacheKey, value: &SecretBytes| {
        cache.state.read().renew_unchanged(key, value, &options)
    };
    let reader = cache.state.read();
    for (key, value) in &found {
        assert!(renew(key, value), "{key}");
    }
    drop(reader);
    assert!(is_fresh(&cache, &name(0), 2 * HOUR - SECOND, "1"));
    // Another value, a pending removal and an invalidation since the request need it.
    assert!(!renew(&at(&name(0)), &secret("2")));
    cache.note_refusal(&at(&name(1)), gone(), time(HOUR));
    assert!(!renew(&at(&name(1)), &secret("1")));
    cache.invalidate(&at(&name(2)));
    assert!(!renew(&at(&name(2)), &secret("1")));
    assert!(!renew(&at("NEW"), &secret("1")));
}
