//! The scheduler, over a provider that works, fails and recovers.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;

/// A running scheduler, and a clock that the test can suspend and set.
struct RunningScheduler {
    fixture: Arc<Fixture>,
    schedule: watch::Sender<RefreshInterval>,
    suspended: Arc<Mutex<Duration>>,
    stop: CancellationToken,
}

impl RunningScheduler {
    fn begin(fixture: Fixture) -> Self {
        let fixture = Arc::new(fixture);
        let schedule = watch::Sender::new(SCHEDULE);
        let (stop, suspended) = (CancellationToken::new(), Arc::new(Mutex::default()));
        let running = Self { fixture, schedule, suspended, stop };
        let clock = running.clock();
        let (schedule, stop) = (running.schedule.subscribe(), running.stop.clone());
        let refresher = Arc::clone(&running.fixture.refresher);
        tokio::spawn(async move { refresher.keep_fresh(schedule, clock, stop).await });
        running
    }

    /// The boot clock includes suspends, and tokio's does not. The wall clock is arbitrary.
    fn clock(&self) -> impl Fn() -> Now + Send + use<> {
        let (start, suspended) = (self.fixture.start, Arc::clone(&self.suspended));
        move || {
            let mono = Instant::now();
            let gone = mono.duration_since(start.mono) + *suspended.lock().unwrap();
            let wall = Timestamp::from_millis(u64::from(getrandom::u32().unwrap()));
            Now { wall, boot: start.boot.after(gone), mono }
        }
    }

    fn lists(&self) -> u32 {
        self.fixture.provider.lists()
    }

