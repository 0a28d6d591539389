//! Calls through a fake provider, with tokio's paused clock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::*;
use crate::cache::FetchEpoch;
use crate::model::clock;
use crate::model::reference::{Namespace, Reference};
use crate::provider::{Fetched, InvalidReference, Listed, Source};

/// A provider whose status is set by the test, and counted.
#[derive(Default)]
struct FakeProvider {
    status_asked: AtomicU32,
    is_out: Mutex<bool>,
}

#[async_trait]
impl SecretProvider for Arc<FakeProvider> {
    fn accept(&self, _: &Reference) -> Result<CacheKey, InvalidReference> {
        Err(InvalidReference::NoDirectories)
    }

    async fn fetch(&self, _: &Reference, _: FetchEpoch) -> Result<Fetched, ProviderError> {
        Err(out())
    }

    fn scope_of(&self, _: &Source) -> Result<ListingScope, InvalidReference> {
        Err(InvalidReference::NoDirectories)
    }

    async fn list(&self, _: &Source, _: &BTreeSet<String>) -> Result<Listed, ProviderError> {
        Err(out())
    }

    fn has_namespace(&self, _: &Namespace) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persisted
    }

    fn writer(&self) -> Option<&dyn crate::provider::SecretWriter> {
        None
    }

    fn identity(&self, namespace: &Namespace) -> String {
        format!("identity of {}", namespace.as_str())
    }

    async fn status(&self) -> Result<(), ProviderError> {
        self.status_asked.fetch_add(1, Ordering::SeqCst);
        if *self.is_out.lock() { Err(failed().unwrap_err()) } else { Ok(()) }
    }
}

type Answer = Result<(), ProviderError>;

fn out() -> ProviderError {
    ProviderError::Unreachable("refused".into())
}

fn failed() -> Answer {
    Err(ProviderError::Failed("a gateway answers 403".into()))
}

fn slow() -> Answer {
    Err(ProviderError::TimedOut("no answer in time".into()))
}

fn throttled(wait: Duration) -> Answer {
    Err(ProviderError::Throttled { why: "429".into(), wait })
}

fn unauthenticated(wait: Option<Duration>) -> Answer {
    Err(ProviderError::Unauthenticated { why: "no".into(), wait })
}

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    upstream: Upstream,
    provider: Arc<FakeProvider>,
    recovered: Arc<Notify>,
}

impl Fixture {
    fn new() -> Self {
        let provider = Arc::new(FakeProvider::default());
        let upstream = Upstream::new("fake", Box::new(Arc::clone(&provider)));
        let recovered = Arc::default();
        upstream.notify_recovery(&recovered);
        Self { upstream, provider, recovered }
    }

    fn get(&self, path: &str) -> Call {
        self.get_from("r", path)
    }

    fn get_from(&self, namespace: &str, path: &str) -> Call {
        self.upstream.call_for_key(&CacheKey::new(Namespace::new(&[namespace]), path, "K"))
    }

    /// A listing by the schedule.
    fn list(&self, path: &str) -> Call {
        let namespace = Namespace::new(&["r"]);
        let scope = ListingScope { namespace, path: path.into(), recursive: false };
        self.upstream.call_for_directory(&scope, Route::List, Caller::Routine)
    }

    async fn answer(&self, call: &Call, answer: Answer) -> Result<(), CallError> {
        self.upstream.call(call, clock::now(), async { answer }).await
    }

    /// A lookup in `/a` without a cached value.
    async fn waits_until_allowed(&self, limit: Instant) -> bool {
        self.upstream.wait_until_allowed(&self.get("/a"), limit).await
    }

    fn is_allowed(&self, call: &Call) -> bool {
        self.upstream.begin_call(call, clock::now()).is_ok()
    }

    fn is_known_to_fail(&self, path: &str) -> bool {
        self.upstream.known_failure(&self.get(path), Instant::now()).is_some()
    }

    fn has_failures(&self) -> bool {
        self.upstream.health().breaker.outage().is_some()
    }

    fn status_asked(&self) -> u32 {
        self.provider.status_asked.load(Ordering::SeqCst)
    }

