//! The lookup's behaviour over a provider that answers as it is told. Time is the test's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::*;
use crate::cache::Policy;
use crate::provider::{Keeping, SecretProvider, Source};
use crate::reference::{Extent, Listing, Realm};
use crate::refresh::{Progress, Refresher};
use crate::upstream::Workload;

const HOUR: Duration = Duration::from_secs(3_600);

/// Answers by script; hangs when there is a gate, until it is opened.
#[derive(Default)]
struct Scripted {
    values: Mutex<HashMap<String, String>>,
    error: Mutex<Option<ProviderError>>,
    gate: Mutex<Option<Arc<Notify>>>,
    fetches: AtomicU32,
    lists: AtomicU32,
}

impl Scripted {
    async fn answer(&self) -> Result<(), ProviderError> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        self.error.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn set(&self, key: &str, value: &str) {
        self.values.lock().unwrap().insert(key.into(), value.into());
    }

    fn fail(&self, error: impl Into<Option<ProviderError>>) {
        *self.error.lock().unwrap() = error.into();
    }

    fn close_gate(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }
}

#[async_trait]
impl SecretProvider for Arc<Scripted> {
    fn accept(&self, reference: &Reference) -> Result<Coordinates, String> {
        let key = reference.member("key").ok_or("no key")?;
        Ok(Coordinates { realm: Realm::new(&["fake"]), path: "/app".into(), key: key.into() })
    }

    async fn fetch(&self, reference: &Reference) -> Result<SecretBytes, ProviderError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let key = reference.member("key").unwrap();
        // The answer is made when the request arrives, and may be long on its way.
        let value = self.values.lock().unwrap().get(key).cloned();
        self.answer().await?;
        let value = value.ok_or_else(|| ProviderError::NotFound("no such key".into()))?;
        Ok(SecretBytes::new(value.into_bytes()))
    }

    fn extent(&self, source: &Source) -> Result<Extent, String> {
        Ok(Extent { realm: Realm::new(&["fake"]), path: source.path.clone(), recursive: false })
    }

    async fn list(&self, source: &Source, _: &BTreeSet<String>) -> Result<Listing, ProviderError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.answer().await?;
        let values = self.values.lock().unwrap();
        let found = values.iter().map(|(key, value)| {
            let at =
                Coordinates { realm: Realm::new(&["fake"]), path: "/app".into(), key: key.clone() };
            (at, SecretBytes::new(value.clone().into_bytes()))
        });
        let extents = vec![self.extent(source).unwrap()];
        Ok(Listing { extents, found: found.collect(), denied: Vec::new() })
    }

    fn knows(&self, realm: &Realm) -> bool {
        *realm == Realm::new(&["fake"])
    }

    fn keeping(&self) -> Keeping {
        Keeping::OnDisk
    }
}

