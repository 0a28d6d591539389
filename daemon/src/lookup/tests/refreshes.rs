//! Refreshes.

use super::*;

#[tokio::test(start_paused = true)]
async fn refresh_is_one_listing_and_a_failed_one_removes_nothing() {
    let fixture = Fixture::new();
    fixture.provider.set("L", "two");
    let done = fixture.refresh(RefreshScope::All, Duration::ZERO).await.done;
    assert_eq!(done[0].result.as_ref().unwrap().added, 2);
    assert_eq!(fixture.provider.lists(), 1);
    fixture.provider.fail(out());
    assert!(fixture.refresh(RefreshScope::All, HOUR).await.done[0].result.is_err());
    assert_eq!(fixture.service.cache.len(), 2);
    assert_eq!(fixture.lookup(HOUR / 2).await.unwrap(), "one");
    assert_eq!(fixture.provider.fetches(), 0);
}

#[tokio::test(start_paused = true)]
async fn refresh_removes_unlisted_entries() {
    let fixture = Fixture::new();
    fixture.provider.set("L", "two");
    fixture.refresh(RefreshScope::All, Duration::ZERO).await;
    fixture.provider.remove("L");
    let done = fixture.refresh(RefreshScope::All, HOUR).await.done;
    let counts = done[0].result.clone().unwrap();
    assert_eq!((counts.unchanged, counts.removed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn refresh_joins_a_running_one_of_the_same_scope() {
    let fixture = Fixture::new();
    let gate = fixture.provider.close_gate();
    let start = |order| fixture.refresher.start(order, fixture.start);
    let (first, second, third) = (
        start(RefreshScope::All),
        start(RefreshScope::Due),
        start(RefreshScope::AllAcceptingRemovals),
    );
    tokio::time::advance(SECOND).await;
    assert_eq!(fixture.provider.lists(), 1);
    fixture.provider.open_gate();
    gate.notify_one();
    for mut progress in [first, second, third] {
        progress.wait_for(|progress| progress.ended).await.unwrap();
    }
    assert_eq!(fixture.provider.lists(), 2);
}

#[tokio::test(start_paused = true)]
async fn refresh_with_the_same_values_renews_entries() {
    let fixture = Fixture::new();
    fixture.refresh(RefreshScope::All, Duration::ZERO).await;
    let done = fixture.refresh(RefreshScope::All, HOUR).await.done;
    let counts = done[0].result.clone().unwrap();
    assert_eq!((counts.unchanged, counts.changed), (1, 0));
    assert_eq!(fixture.lookup(2 * HOUR - SECOND).await.unwrap(), "one");
    assert_eq!((fixture.provider.lists(), fixture.provider.fetches()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn refresh_brings_back_an_invalidated_secret() {
    let fixture = Fixture::new();
    fixture.refresh(RefreshScope::All, Duration::ZERO).await;
    fixture.service.invalidate(&SecretSelector::Name("app--K".into())).unwrap();
    let done = fixture.refresh(RefreshScope::All, HOUR).await.done;
    assert_eq!(done[0].result.clone().unwrap().added, 1);
}

#[tokio::test(start_paused = true)]
async fn withheld_removal_is_confirmed_by_a_second_listing_or_accepted() {
    for (order, after) in
        [(RefreshScope::All, MINUTE), (RefreshScope::AllAcceptingRemovals, SECOND)]
    {
        let fixture = Fixture::new();
        let id =
            fixture.register("0123456789abcdef012345678", r#"{"provider":"fake","key":"K"}"#).await;
        fixture.refresh(RefreshScope::All, Duration::ZERO).await;
        fixture.provider.remove("K");
        let done = fixture.refresh(RefreshScope::All, HOUR).await.done;
        assert_eq!(done[0].result.clone().unwrap().withheld, 1);
        let withheld = fixture.service.withheld(fixture.at(HOUR + MINUTE));
        assert_eq!(
            (withheld.len(), withheld[0].cause, &withheld[0].ids[..]),
            (1, RemovalReason::Unlisted, &[id][..])
        );
        assert_eq!(
            (withheld[0].name.as_str(), withheld[0].since),
            ("fake /app/K", fixture.at(HOUR).wall)
        );
        // Lookups send no request, and confirm nothing.
        assert_eq!(fixture.lookup(HOUR + 2 * MINUTE).await.unwrap(), "one");
        assert_eq!(fixture.provider.fetches(), 0);
        let done = fixture.refresh(order, HOUR + after).await.done;
        assert_eq!(done[0].result.clone().unwrap().removed, 1);
        assert!(fixture.service.withheld(fixture.at(2 * HOUR)).is_empty());
        let totals = fixture.refresher.totals();
        assert_eq!((totals.done, totals.withheld, totals.removed), (3, 1, 1));
    }
}

/// A failing source does not affect the others, and is reported until it succeeds (N13).
#[tokio::test(start_paused = true)]
async fn n13_a_source_that_fails_leaves_the_others_done() {
    let fixture = Fixture::with_directories(&["/a", "/app", "/z"]);
    let gone = ProviderError::NotFound("no such directory".into());
    fixture.provider.error_of.lock().unwrap().insert("/a".into(), gone);
    let done = fixture.refresh(RefreshScope::All, Duration::ZERO).await.done;
    let results: Vec<bool> = done.iter().map(|done| done.result.is_ok()).collect();
    assert_eq!(results, [false, true, true]);
    assert_eq!(fixture.refresher.last().unwrap().failed, ["p:/a: no such directory"]);
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn refresh_in_an_outage_requests_one_source_only() {
    let fixture = Fixture::with_directories(&["/a", "/app", "/z"]);
    fixture.provider.fail(out());
    let done = fixture.refresh(RefreshScope::All, Duration::ZERO).await.done;
    let why: Vec<_> = done.iter().map(|done| done.result.clone().unwrap_err()).collect();
    // Two requests: a single failure is retried.
    assert_eq!(
        why,
        ["connection refused", "connection refused", "not asked: fake is out (connection refused)"]
    );
    assert_eq!(fixture.provider.lists(), 2);
    // A source that was not requested does not count as failed.
    assert_eq!(fixture.refresher.totals().failed, 2);
}

/// Each refresh by an admin sends requests, and does not lengthen the pauses of others (A6).
#[tokio::test(start_paused = true)]
async fn refresh_by_an_admin_always_sends_requests() {
    let fixture = Fixture::new();
    fixture.provider.fail(out());
    for lists in 1..=5 {
        fixture.refresh(RefreshScope::All, Duration::ZERO).await;
        assert_eq!(fixture.provider.lists(), lists);
    }
    fixture.provider.fail(None);
    let done = fixture.refresh(RefreshScope::All, Duration::ZERO).await.done;
    assert!(done[0].result.is_ok());
}

/// Any error of one source leaves the others refreshed, rotated and revoked (B1).
#[tokio::test(start_paused = true)]
async fn failing_source_does_not_stop_the_others() {
    for error in [
        ProviderError::Failed("Infisical answers 500".into()),
        ProviderError::Failed("a firewall's page".into()),
        ProviderError::TimedOut("no answer in time".into()),
        ProviderError::Unauthenticated { why: "the token is refused".into(), wait: None },
    ] {
        let fixture = Fixture::with_directories(&["/a", "/app", "/z"]);
        fixture.provider.set("L", "one");
        fixture.provider.set("M", "one");
        fixture.refresh(RefreshScope::All, Duration::ZERO).await;
        fixture.provider.error_of.lock().unwrap().insert("/a".into(), error.clone());
        for round in 1..20 {
            fixture.provider.set("K", &format!("{round}"));
            let order = if round % 2 == 0 { RefreshScope::All } else { RefreshScope::Due };
            let done = fixture.refresh(order, (2 * round) * HOUR).await.done;
            let failed: Vec<_> = done.iter().filter(|done| done.result.is_err()).collect();
            assert_eq!(failed.len(), 1, "round {round} of {error}");
            assert_eq!(failed[0].result.clone().unwrap_err(), error.to_string());
            assert_eq!(failed[0].source, "p:/a");
            assert_eq!(fixture.lookup((2 * round) * HOUR).await.unwrap(), format!("{round}"));
            assert_eq!(fixture.outage_is_confirmed(), None);
            if round > 1 {
                assert_eq!(done[2].source, "p:/a", "what was well is asked first");
            }
        }
        // An uncached, good secret in another directory.
        fixture.provider.set("NEW", "two");
        assert_eq!(fixture.lookup_of("NEW", 40 * HOUR).await.unwrap(), "two");
        fixture.provider.remove("L");
        let done = fixture.refresh(RefreshScope::All, 42 * HOUR).await.done;
        assert_eq!(done[0].result.clone().unwrap().removed, 1);
    }
}

/// A deleted secret is removed, whatever fails; others stay only in a namespace with a failure (B5).
#[tokio::test(start_paused = true)]
async fn deleted_secret_is_removed_although_a_source_fails() {
    let fixture = Fixture::with_directories(&["/a"]);
    let id =
        fixture.register("0123456789abcdef012345678", r#"{"provider":"fake","key":"K"}"#).await;
    fixture.lookup(Duration::ZERO).await.unwrap();
    let gone = ProviderError::NotFound("no such project".into());
    fixture.provider.error_of.lock().unwrap().insert("/a".into(), gone);
    let delete = |span| fixture.service.delete(id, fixture.at(span), false, Principal::Admin);
    delete(HOUR).await.unwrap();
    // `create --replace` stores it again at once.
    fixture.refresher.drop_deleted(fixture.at(HOUR + SECOND));
    assert_eq!(fixture.service.cache.len(), 1);
    fixture.register(&id.to_string(), r#"{"provider":"fake","key":"K"}"#).await;
    fixture.refresher.drop_deleted(fixture.at(HOUR + MINUTE));
    assert_eq!(fixture.service.cache.len(), 1);
    // Without a new store, it is removed without a refresh.
    delete(2 * HOUR).await.unwrap();
    fixture.refresher.drop_deleted(fixture.at(2 * HOUR + MINUTE));
    assert_eq!(fixture.service.cache.len(), 0);
    assert!(fixture.service.take_deleted(fixture.at(3 * HOUR).wall, Duration::ZERO).is_empty());
    // An unregistered secret stays longer than a week while its namespace has a failing source.
    fixture.lookup(3 * HOUR).await.unwrap();
    fixture.refresh(RefreshScope::All, 9 * 24 * HOUR).await;
    assert_eq!(fixture.service.cache.len(), 1);
    fixture.provider.error_of.lock().unwrap().clear();
    fixture.refresh(RefreshScope::All, 9 * 24 * HOUR + MINUTE).await;
    assert_eq!(fixture.service.cache.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn source_denied_twice_is_removed() {
    let fixture = Fixture::new();
    fixture.refresh(RefreshScope::All, Duration::ZERO).await;
    fixture.provider.fail(ProviderError::Denied("no".into()));
    fixture.refresh(RefreshScope::All, HOUR).await;
    assert_eq!(fixture.service.withheld(fixture.at(HOUR))[0].cause, RemovalReason::Denied);
    fixture.refresh(RefreshScope::All, HOUR + MINUTE).await;
    assert!(fixture.service.cache.is_empty());
}

/// The workload takes these keys of its source only.
fn select(fixture: &Fixture, keys: &[&str]) {
    let mut workloads = fixture.service.upstreams().workloads.clone();
    let keys = keys.iter().map(|key| ((*key).to_owned(), (*key).to_owned())).collect();
    workloads.get_mut("app").unwrap().sources[0].selected = Some(keys);
    let fake = Arc::new(Upstream::new("fake", Box::new(Arc::clone(&fixture.provider))));
    fixture.service.follow(Upstreams { providers: [("fake".into(), fake)].into(), workloads });
}

#[tokio::test(start_paused = true)]
async fn refresh_caches_the_selected_and_registered_keys_of_a_source() {
    let fixture = Fixture::new();
    for key in ["L", "M", "N"] {
        fixture.provider.set(key, "one");
    }
    select(&fixture, &["K"]);
    let reference = r#"{"provider":"fake","key":"L"}"#;
    fixture.register("0123456789abcdef012345678", reference).await;
    let cached = |fixture: &Fixture| -> Vec<String> {
        let keys = ["K", "L", "M", "N"].into_iter();
        let keys = keys.filter(|key| fixture.service.cache.entry(&cache_key(key)).is_some());
        keys.map(str::to_owned).collect()
    };
    let done = fixture.refresh(RefreshScope::All, Duration::ZERO).await.done;
    assert_eq!((done.len(), cached(&fixture)), (1, vec!["K".to_owned(), "L".to_owned()]));
    select(&fixture, &["K", "M"]);
    fixture.refresh(RefreshScope::All, HOUR).await;
    assert_eq!(cached(&fixture), ["K", "L", "M"]);
    // No longer selected: kept for a week, as any value that nothing names.
    select(&fixture, &["K"]);
    fixture.refresh(RefreshScope::All, 2 * HOUR).await;
    assert_eq!(cached(&fixture), ["K", "L", "M"]);
    fixture.refresh(RefreshScope::All, 8 * 24 * HOUR).await;
    assert_eq!(cached(&fixture), ["K", "L"]);
}

#[tokio::test(start_paused = true)]
async fn refresh_of_a_provider_asks_no_other() {
    let fixture = Fixture::new();
    let other = Arc::new(Scripted::default());
    let mut workloads = fixture.service.upstreams().workloads.clone();
    let of_other = Workload { provider: "other".into(), ..workloads["app"].clone() };
    workloads.insert("of-other".into(), of_other);
    let upstream = |name: &str, provider: &Arc<Scripted>| {
        (name.to_owned(), Arc::new(Upstream::new(name, Box::new(Arc::clone(provider)))))
    };
    let providers = [upstream("fake", &fixture.provider), upstream("other", &other)].into();
    fixture.service.follow(Upstreams { providers, workloads });
    let done = fixture.refresh(RefreshScope::OfProvider("other".into()), HOUR).await.done;
    let asked: Vec<&str> = done.iter().map(|one| one.provider.as_str()).collect();
    assert_eq!((asked, other.lists(), fixture.provider.lists()), (vec!["other"], 1, 0));
    fixture.refresh(RefreshScope::All, 2 * HOUR).await;
    assert_eq!((other.lists(), fixture.provider.lists()), (2, 1));
}
