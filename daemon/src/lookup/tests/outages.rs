//! Lookups while the provider fails.

use super::*;

/// The value is cached by a refresh, and was never served.
#[tokio::test(start_paused = true)]
async fn cached_value_is_served_in_an_outage_until_max_stale() {
    for error in [
        out(),
        ProviderError::Throttled { why: "slow down".into(), wait: SECOND },
        ProviderError::Unauthenticated { why: "locked".into(), wait: None },
    ] {
        let fixture = Fixture::new();
        fixture.refresh(RefreshScope::All, Duration::ZERO).await;
        fixture.provider.fail(error);
        let refused = fixture.lookup(25 * HOUR).await.unwrap_err();
        assert!(matches!(refused, ServiceError::Unavailable(why) if why.contains("max_stale")));
        assert_eq!(fixture.lookup(24 * HOUR).await.unwrap(), "one");
        assert_eq!(fixture.service.lookups().stale, 1);
    }
}

/// Podman asks again at each exec and healthcheck, and a failed lookup can end a healthy container.
#[tokio::test(start_paused = true)]
async fn served_value_stays_servable_past_max_stale_unless_revoked() {
    let fixture = Fixture::new();
    fixture.lookup(Duration::ZERO).await.unwrap();
    fixture.provider.fail(out());
    for days in [2, 20, 200] {
        assert_eq!(fixture.lookup(days * 24 * HOUR).await.unwrap(), "one");
    }
    let now = fixture.at(200 * 24 * HOUR);
    assert_eq!(fixture.service.cache.past_max_stale(now.boot), 1);
    // The provider is back, and its refusal counts.
    tokio::time::advance(HOUR).await;
    fixture.provider.fail(ProviderError::NotFound("gone".into()));
    assert_eq!(fixture.lookup(201 * 24 * HOUR).await.unwrap(), "one");
    let revoked = fixture.lookup(201 * 24 * HOUR + MINUTE).await.unwrap_err();
    assert!(matches!(revoked, ServiceError::NotFound(_)), "{revoked}");
}

#[tokio::test(start_paused = true)]
async fn single_failure_is_retried() {
    let fixture = Arc::new(Fixture::new());
    fixture.provider.fail(out());
    let lookups: Vec<_> = ["K", "L"]
        .into_iter()
        .map(|key| {
            fixture.provider.set(key, "one");
            let fixture = Arc::clone(&fixture);
            tokio::spawn(async move { fixture.lookup_of(key, Duration::ZERO).await })
        })
        .collect();
    tokio::time::advance(SECOND / 2).await;
    assert_eq!(fixture.outage_is_confirmed(), Some(false), "it is no outage yet");
    fixture.provider.fail(None);
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap().unwrap(), "one");
    }
    assert_eq!(fixture.outage_is_confirmed(), None);
}

#[tokio::test(start_paused = true)]
async fn requests_are_few_in_an_outage() {
    let fixture = Fixture::new();
    fixture.provider.fail(out());
    for key in 0..100 {
        let found = fixture.lookup_of(&format!("K{key}"), Duration::ZERO).await;
        assert!(matches!(found, Err(ServiceError::Unavailable(_))));
    }
    // Two requests: a single failure is retried.
    assert_eq!(fixture.provider.fetches(), 2);
    assert_eq!(fixture.outage_is_confirmed(), Some(true));
    tokio::time::advance(29 * SECOND).await;
    fixture.lookup(Duration::ZERO).await.unwrap_err();
    assert_eq!(fixture.provider.fetches(), 2);
    tokio::time::advance(10 * SECOND).await;
    fixture.provider.fail(None);
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "one");
    assert_eq!((fixture.provider.fetches(), fixture.outage_is_confirmed()), (3, None));
}

