//! Lookups while the provider works.

use super::*;

#[tokio::test(start_paused = true)]
async fn fresh_value_is_not_requested_again() {
    let fixture = Fixture::new();
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "one");
    fixture.provider.set("K", "two");
    assert_eq!(fixture.lookup(HOUR / 2).await.unwrap(), "one");
    assert_eq!(fixture.provider.fetches(), 1);
    assert_eq!(fixture.lookup(HOUR).await.unwrap(), "two");
    let lookups = fixture.service.lookups();
    assert_eq!(lookups, LookupCounts { hits: 1, stale: 0, misses: 2, failed: 0 });
}

/// The listing of a huge source is reconciled for some time; a healthcheck must not wait for that.
#[tokio::test(start_paused = true)]
async fn hit_does_not_wait_for_a_listing() {
    let fixture = Fixture::new();
    let reference = r#"{"provider":"fake","path":"/app","key":"K"}"#;
    let wanted = SecretSelector::Id(fixture.register("0123456789abcdef012345678", reference).await);
    let now = fixture.at(Duration::ZERO);
    let lookup = || fixture.service.lookup(&wanted, Principal::Admin, now, now.mono + 9 * SECOND);
    // The first lookup fetches the value, the second one is a hit.
    for _ in 0..2 {
        lookup().await.unwrap();
    }
    let (change, changing) = std::sync::mpsc::channel();
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let cache = Arc::clone(&fixture.service.cache);
        let changer = scope.spawn(move || {
            // The listing stops in the middle of its entries until the hit has returned.
            let (answered, outcome) = (Mutex::new(answered), std::sync::OnceLock::new());
            let wanted = |key: &CacheKey| {
                if &*key.key == "K500" {
                    change.send(()).unwrap();
                    let answer = answered.lock().unwrap().recv_timeout(Duration::from_secs(20));
                    outcome.set(answer).unwrap();
                }
                true
            };
            let found = (0..1_000).map(|number| {
                let key = CacheKey::new(Namespace::new(&["fake"]), "/many", format!("K{number}"));
                (key, SecretBytes::new(b"value".to_vec()))
            });
            let listing = Listing { found: found.collect(), ..Listing::default() };
            let epoch = cache.begin_fetch();
            let options =
                ReconcileOptions { epoch, began: now, now, accept: false, wanted: &wanted };
            cache.reconcile(listing, &options);
            outcome.into_inner().unwrap()
        });
        changing.recv().unwrap();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(lookup()).poll(&mut context).is_ready());
        // The receiver is gone if the hit waited.
        let _ = answer.send(());
        assert_eq!(changer.join().unwrap(), Ok(()), "the hit waited");
    });
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_share_one_fetch() {
    let fixture = Arc::new(Fixture::new());
    let gate = fixture.provider.close_gate();
    let waiters: Vec<_> = (0..32)
        .map(|_| {
            let fixture = Arc::clone(&fixture);
            tokio::spawn(async move { fixture.lookup(Duration::ZERO).await.unwrap() })
        })
        .collect();
    tokio::time::advance(SECOND).await;
    gate.notify_one();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), "one");
    }
    assert_eq!(fixture.provider.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn removal_and_denial_take_effect_when_confirmed() {
    for error in [ProviderError::NotFound("gone".into()), ProviderError::Denied("no".into())] {
        let fixture = Fixture::new();
        fixture.lookup(Duration::ZERO).await.unwrap();
        fixture.provider.fail(error.clone());
        assert_eq!(fixture.lookup(HOUR).await.unwrap(), "one");
        assert_eq!(fixture.lookup(HOUR + 59 * SECOND).await.unwrap(), "one");
        assert_eq!(fixture.provider.fetches(), 2, "it is not asked before it can confirm it");
        for span in [HOUR + MINUTE, HOUR + 2 * MINUTE, 2 * HOUR] {
            let confirmed = fixture.lookup(span).await.unwrap_err();
            let words = confirmed.to_string();
            match error {
                ProviderError::NotFound(_) => {
                    assert!(matches!(confirmed, ServiceError::NotFound(_)), "{words}");
                }
                _ => assert!(matches!(confirmed, ServiceError::Denied(_)), "{words}"),
            }
        }
        // Later lookups send no request either.
        assert_eq!(fixture.provider.fetches(), 3);
        assert!(fixture.service.cache.is_empty());
    }
}

/// In an outage, a value past max_stale is refused as too old; a revoked one is refused as revoked.
#[tokio::test(start_paused = true)]
async fn refusal_is_reported_for_a_value_past_max_stale() {
    let fixture = Fixture::new();
    fixture.refresh(RefreshScope::All, Duration::ZERO).await;
    fixture.provider.fail(ProviderError::NotFound("gone".into()));
    let error = fixture.lookup(48 * HOUR).await.unwrap_err();
    assert!(matches!(error, ServiceError::NotFound(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn absent_secret_is_not_requested_again_at_once() {
    let fixture = Fixture::new();
    fixture.provider.remove("K");
    for _ in 0..10 {
        assert!(matches!(fixture.lookup(Duration::ZERO).await, Err(ServiceError::NotFound(_))));
    }
    assert_eq!(fixture.provider.fetches(), 1);
    fixture.provider.set("K", "new");
    assert_eq!(fixture.lookup(10 * SECOND).await.unwrap(), "new");
}

/// A provider with bad responses must not receive more requests than one with good responses.
#[tokio::test(start_paused = true)]
async fn bad_response_is_not_requested_again_at_each_lookup() {
    let fixture = Fixture::new();
    fixture.lookup(Duration::ZERO).await.unwrap();
    fixture.provider.fail(ProviderError::Misbehaved("422".into()));
    for second in 0..59 {
        assert_eq!(fixture.lookup(2 * HOUR + second * SECOND).await.unwrap(), "one");
    }
    assert_eq!(fixture.provider.fetches(), 2);
    for _ in 0..10 {
        let error = fixture.lookup_of("UNKNOWN", 2 * HOUR).await.unwrap_err();
        assert!(matches!(&error, ServiceError::Unavailable(why) if why.contains("422")), "{error}");
    }
    assert_eq!(fixture.provider.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn invalidation_wins_over_an_earlier_fetch() {
    let fixture = Arc::new(Fixture::new());
    let gate = fixture.provider.close_gate();
    let asking = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.lookup(Duration::ZERO).await.unwrap() }
    });
    tokio::time::advance(Duration::from_millis(1)).await;
    fixture.provider.set("K", "two");
    fixture.service.invalidate(&SecretSelector::Name("app--K".into())).unwrap();
    gate.notify_one();
    // The lookup that began before gets the old value; no other does.
    assert_eq!(asking.await.unwrap(), "one");
    assert!(fixture.service.cache.is_empty());
    fixture.provider.open_gate();
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "two");
}

/// The boot of the last lookup is persisted by one write, not at each lookup.
#[tokio::test(start_paused = true)]
async fn first_lookup_in_a_boot_is_persisted_and_later_ones_are_not() {
    let fixture = Fixture::new();
    fixture.refresh(RefreshScope::All, Duration::ZERO).await;
    let changes = || fixture.service.cache.changes();
    let before = changes();
    for _ in 0..10 {
        fixture.lookup(Duration::ZERO).await.unwrap();
    }
    assert_eq!(changes(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn data_with_a_configured_provider_is_a_reference() {
    let fixture = Fixture::new();
    let classify = |text: &str, kind| {
        fixture.service.classify(SecretBytes::new(text.into()), kind, Principal::Admin)
    };
    let reference = r#"{"provider":"fake","key":"K"}"#;
    assert!(matches!(classify(reference, DataKind::Auto), Ok(Registration::Reference(..))));
    assert!(matches!(classify(reference, DataKind::Literal), Ok(Registration::Literal(_))));
    for text in ["s3cret", "{}", r#"{"provider":1}"#, "[1]"] {
        assert!(matches!(classify(text, DataKind::Auto), Ok(Registration::Literal(_))));
        assert!(matches!(classify(text, DataKind::Reference), Err(ServiceError::Malformed(_))));
    }
    for text in [
        r#"{"provider":"fake"}"#,
        r#"{"provider":"fake","key":1}"#,
        r#"{"provider":"other","key":"K"}"#,
        r#"{"provider":"infisical","key":"K"}"#,
        r#"{"provider":"fake","key":"K",}"#,
        r#"{'provider':'fake','key':'K'}"#,
    ] {
        let Err(ServiceError::Malformed(why)) = classify(text, DataKind::Auto) else {
            panic!("{text}")
        };
        assert!(why.contains("`psictl add NAME --literal`"), "{why}");
        assert!(
            matches!(classify(text, DataKind::Literal), Ok(Registration::Literal(_))),
            "{text}"
        );
        let Err(ServiceError::Malformed(why)) = classify(text, DataKind::Reference) else {
            panic!("{text}")
        };
        assert!(!why.contains("--literal"), "{why}");
    }
    let with_a_mark = format!("\u{feff} {reference}");
    let Ok(Registration::Reference(_, text)) = classify(&with_a_mark, DataKind::Auto) else {
        panic!()
    };
    assert_eq!(text.expose_secret(), with_a_mark.as_bytes(), "byte for byte");
    assert_eq!(Reference::parse(with_a_mark.as_bytes()), Reference::parse(reference.as_bytes()));
}

/// A token may take as long as the caller waits, and no provider has a literal.
#[tokio::test(start_paused = true)]
async fn lookup_waits_for_a_sealed_literal_until_its_deadline() {
    use crate::crypto::aead::DataKey;
    use crate::crypto::envelope::WrappedKeyHeader;
    use crate::crypto::keyring::Keyring;
    let key = || DataKey::from_secret(&SecretBytes::new(vec![1; 32])).unwrap();
    let part = WrappedKeyHeader { tag: psi_common::BackendTag::Tpm, bytes: Vec::new() };
    let keyring = Arc::new(Keyring::new(key(), part));
    let state = tempfile::tempdir().unwrap();
    let open = |keys| Arc::new(Registry::open(state.path(), keys));
    let id: SecretId = "0123456789abcdef012345678".parse().unwrap();
    let value = Registration::Literal(SecretBytes::new(b"sealed".to_vec()));
    open(Keys::Open(Arc::clone(&keyring))).store(id, value, Principal::Admin).await.unwrap();

    for opens_after in [5, 8, 10] {
        let fixture = Fixture::with_registry(open(Keys::Closed));
        let service = Arc::clone(&fixture.service);
        service.readiness.mark_opening();
        let now = fixture.at(Duration::ZERO);
        let wanted = SecretSelector::Id(id);
        let lookup = service.lookup(&wanted, Principal::Admin, now, now.mono + 9 * SECOND);
        let opens = async {
            let _ = tokio::time::timeout(opens_after * SECOND, std::future::pending::<()>()).await;
            service.registry.unlock(Arc::clone(&keyring));
            service.readiness.mark_ready();
        };
        let (found, ()) = tokio::join!(lookup, opens);
        assert_eq!(found.is_ok(), opens_after < 9, "{opens_after} s");
    }
}

/// B1: one key's 500 is its own; asked again once, then left alone as long as a good one would be.
#[tokio::test(start_paused = true)]
async fn failing_key_is_served_from_the_cache_and_affects_no_other() {
    let fixture = Fixture::new();
    fixture.provider.set("GOOD", "good");
    fixture.lookup(Duration::ZERO).await.unwrap();
    fixture.provider.fail(ProviderError::Failed("Infisical answers 500".into()));
    for _ in 0..50 {
        assert_eq!(fixture.lookup(2 * HOUR).await.unwrap(), "one");
    }
    assert_eq!(fixture.provider.fetches(), 2);
    fixture.provider.fail(None);
    assert_eq!(fixture.lookup_of("GOOD", 2 * HOUR).await.unwrap(), "good");
    assert_eq!(fixture.outage_is_confirmed(), None);
}

#[tokio::test(start_paused = true)]
async fn uncached_failing_key_is_retried_once_and_then_cached() {
    let fixture = Fixture::new();
    fixture.provider.fail(ProviderError::Failed("Infisical answers 500".into()));
    for _ in 0..50 {
        let error = fixture.lookup(Duration::ZERO).await.unwrap_err();
        let ServiceError::Unavailable(why) = error else { panic!("{error}") };
        assert!(why.contains("Infisical answers 500"), "{why}");
    }
    assert_eq!(fixture.provider.fetches(), 2);
    fixture.provider.fail(None);
    assert_eq!(fixture.lookup(MINUTE).await.unwrap(), "one");
    // A single failure is retried.
    let fixture = Arc::new(Fixture::new());
    fixture.provider.fail(ProviderError::Failed("Infisical answers 500".into()));
    let lookup = {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move { fixture.lookup(Duration::ZERO).await })
    };
    tokio::time::advance(SECOND / 2).await;
    fixture.provider.fail(None);
    assert_eq!(lookup.await.unwrap().unwrap(), "one");
}