    /// How many listings there were within `span`.
    async fn lists_in(&self, span: Duration) -> u32 {
        let before = self.lists();
        // In steps, so that tasks that a step wakes run before the next one.
        let until = Instant::now() + span;
        while Instant::now() < until {
            tokio::time::advance(2 * SECOND).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        self.lists() - before
    }
}

impl Drop for RunningScheduler {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn sources_are_pulled_soon_after_a_start_and_then_once_an_interval() {
    let running = RunningScheduler::begin(Fixture::new());
    assert_eq!(running.lists_in(29 * SECOND).await, 0);
    assert_eq!(running.lists_in(5 * SECOND).await, 1);
    assert_eq!(running.lists_in(59 * MINUTE).await, 0);
    assert_eq!(running.lists_in(2 * MINUTE).await, 1);
    assert_eq!(running.lists_in(3 * HOUR).await, 3);
}

#[tokio::test(start_paused = true)]
async fn missed_pull_follows_soon_after_a_suspend() {
    let running = RunningScheduler::begin(Fixture::new());
    assert_eq!(running.lists_in(MINUTE).await, 1);
    *running.suspended.lock().unwrap() = 8 * HOUR;
    assert_eq!(running.lists_in(MINUTE).await, 1);
    assert_eq!(running.lists_in(58 * MINUTE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn new_schedule_counts_from_now() {
    let running = RunningScheduler::begin(Fixture::new());
    assert_eq!(running.lists_in(MINUTE).await, 1);
    let schedule = RefreshInterval { interval: 5 * MINUTE, max_jitter: Duration::ZERO };
    running.schedule.send_replace(schedule);
    assert_eq!(running.lists_in(4 * MINUTE).await, 0);
    assert_eq!(running.lists_in(2 * MINUTE).await, 1);
}

/// psid notices a recovery without lookups, and lookups do not add requests.
#[tokio::test(start_paused = true)]
async fn outage_is_probed_less_often_and_recovery_refreshes_due_sources() {
    for lookups in [false, true] {
        let running = RunningScheduler::begin(Fixture::with_directories(&["/a", "/app", "/z"]));
        let provider = &running.fixture.provider;
        provider.fail(out());
        let mut calls = Vec::new();
        // The first pull, half a minute after the start, fails by the outage.
        for _ in 0..10 {
            let before = provider.calls();
            for _ in 0..30 {
                running.lists_in(2 * SECOND).await;
                if lookups {
                    let _ = running.fixture.lookup_of("K", Duration::ZERO).await;
                    let _ = running.fixture.lookup_of("L", Duration::ZERO).await;
                }
            }
            calls.push(provider.calls() - before);
        }
        // At most: a request, its retry, and then a probe every 30 s or more.
        assert!(calls[0] <= 4, "{calls:?}");
        assert!(calls[1..].iter().all(|calls| *calls <= 2), "{calls:?}");
        assert!(calls[3..].iter().sum::<u32>() >= 2, "it does not give up: {calls:?}");
        assert!(calls[3..].iter().sum::<u32>() <= 4, "{calls:?}");
        provider.fail(None);
        let lists = running.lists_in(3 * MINUTE).await;
        assert_eq!(
            (lists, running.fixture.outage_is_confirmed()),
            (3, None),
            "each source that is due, once"
        );
        assert_eq!(running.lists_in(50 * MINUTE).await, 0);
    }
}

/// A provider that fails between two refreshes is probed before the next refresh.
#[tokio::test(start_paused = true)]
async fn failing_provider_is_probed_although_nothing_is_due() {
    let running = RunningScheduler::begin(Fixture::with_directories(&["/a", "/app"]));
    assert_eq!(running.lists_in(MINUTE).await, 2);
    running.fixture.provider.fail(out());
    running.fixture.lookup_of("UNKNOWN", Duration::ZERO).await.unwrap_err();
    assert_eq!(running.fixture.outage_is_confirmed(), Some(true));
    running.fixture.provider.fail(None);
    assert_eq!(running.lists_in(2 * MINUTE).await, 1, "one of them is enough to find out");
    assert_eq!(running.fixture.outage_is_confirmed(), None);
}

/// After a lookup's probe succeeds, the scheduler pulls at once what became due in the outage.
#[tokio::test(start_paused = true)]
async fn lookup_that_sees_a_recovery_wakes_the_scheduler() {
    let fixture = Fixture::new();
    fixture.provider.fail(out());
    fixture.lookup(Duration::ZERO).await.unwrap_err();
    assert_eq!(fixture.outage_is_confirmed(), Some(true));
    tokio::time::advance(MINUTE).await;
    fixture.provider.fail(None);
    fixture.lookup(Duration::ZERO).await.unwrap();
    assert_eq!(fixture.outage_is_confirmed(), None);
    let woken = tokio::time::timeout(Duration::ZERO, fixture.service.recovered.notified());
    assert!(woken.await.is_ok());
}

/// A source that does not exist must not be pulled more often than one that exists.
#[tokio::test(start_paused = true)]
async fn failing_source_is_retried_soon_and_then_less_often() {
    let fixture = Fixture::with_directories(&["/a", "/app"]);
    let gone = ProviderError::NotFound("no such directory".into());
    fixture.provider.error_of.lock().unwrap().insert("/a".into(), gone);
    let running = RunningScheduler::begin(fixture);
    assert_eq!(running.lists_in(MINUTE).await, 2);
    // After 1, 2, 4, 8 and 16 minutes plus jitter; the other one not once.
    let lists = running.lists_in(45 * MINUTE).await;
    assert!((4..=5).contains(&lists), "{lists}");
}

#[tokio::test(start_paused = true)]
async fn scheduler_sends_no_requests_in_a_drill() {
    let running = RunningScheduler::begin(Fixture::new());
    let now = Instant::now();
    let lease = running.fixture.service.drill.begin(now + 10 * MINUTE, now);
    assert_eq!(running.lists_in(9 * MINUTE).await, 0);
    drop(lease);
    assert_eq!(running.lists_in(2 * MINUTE).await, 1);
}

#[tokio::test(start_paused = true)]
async fn panic_in_one_source_fails_it_alone_and_is_reported() {
    let running = RunningScheduler::begin(Fixture::with_directories(&["/broken", "/app"]));
    *running.fixture.provider.panics_over.lock().unwrap() = Some("/broken".into());
    running.lists_in(40 * SECOND).await;
    let fixture = &running.fixture;
    assert_eq!(fixture.lookup(40 * SECOND).await.unwrap(), "one");
    assert_eq!(fixture.provider.fetches(), 0, "the other directory was not listed");
    let failed = fixture.refresher.last().unwrap().failed;
    assert!(failed[0].contains("psid crashed over it"), "{failed:?}");
    let degraded = fixture.service.tasks.degraded(Instant::now());
    assert!(degraded[0].contains("refresh task crashed"), "{degraded:?}");
    // It is retried, and succeeds once the defect is gone.
    *running.fixture.provider.panics_over.lock().unwrap() = None;
    running.lists_in(10 * MINUTE).await;
    assert_eq!(fixture.refresher.last().unwrap().failed, Vec::<String>::new());
    assert_eq!(fixture.service.tasks.degraded(Instant::now()), Vec::<String>::new());
}