    async fn is_notified(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.recovered.notified()).await.is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn uncached_lookup_waits_out_a_single_failure_only() {
    let fixture = Fixture::new();
    let start = Instant::now();
    assert!(fixture.waits_until_allowed(start).await);
    let _ = fixture.answer(&fixture.get("/a"), Err(out())).await;
    assert!(!fixture.waits_until_allowed(start + SECOND / 2).await);
    assert!(fixture.waits_until_allowed(start + 9 * SECOND).await);
    assert!(start.elapsed() >= SECOND && start.elapsed() < 2 * SECOND);
    let _ = fixture.answer(&fixture.get("/a"), Err(out())).await;
    let start = Instant::now();
    assert!(!fixture.waits_until_allowed(start + 9 * SECOND).await);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn answered_probe_releases_waiting_calls_and_notifies() {
    let fixture = Fixture::new();
    let call = fixture.get("/a");
    let _ = fixture.answer(&call, Err(out())).await;
    tokio::time::advance(2 * SECOND).await;
    let start = Instant::now();
    let probe = fixture.upstream.call(&call, clock::now(), async {
        tokio::time::advance(SECOND).await;
        Ok(())
    });
    let (admitted, answer) = tokio::join!(fixture.waits_until_allowed(start + 9 * SECOND), probe);
    assert!(admitted && answer.is_ok());
    assert_eq!(start.elapsed(), SECOND);
    assert!(fixture.is_notified().await);
    // A cancelled probe lets the next one through.
    let _ = fixture.answer(&call, Err(out())).await;
    tokio::time::advance(2 * SECOND).await;
    drop(fixture.upstream.begin_call(&call, clock::now()).unwrap());
    assert!(fixture.waits_until_allowed(Instant::now()).await);
    assert!(!fixture.is_notified().await);
}

/// A 500, a gateway's page or a malformed 200 concerns the directory that was asked for.
#[tokio::test(start_paused = true)]
async fn failing_directory_does_not_affect_another_one() {
    let fixture = Fixture::new();
    for _ in 0..100 {
        for answer in [failed(), slow(), unauthenticated(None)] {
            let _ = fixture.answer(&fixture.list("/bad"), answer).await;
            assert!(!fixture.has_failures());
            assert!(fixture.is_known_to_fail("/bad") && !fixture.is_known_to_fail("/good"));
            assert!(fixture.is_allowed(&fixture.get("/good")));
            assert!(fixture.is_allowed(&fixture.list("/good")));
            assert!(fixture.answer(&fixture.list("/good"), Ok(())).await.is_ok());
        }
        tokio::time::advance(600 * SECOND).await;
    }
    assert_eq!(fixture.status_asked(), 0);
    assert!(fixture.answer(&fixture.list("/bad"), Ok(())).await.is_ok());
    assert!(!fixture.is_known_to_fail("/bad"));
}

#[tokio::test(start_paused = true)]
async fn timeouts_of_two_directories_are_an_outage() {
    let fixture = Fixture::new();
    let _ = fixture.answer(&fixture.list("/a"), slow()).await;
    assert!(!fixture.has_failures());
    let _ = fixture.answer(&fixture.list("/b"), slow()).await;
    assert!(fixture.has_failures(), "the status is not asked for");
    assert!(!fixture.is_allowed(&fixture.list("/c")));
    tokio::time::advance(2 * SECOND).await;
    let _ = fixture.answer(&fixture.list("/c"), Ok(())).await;
    assert!(!fixture.has_failures());
}

/// The host's status is asked for at most once in 30 s, however many directories fail.
#[tokio::test(start_paused = true)]
async fn host_status_decides_when_several_directories_fail() {
    let fixture = Fixture::new();
    for number in 0..50 {
        let _ = fixture.answer(&fixture.list(&format!("/{number}")), failed()).await;
    }
    assert!(!fixture.has_failures());
    assert_eq!(fixture.status_asked(), 1);
    *fixture.provider.is_out.lock() = true;
    tokio::time::advance(31 * SECOND).await;
    let _ = fixture.answer(&fixture.list("/1"), failed()).await;
    let _ = fixture.answer(&fixture.list("/2"), failed()).await;
    assert_eq!((fixture.has_failures(), fixture.status_asked()), (true, 2));
}

/// A probe may meet a directory that fails by itself: that must neither prolong an outage nor end it while
/// the host is out.
#[tokio::test(start_paused = true)]
async fn host_status_decides_an_unclear_probe() {
    for answer in [failed(), slow(), unauthenticated(Some(SECOND))] {
        let fixture = Fixture::new();
        let _ = fixture.answer(&fixture.list("/a"), Err(out())).await;
        *fixture.provider.is_out.lock() = true;
        tokio::time::advance(2 * SECOND).await;
        let _ = fixture.answer(&fixture.list("/bad"), answer.clone()).await;
        assert!(fixture.upstream.is_out());
        assert!(!fixture.is_notified().await);
        *fixture.provider.is_out.lock() = false;
        tokio::time::advance(60 * SECOND).await;
        let _ = fixture.answer(&fixture.list("/bad"), answer).await;
        assert!(!fixture.has_failures());
        assert!(fixture.is_notified().await);
    }
}

#[tokio::test(start_paused = true)]
async fn rate_limit_holds_one_identity_and_admins_too() {
    let fixture = Fixture::new();
    let _ = fixture.answer(&fixture.get("/a"), throttled(5 * SECOND)).await;
    assert!(!fixture.has_failures());
    assert!(!fixture.is_allowed(&fixture.get("/b")) && fixture.is_known_to_fail("/b"));
    assert!(!fixture.is_allowed(&Call { caller: Caller::Admin, ..fixture.get("/b") }));
    assert!(fixture.is_allowed(&fixture.get_from("another", "/a")));
    assert!(fixture.is_allowed(&fixture.list("/a")), "another route has its own limit");
    let answer = fixture.answer(&fixture.get("/a"), Ok(())).await;
    assert!(matches!(
        answer,
        Err(CallError::NotAsked(ProviderError::Throttled { wait, .. })) if wait == 5 * SECOND
    ));
    // A lookup without a cached value waits for it, if there is time.
    let start = Instant::now();
    assert!(!fixture.waits_until_allowed(start + 4 * SECOND).await);
    assert!(fixture.waits_until_allowed(start + 9 * SECOND).await);
    assert_eq!(start.elapsed(), 5 * SECOND);
    // A reload keeps the limit.
    let _ = fixture.answer(&fixture.get("/a"), throttled(60 * SECOND)).await;
    let reloaded = Fixture::new();
    reloaded.upstream.inherit(&fixture.upstream);
    assert!(!reloaded.is_allowed(&reloaded.get("/a")));
}

#[tokio::test(start_paused = true)]
async fn recovered_login_is_notified() {
    let fixture = Fixture::new();
    for _ in 0..5 {
        let _ = fixture.answer(&fixture.list("/a"), unauthenticated(Some(60 * SECOND))).await;
    }
    assert!(!fixture.has_failures());
    assert!(fixture.is_known_to_fail("/b"), "a lookup with a cached value does not try the login");
    assert!(fixture.is_allowed(&fixture.get("/b")), "a lookup without one does");
    let _ = fixture.answer(&fixture.get_from("another", "/a"), Ok(())).await;
    assert!(!fixture.is_notified().await);
    let _ = fixture.answer(&fixture.list("/a"), Ok(())).await;
    assert!(fixture.is_notified().await);
    assert!(!fixture.is_known_to_fail("/b"));
}

#[tokio::test(start_paused = true)]
async fn slow_directory_does_not_stop_the_others() {
    let fixture = Fixture::new();
    let [a, b] = [fixture.get("/a"), fixture.get("/b")];
    let _hangs = fixture.upstream.begin_call(&a, clock::now()).unwrap();
    tokio::time::advance(SECOND).await;
    assert!(fixture.is_known_to_fail("/a") && !fixture.is_known_to_fail("/c"));
    let _hangs_too = fixture.upstream.begin_call(&b, clock::now()).unwrap();
    tokio::time::advance(SECOND).await;
    assert!(fixture.is_known_to_fail("/c"), "two slow directories concern the host");
}

#[tokio::test]
async fn answers_are_counted_by_kind() {
    let fixture = Fixture::new();
    let call = fixture.get("/a");
    let _ = fixture.answer(&call, Ok(())).await;
    for error in [
        ProviderError::NotFound("no".into()),
        ProviderError::Denied("no".into()),
        ProviderError::Unauthenticated { why: "no".into(), wait: None },
        ProviderError::Misbehaved("no".into()),
        ProviderError::Failed("no".into()),
        out(),
    ] {
        let _ = fixture.answer(&call, Err(error)).await;
    }
    let counters = fixture.upstream.health().counters;
    let ProviderCounters { succeeded, unreachable, throttled, .. } = counters;
    assert_eq!((succeeded, unreachable, throttled), (1, 2, 0));
    let counts =
        [counters.not_found, counters.denied, counters.unauthenticated, counters.misbehaved];
    assert_eq!(counts, [1; 4]);
    assert_eq!(fixture.upstream.last_refusal().as_deref(), Some("no"));
}
