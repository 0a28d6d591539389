//! The provider's health, over a provider that fares as it is told. Time is the test's.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::*;
use crate::cache::FetchEpoch;
use crate::model::clock;
use crate::model::reference::{Namespace, Reference};
use crate::provider::{Fetched, Listed, Source};

/// Its status is as it is told, and counted.
#[derive(Default)]
struct Nobody {
    status_asked: AtomicU32,
    is_unwell: Mutex<bool>,
}

#[async_trait]
impl SecretProvider for Arc<Nobody> {
    fn accept(&self, _: &Reference) -> Result<CacheKey, String> {
        Err("nobody".into())
    }

    async fn fetch(&self, _: &Reference, _: FetchEpoch) -> Result<Fetched, ProviderError> {
        Err(out())
    }

    fn extent(&self, _: &Source) -> Result<ListingScope, String> {
        Err("nobody".into())
    }

    async fn list(&self, _: &Source, _: &BTreeSet<String>) -> Result<Listed, ProviderError> {
        Err(out())
    }

    fn knows(&self, _: &Namespace) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persisted
    }

    fn writer(&self) -> Option<&dyn crate::provider::SecretWriter> {
        None
    }

    fn identity(&self, realm: &Namespace) -> String {
        format!("identity of {}", realm.as_str())
    }

    async fn status(&self) -> Result<(), ProviderError> {
        self.status_asked.fetch_add(1, Ordering::SeqCst);
        if *self.is_unwell.lock().unwrap() { Err(failed().unwrap_err()) } else { Ok(()) }
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
    provider: Arc<Nobody>,
    recovered: Arc<Notify>,
}

impl Fixture {
    fn new() -> Self {
        let provider = Arc::new(Nobody::default());
        let upstream = Upstream::new("nobody", Box::new(Arc::clone(&provider)));
        let recovered = Arc::default();
        upstream.notify_recovery(&recovered);
        Self { upstream, provider, recovered }
    }

    fn get(&self, path: &str) -> Call {
        self.get_from("r", path)
    }

    fn get_from(&self, realm: &str, path: &str) -> Call {
        self.upstream.call_for_key(&CacheKey::new(Namespace::new(&[realm]), path, "K"))
    }

    /// A listing by the schedule.
    fn list(&self, path: &str) -> Call {
        let realm = Namespace::new(&["r"]);
        let extent = ListingScope { realm, path: path.into(), recursive: false };
        self.upstream.call_for_directory(&extent, Route::List, Caller::Anybody)
    }

    async fn answer(&self, call: &Call, answer: Answer) -> Result<(), CallError> {
        self.upstream.call(call, clock::now(), async { answer }).await
    }

    /// A lookup of `/a` without anything to serve.
    async fn admits(&self, limit: Instant) -> bool {
        self.upstream.admits(&self.get("/a"), limit).await
    }

    fn is_admitted(&self, call: &Call) -> bool {
        self.upstream.begin(call, clock::now()).is_ok()
    }

    fn rests(&self, path: &str) -> bool {
        self.upstream.out_of_reach(&self.get(path), Instant::now()).is_some()
    }

    fn is_in_trouble(&self) -> bool {
        self.upstream.health().breaker.trouble().is_some()
    }

    fn status_asked(&self) -> u32 {
        self.provider.status_asked.load(Ordering::SeqCst)
    }