struct Fixture {
    service: Arc<Service>,
    provider: Arc<Scripted>,
    start: Moment,
    _state: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let provider = Arc::new(Scripted::default());
        provider.set("K", "one");
        let policy = Policy {
            enabled: true,
            fresh_for: HOUR,
            max_stale: Some(24 * HOUR),
            evict_revoked: true,
        };
        let source = Source { project: "p".into(), path: "/app".into(), recursive: false };
        let workload =
            Workload { provider: "fake".into(), depends_on: Vec::new(), sources: vec![source] };
        let upstreams = Upstreams {
            providers: BTreeMap::from([(
                "fake".into(),
                Arc::new(Upstream::new("fake", Box::new(Arc::clone(&provider)))),
            )]),
            workloads: BTreeMap::from([("app".into(), workload)]),
        };
        let service = Service::new(
            Arc::new(Registry::open(state.path(), None)),
            Arc::new(SharedCache::new(Cache::new(policy))),
            upstreams,
        );
        let start = Moment { wall: Timestamp::from_millis(1_000_000_000), mono: Instant::now() };
        Self { service: Arc::new(service), provider, start, _state: state }
    }

    /// A moment `span` after the start, on the wall clock; the monotonic one is tokio's.
    fn at(&self, span: Duration) -> Moment {
        Moment { wall: self.start.wall.after(span), mono: Instant::now() }
    }

    async fn lookup(&self, span: Duration) -> Result<String, ServiceError> {
        let now = self.at(span);
        let value =
            self.service.lookup(&Wanted::Name("app--K".into()), now, now.mono + 9 * SECOND).await?;
        Ok(String::from_utf8(value.secret().expose_secret().to_vec()).unwrap())
    }

    fn fetches(&self) -> u32 {
        self.provider.fetches.load(Ordering::SeqCst)
    }

    async fn refresh(&self, span: Duration) -> Progress {
        let refresher = Refresher::new(Arc::clone(&self.service));
        let mut progress = refresher.start(self.at(span));
        progress.wait_for(|progress| progress.ended).await.unwrap().clone()
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn out() -> ProviderError {
    ProviderError::Unreachable("connection refused".into())
}

#[tokio::test(start_paused = true)]
async fn a_fresh_value_is_not_asked_for_again() {
    let fixture = Fixture::new();
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "one");
    fixture.provider.set("K", "two");
    assert_eq!(fixture.lookup(HOUR / 2).await.unwrap(), "one");
    assert_eq!(fixture.fetches(), 1);
    assert_eq!(fixture.lookup(HOUR).await.unwrap(), "two");
    assert_eq!(fixture.service.hits_and_misses(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_the_known_value_is_served_until_max_stale() {
    let fixture = Fixture::new();
    fixture.lookup(Duration::ZERO).await.unwrap();
    for error in [
        out(),
        ProviderError::Throttled { why: "slow down".into(), wait: SECOND },
        ProviderError::Misbehaved("400".into()),
    ] {
        fixture.provider.fail(error);
        assert_eq!(fixture.lookup(2 * HOUR).await.unwrap(), "one");
        let refused = fixture.lookup(25 * HOUR).await.unwrap_err();
        assert!(matches!(refused, ServiceError::Unavailable(why) if why.contains("max_stale")));
    }
    assert!(fixture.lookup(24 * HOUR).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_hammered() {
    let fixture = Fixture::new();
    fixture.provider.fail(out());
    for _ in 0..100 {
        assert!(matches!(fixture.lookup(Duration::ZERO).await, Err(ServiceError::Unavailable(_))));
    }
    assert_eq!(fixture.fetches(), 1);
    tokio::time::advance(SECOND).await;
    fixture.provider.fail(None);
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn who_has_a_value_does_not_wait_for_a_provider_that_hangs() {
    let fixture = Fixture::new();
    fixture.lookup(Duration::ZERO).await.unwrap();
    let gate = fixture.provider.close_gate();
    let asked = Instant::now();
    assert_eq!(fixture.lookup(2 * HOUR).await.unwrap(), "one");
    assert_eq!(asked.elapsed(), GRACE);
    // The next one knows already.
    let asked = Instant::now();
    assert_eq!(fixture.lookup(2 * HOUR).await.unwrap(), "one");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(fixture.fetches(), 2);
    gate.notify_one();
}

#[tokio::test(start_paused = true)]
async fn who_has_none_waits_until_the_deadline_and_is_told_why() {
    let fixture = Fixture::new();
    let _gate = fixture.provider.close_gate();
    let asked = Instant::now();
    let error = fixture.lookup(Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("in time"), "{error}");
    assert_eq!(asked.elapsed(), 9 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_one_value_share_one_fetch() {
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
    assert_eq!(fixture.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn gone_and_denied_act_when_they_are_confirmed() {
    for error in [ProviderError::NotFound("gone".into()), ProviderError::Denied("no".into())] {
        let fixture = Fixture::new();
        fixture.lookup(Duration::ZERO).await.unwrap();
        fixture.provider.fail(error.clone());
        assert_eq!(fixture.lookup(HOUR).await.unwrap(), "one");
        assert_eq!(fixture.lookup(HOUR + 30 * SECOND).await.unwrap(), "one");
        let confirmed = fixture.lookup(HOUR + 61 * SECOND).await.unwrap_err();
        match error {
            ProviderError::NotFound(_) => assert!(matches!(confirmed, ServiceError::NotFound(_))),
            _ => assert!(matches!(confirmed, ServiceError::Denied(_))),
        }
        assert!(fixture.service.cache.read(Cache::is_empty));
    }
}

#[tokio::test(start_paused = true)]
async fn an_absent_secret_is_not_asked_for_twice_at_once() {
    let fixture = Fixture::new();
    fixture.provider.values.lock().unwrap().clear();
    for _ in 0..10 {
        assert!(matches!(fixture.lookup(Duration::ZERO).await, Err(ServiceError::NotFound(_))));
    }
    assert_eq!(fixture.fetches(), 1);
    fixture.provider.set("K", "new");
    assert_eq!(fixture.lookup(10 * SECOND).await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_beats_the_fetch_that_began_before_it() {
    let fixture = Arc::new(Fixture::new());
    let gate = fixture.provider.close_gate();
    let asking = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.lookup(Duration::ZERO).await.unwrap() }
    });
    tokio::time::advance(Duration::from_millis(1)).await;
    fixture.provider.set("K", "two");
    fixture.service.invalidate(&Wanted::Name("app--K".into())).unwrap();
    gate.notify_one();
    // Who asked before gets what was true then; nobody else does.
    assert_eq!(asking.await.unwrap(), "one");
    assert!(fixture.service.cache.read(Cache::is_empty));
    *fixture.provider.gate.lock().unwrap() = None;
    assert_eq!(fixture.lookup(Duration::ZERO).await.unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_one_listing_and_a_failed_one_loses_nothing() {
    let fixture = Fixture::new();
    fixture.provider.set("L", "two");
    let done = fixture.refresh(Duration::ZERO).await.done;
    assert_eq!(done[0].result.as_ref().unwrap().added, 2);
    assert_eq!(fixture.provider.lists.load(Ordering::SeqCst), 1);
    fixture.provider.fail(out());
    assert!(fixture.refresh(HOUR).await.done[0].result.is_err());
    assert_eq!(fixture.service.cache.read(Cache::len), 2);
    assert_eq!(fixture.lookup(HOUR / 2).await.unwrap(), "one");
    assert_eq!(fixture.fetches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_removes_what_the_provider_has_no_more() {
    let fixture = Fixture::new();
    fixture.provider.set("L", "two");
    fixture.refresh(Duration::ZERO).await;
    fixture.provider.values.lock().unwrap().remove("L");
    let done = fixture.refresh(HOUR).await.done;
    let counts = done[0].result.clone().unwrap();
    assert_eq!((counts.unchanged, counts.removed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn two_refreshes_at_once_are_one() {
    let fixture = Fixture::new();
    let gate = fixture.provider.close_gate();
    let refresher = Refresher::new(Arc::clone(&fixture.service));
    let mut first = refresher.start(fixture.start);
    let mut second = refresher.start(fixture.start);
    tokio::time::advance(SECOND).await;
    gate.notify_one();
    first.wait_for(|progress| progress.ended).await.unwrap();
    second.wait_for(|progress| progress.ended).await.unwrap();
    assert_eq!(fixture.provider.lists.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reference_is_told_from_a_literal_by_its_provider() {
    let fixture = Fixture::new();
    let judge = |text: &str, kind| fixture.service.judge(SecretBytes::new(text.into()), kind);
    let reference = r#"{"provider":"fake","key":"K"}"#;
    assert!(matches!(judge(reference, Kind::Guess), Ok(Registration::Reference(..))));
    assert!(matches!(judge(reference, Kind::Literal), Ok(Registration::Literal(_))));
    for text in ["s3cret", "{}", r#"{"provider":"other","key":"K"}"#, "[1]"] {
        assert!(matches!(judge(text, Kind::Guess), Ok(Registration::Literal(_))));
        assert!(matches!(judge(text, Kind::Reference), Err(ServiceError::Malformed(_))));
    }
    for text in [r#"{"provider":"fake"}"#, r#"{"provider":"fake","key":1}"#] {
        assert!(matches!(judge(text, Kind::Guess), Err(ServiceError::Malformed(_))), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_self_test_tells_what_a_reboot_would_lose() {
    let fixture = Fixture::new();
    let id: SecretId = "0123456789abcdef012345678".parse().unwrap();
    let reference = SecretBytes::new(br#"{"provider":"fake","key":"K"}"#.to_vec());
    fixture.service.store(id, reference, Kind::Guess).await.unwrap();
    let would_fail = |span| fixture.service.would_fail(fixture.at(span).wall, true);
    assert_eq!(would_fail(Duration::ZERO), [id]);
    fixture.lookup(Duration::ZERO).await.unwrap();
    assert!(would_fail(HOUR).is_empty());
    assert_eq!(fixture.service.would_fail(fixture.start.wall, false), [id]);
    assert_eq!(would_fail(25 * HOUR), [id]);
}