#[tokio::test(start_paused = true)]
async fn rate_limit_of_the_provider_is_obeyed() {
    let fixture = Fixture::new();
    fixture.provider.fail(ProviderError::Throttled { why: "429".into(), wait: 600 * SECOND });
    for _ in 0..10 {
        fixture.lookup(Duration::ZERO).await.unwrap_err();
        fixture.refresh(RefreshScope::All, Duration::ZERO).await;
        fixture.refresh(RefreshScope::Due, 9 * HOUR).await;
    }
    // Listings and single values have separate rate limits.
    assert_eq!((fixture.provider.fetches(), fixture.provider.lists()), (1, 1));
    tokio::time::advance(600 * SECOND).await;
    fixture.provider.fail(None);
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn lookup_with_a_cached_value_waits_1_s_for_a_hanging_provider() {
    let fixture = Fixture::new();
    fixture.lookup(Duration::ZERO).await.unwrap();
    let gate = fixture.provider.close_gate();
    let asked = Instant::now();
    assert_eq!(fixture.lookup(2 * HOUR).await.unwrap(), "one");
    assert_eq!(asked.elapsed(), STALE_WAIT);
    // The next lookup does not wait.
    let asked = Instant::now();
    assert_eq!(fixture.lookup(2 * HOUR).await.unwrap(), "one");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(fixture.provider.fetches(), 2);
    gate.notify_one();
}

#[tokio::test(start_paused = true)]
async fn lookup_without_a_cached_value_waits_until_its_deadline() {
    let fixture = Fixture::new();
    let _gate = fixture.provider.close_gate();
    let asked = Instant::now();
    let error = fixture.lookup(Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("in time"), "{error}");
    assert_eq!(asked.elapsed(), 9 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn self_test_names_secrets_that_fail_in_an_outage_now_and_after_a_reboot() {
    let fixture = Fixture::new();
    let id =
        fixture.register("0123456789abcdef012345678", r#"{"provider":"fake","key":"K"}"#).await;
    let test = |span, persisted| {
        let around =
            SelfTestContext { persisted, key: Reach::Ready, invalidated_unconfirmed: None };
        let found = fixture.service.self_test(fixture.at(span), &around);
        assert_eq!((found.registered, found.unknown_why.len()), (1, 0));
        (found.now.surely, found.after_reboot.surely)
    };
    let (none, one) = (Vec::new(), vec![id]);
    assert_eq!(test(Duration::ZERO, true), (one.clone(), one.clone()));
    fixture.refresh(RefreshScope::All, Duration::ZERO).await;
    assert_eq!(test(HOUR, true), (none.clone(), none.clone()));
    assert_eq!(test(HOUR, false), (none.clone(), one.clone()));
    assert_eq!(test(25 * HOUR, true), (one.clone(), one.clone()));
    // A served value stays servable, but no container survives a reboot.
    fixture.lookup(HOUR).await.unwrap();
    assert_eq!(test(26 * HOUR, true), (none, one));
}

/// The self-test does not report success without knowledge (A4).
#[tokio::test(start_paused = true)]
async fn self_test_reports_unknown_as_unknown() {
    let fixture = Fixture::new();
    let test = |key: Reach, invalidated_unconfirmed: Option<&str>| {
        let invalidated_unconfirmed = invalidated_unconfirmed.map(str::to_owned);
        let around = SelfTestContext { persisted: true, key, invalidated_unconfirmed };
        let found = fixture.service.self_test(fixture.at(HOUR), &around);
        let why = found.unknown_why.into_iter().collect::<Vec<_>>().join("; ");
        (found.now.verdict(), found.after_reboot.verdict(), why)
    };
    let unknown = || Reach::Unknown("the key was only delivered".into());
    // Nothing is registered, and podman may have secrets.
    let (now, after_reboot, why) = test(Reach::Ready, None);
    assert_eq!((now, after_reboot), (Certainty::Unknown, Certainty::Unknown));
    assert!(why.contains("no secret is registered"), "{why}");
    fixture.register("0123456789abcdef012345678", r#"{"provider":"fake","key":"K"}"#).await;
    // The key is being unlocked: a missing entry may be restored soon.
    let (now, after_reboot, why) = test(unknown(), Some("the key is being opened"));
    assert_eq!((now, after_reboot), (Certainty::Unknown, Certainty::Unknown));
    assert_eq!(why, "the key is being opened");
    let (now, after_reboot, _) = test(Reach::Ready, None);
    assert_eq!((now, after_reboot), (Certainty::No, Certainty::No));
    fixture.refresh(RefreshScope::All, HOUR).await;
    assert_eq!(test(Reach::Ready, None), (Certainty::Yes, Certainty::Yes, String::new()));
    // The cache file is useless without its key.
    let (now, after_reboot, _) = test(Reach::Out, None);
    assert_eq!((now, after_reboot), (Certainty::Yes, Certainty::No));
    let (now, after_reboot, why) = test(unknown(), None);
    assert_eq!((now, after_reboot), (Certainty::Yes, Certainty::Unknown));
    assert_eq!(why, "the key was only delivered");
}

/// The counts of lookups by source add up (H7).
#[tokio::test(start_paused = true)]
async fn each_lookup_is_counted_once() {
    let fixture = Fixture::new();
    let counts = || fixture.service.lookups();
    fixture.lookup(Duration::ZERO).await.unwrap();
    fixture.lookup(Duration::ZERO).await.unwrap();
    assert_eq!(counts(), LookupCounts { hits: 1, stale: 0, misses: 1, failed: 0 });
    fixture.lookup_of("UNKNOWN", Duration::ZERO).await.unwrap_err();
    let name = SecretSelector::Name("nobody--K".into());
    let now = fixture.at(Duration::ZERO);
    assert!(fixture.service.lookup(&name, Principal::Admin, now, now.mono + SECOND).await.is_err());
    assert_eq!(counts(), LookupCounts { hits: 1, stale: 0, misses: 1, failed: 2 });
    // A stale value after a failed request is one lookup, neither a hit nor a miss.
    fixture.provider.fail(out());
    fixture.lookup(2 * HOUR).await.unwrap();
    assert_eq!(counts(), LookupCounts { hits: 1, stale: 1, misses: 1, failed: 2 });
    fixture.lookup_of("UNKNOWN2", Duration::ZERO).await.unwrap_err();
    assert_eq!(counts(), LookupCounts { hits: 1, stale: 1, misses: 1, failed: 3 });
}

#[tokio::test(start_paused = true)]
async fn drill_simulates_an_outage_without_requests() {
    let fixture = Fixture::new();
    fixture.lookup(Duration::ZERO).await.unwrap();
    let now = Instant::now();
    let lease = fixture.service.drill.begin(now + MINUTE, now);
    let mut lease = lease.unwrap_or_else(|_| panic!("no drill"));
    // The stale value is served at once.
    assert_eq!(fixture.lookup(2 * HOUR).await.unwrap(), "one");
    let error = fixture.lookup_of("UNKNOWN", Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("a drill treats it as out"), "{error}");
    let done = fixture.refresh(RefreshScope::All, Duration::ZERO).await.done;
    assert!(done[0].result.as_ref().unwrap_err().contains("a drill"));
    assert_eq!((fixture.provider.calls(), fixture.outage_is_confirmed()), (1, None));
    assert_eq!(now.elapsed(), Duration::ZERO);
    assert_eq!(lease.failed().await.unwrap().secret, "app--UNKNOWN");
    drop(lease);
    assert!(matches!(
        fixture.lookup_of("UNKNOWN", Duration::ZERO).await,
        Err(ServiceError::NotFound(_))
    ));
}