    async fn is_notified(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.recovered.notified()).await.is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_waits_out_a_lost_packet_and_not_an_outage() {
    let fixture = Fixture::new();
    let start = Instant::now();
    assert!(fixture.admits(start).await);
    let _ = fixture.answer(&fixture.get("/a"), Err(out())).await;
    assert!(!fixture.admits(start + SECOND / 2).await);
    assert!(fixture.admits(start + 9 * SECOND).await);
    assert!(start.elapsed() >= SECOND && start.elapsed() < 2 * SECOND);
    let _ = fixture.answer(&fixture.get("/a"), Err(out())).await;
    let asked = Instant::now();
    assert!(!fixture.admits(asked + 9 * SECOND).await);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_probe_goes_on_with_its_answer_and_the_recovery_is_notified() {
    let fixture = Fixture::new();
    let call = fixture.get("/a");
    let _ = fixture.answer(&call, Err(out())).await;
    tokio::time::advance(2 * SECOND).await;
    let start = Instant::now();
    let probe = fixture.upstream.call(&call, clock::now(), async {
        tokio::time::advance(SECOND).await;
        Ok(())
    });
    let (admitted, answer) = tokio::join!(fixture.admits(start + 9 * SECOND), probe);
    assert!(admitted && answer.is_ok());
    assert_eq!(start.elapsed(), SECOND);
    assert!(fixture.is_notified().await);
    // A probe whose task crashed lets the next one through.
    let _ = fixture.answer(&call, Err(out())).await;
    tokio::time::advance(2 * SECOND).await;
    drop(fixture.upstream.begin(&call, clock::now()).unwrap());
    assert!(fixture.admits(Instant::now()).await);
    assert!(!fixture.is_notified().await);
}

/// A 500, a gateway's page, an odd 200: they are of the directory that was asked.
#[tokio::test(start_paused = true)]
async fn a_directory_that_fails_for_days_never_counts_for_another_one() {
    let fixture = Fixture::new();
    for _ in 0..100 {
        for answer in [failed(), slow(), unauthenticated(None)] {
            let _ = fixture.answer(&fixture.list("/bad"), answer).await;
            assert!(!fixture.is_in_trouble());
            assert!(fixture.rests("/bad") && !fixture.rests("/good"));
            assert!(fixture.is_admitted(&fixture.get("/good")));
            assert!(fixture.is_admitted(&fixture.list("/good")));
            assert!(fixture.answer(&fixture.list("/good"), Ok(())).await.is_ok());
        }
        tokio::time::advance(600 * SECOND).await;
    }
    assert_eq!(fixture.status_asked(), 0);
    assert!(fixture.answer(&fixture.list("/bad"), Ok(())).await.is_ok());
    assert!(!fixture.rests("/bad"));
}

#[tokio::test(start_paused = true)]
async fn directories_that_time_out_together_are_an_outage() {
    let fixture = Fixture::new();
    let _ = fixture.answer(&fixture.list("/a"), slow()).await;
    assert!(!fixture.is_in_trouble());
    let _ = fixture.answer(&fixture.list("/b"), slow()).await;
    assert!(fixture.is_in_trouble(), "whatever the status says");
    assert!(!fixture.is_admitted(&fixture.list("/c")));
    tokio::time::advance(2 * SECOND).await;
    let _ = fixture.answer(&fixture.list("/c"), Ok(())).await;
    assert!(!fixture.is_in_trouble());
}

/// Many directories fail at once: the host's own status tells, and is asked once in half a minute.
#[tokio::test(start_paused = true)]
async fn the_host_s_status_arbitrates_when_several_directories_fail() {
    let fixture = Fixture::new();
    for number in 0..50 {
        let _ = fixture.answer(&fixture.list(&format!("/{number}")), failed()).await;
    }
    assert!(!fixture.is_in_trouble());
    assert_eq!(fixture.status_asked(), 1);
    *fixture.provider.is_unwell.lock().unwrap() = true;
    tokio::time::advance(31 * SECOND).await;
    let _ = fixture.answer(&fixture.list("/1"), failed()).await;
    let _ = fixture.answer(&fixture.list("/2"), failed()).await;
    assert_eq!((fixture.is_in_trouble(), fixture.status_asked()), (true, 2));
}

/// The probe of an outage meets a directory that fails by itself: that must not keep the outage alive, nor
/// end it while the host is out.
#[tokio::test(start_paused = true)]
async fn an_unclear_answer_to_a_probe_is_decided_by_the_host_s_status() {
    for answer in [failed(), slow(), unauthenticated(Some(SECOND))] {
        let fixture = Fixture::new();
        let _ = fixture.answer(&fixture.list("/a"), Err(out())).await;
        *fixture.provider.is_unwell.lock().unwrap() = true;
        tokio::time::advance(2 * SECOND).await;
        let _ = fixture.answer(&fixture.list("/bad"), answer.clone()).await;
        assert!(fixture.upstream.is_out());
        assert!(!fixture.is_notified().await);
        *fixture.provider.is_unwell.lock().unwrap() = false;
        tokio::time::advance(60 * SECOND).await;
        let _ = fixture.answer(&fixture.list("/bad"), answer).await;
        assert!(!fixture.is_in_trouble());
        assert!(fixture.is_notified().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_keeps_one_identity_waiting_and_an_admin_too() {
    let fixture = Fixture::new();
    let _ = fixture.answer(&fixture.get("/a"), throttled(5 * SECOND)).await;
    assert!(!fixture.is_in_trouble());
    assert!(!fixture.is_admitted(&fixture.get("/b")) && fixture.rests("/b"));
    assert!(!fixture.is_admitted(&Call { caller: Caller::Admin, ..fixture.get("/b") }));
    assert!(fixture.is_admitted(&fixture.get_from("another", "/a")));
    assert!(fixture.is_admitted(&fixture.list("/a")), "another route has its own limit");
    let answer = fixture.answer(&fixture.get("/a"), Ok(())).await;
    assert!(matches!(
        answer,
        Err(CallError::NotAsked(ProviderError::Throttled { wait, .. })) if wait == 5 * SECOND
    ));
    // A lookup without a value waits for it, if there is time.
    let start = Instant::now();
    assert!(!fixture.admits(start + 4 * SECOND).await);
    assert!(fixture.admits(start + 9 * SECOND).await);
    assert_eq!(start.elapsed(), 5 * SECOND);
    // A reload forgets it not.
    let _ = fixture.answer(&fixture.get("/a"), throttled(60 * SECOND)).await;
    let reloaded = Fixture::new();
    reloaded.upstream.inherit(&fixture.upstream);
    assert!(!reloaded.is_admitted(&reloaded.get("/a")));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_works_again_is_notified() {
    let fixture = Fixture::new();
    for _ in 0..5 {
        let _ = fixture.answer(&fixture.list("/a"), unauthenticated(Some(60 * SECOND))).await;
    }
    assert!(!fixture.is_in_trouble());
    assert!(fixture.rests("/b"), "with a value to serve, no lookup tries the login");
    assert!(fixture.is_admitted(&fixture.get("/b")), "without one, it does");
    let _ = fixture.answer(&fixture.get_from("another", "/a"), Ok(())).await;
    assert!(!fixture.is_notified().await);
    let _ = fixture.answer(&fixture.list("/a"), Ok(())).await;
    assert!(fixture.is_notified().await);
    assert!(!fixture.rests("/b"));
}

#[tokio::test(start_paused = true)]
async fn one_hanging_directory_does_not_stop_the_others() {
    let fixture = Fixture::new();
    let [a, b] = [fixture.get("/a"), fixture.get("/b")];
    let _hangs = fixture.upstream.begin(&a, clock::now()).unwrap();
    tokio::time::advance(SECOND).await;
    assert!(fixture.rests("/a") && !fixture.rests("/c"));
    let _hangs_too = fixture.upstream.begin(&b, clock::now()).unwrap();
    tokio::time::advance(SECOND).await;
    assert!(fixture.rests("/c"), "two of them are the host's affair");
}

#[tokio::test]
async fn answers_are_counted_by_what_they_were() {
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
    let tally = fixture.upstream.health().tally;
    let ProviderCounters { given, unreachable, throttled, .. } = tally;
    assert_eq!((given, unreachable, throttled), (1, 2, 0));
    assert_eq!((tally.gone, tally.denied, tally.unauthenticated, tally.misbehaved), (1, 1, 1, 1));
    assert_eq!(fixture.upstream.complaint().as_deref(), Some("no"));
}
