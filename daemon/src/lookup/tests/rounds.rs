//! The schedule, over a provider that is well, or not, or back.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;

/// A running schedule, and a clock that the test can suspend and set.
struct Rounds {
    fixture: Arc<Fixture>,
    schedule: watch::Sender<RefreshInterval>,
    suspended: Arc<Mutex<Duration>>,
    stop: CancellationToken,
}

impl Rounds {
    fn begin(fixture: Fixture) -> Self {
        let fixture = Arc::new(fixture);
        let schedule = watch::Sender::new(SCHEDULE);
        let (stop, suspended) = (CancellationToken::new(), Arc::new(Mutex::default()));
        let rounds = Self { fixture, schedule, suspended, stop };
        let clock = rounds.clock();
        let (schedule, stop) = (rounds.schedule.subscribe(), rounds.stop.clone());
        let refresher = Arc::clone(&rounds.fixture.refresher);
        tokio::spawn(async move { refresher.keep_fresh(schedule, clock, stop).await });
        rounds
    }

    /// The boot clock goes on in a suspend, and tokio's does not. The wall clock says what it likes.
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

    /// How many listings there were in so long.
    async fn lists_in(&self, span: Duration) -> u32 {
        let before = self.lists();
        // In steps, for what a step wakes must be done before the next one.
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

impl Drop for Rounds {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn sources_are_pulled_soon_after_a_start_and_then_once_an_interval() {
    let rounds = Rounds::begin(Fixture::new());
    assert_eq!(rounds.lists_in(29 * SECOND).await, 0);
    assert_eq!(rounds.lists_in(5 * SECOND).await, 1);
    assert_eq!(rounds.lists_in(59 * MINUTE).await, 0);
    assert_eq!(rounds.lists_in(2 * MINUTE).await, 1);
    assert_eq!(rounds.lists_in(3 * HOUR).await, 3);
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_a_pull_that_was_missed_comes_soon() {
    let rounds = Rounds::begin(Fixture::new());
    assert_eq!(rounds.lists_in(MINUTE).await, 1);
    *rounds.suspended.lock().unwrap() = 8 * HOUR;
    assert_eq!(rounds.lists_in(MINUTE).await, 1);
    assert_eq!(rounds.lists_in(58 * MINUTE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_schedule_counts_from_now() {
    let rounds = Rounds::begin(Fixture::new());
    assert_eq!(rounds.lists_in(MINUTE).await, 1);
    let schedule = RefreshInterval { interval: 5 * MINUTE, max_jitter: Duration::ZERO };
    rounds.schedule.send_replace(schedule);
    assert_eq!(rounds.lists_in(4 * MINUTE).await, 0);
    assert_eq!(rounds.lists_in(2 * MINUTE).await, 1);
}

/// With nobody asking, psid finds out by itself; with many asking, not more often.
#[tokio::test(start_paused = true)]
async fn an_outage_is_probed_ever_less_and_recovery_refreshes_what_is_due() {
    for lookups in [false, true] {
        let rounds = Rounds::begin(Fixture::with_folders(&["/a", "/app", "/z"]));
        let provider = &rounds.fixture.provider;
        provider.fail(out());
        let mut calls = Vec::new();
        // The first pull, half a minute after the start, meets the outage.
        for _ in 0..10 {
            let before = provider.calls();
            for _ in 0..30 {
                rounds.lists_in(2 * SECOND).await;
                if lookups {
                    let _ = rounds.fixture.lookup_of("K", Duration::ZERO).await;
                    let _ = rounds.fixture.lookup_of("L", Duration::ZERO).await;
                }
            }
            calls.push(provider.calls() - before);
        }
        // At most: one that may be a lost packet, one to make sure, and then a probe in 30 s or more.
        assert!(calls[0] <= 4, "{calls:?}");
        assert!(calls[1..].iter().all(|calls| *calls <= 2), "{calls:?}");
        assert!(calls[3..].iter().sum::<u32>() >= 2, "it does not give up: {calls:?}");
        assert!(calls[3..].iter().sum::<u32>() <= 4, "{calls:?}");
        provider.fail(None);
        let lists = rounds.lists_in(3 * MINUTE).await;
        assert_eq!((lists, rounds.fixture.trouble()), (3, None), "each source that is due, once");
        assert_eq!(rounds.lists_in(50 * MINUTE).await, 0);
    }
}

/// A provider that is seen to fail between two refreshes is found to be back without waiting for the next.
#[tokio::test(start_paused = true)]
async fn a_provider_in_trouble_is_probed_although_nothing_is_due() {
    let rounds = Rounds::begin(Fixture::with_folders(&["/a", "/app"]));
    assert_eq!(rounds.lists_in(MINUTE).await, 2);
    rounds.fixture.provider.fail(out());
    rounds.fixture.lookup_of("UNKNOWN", Duration::ZERO).await.unwrap_err();
    assert_eq!(rounds.fixture.trouble(), Some(true));
    rounds.fixture.provider.fail(None);
    assert_eq!(rounds.lists_in(2 * MINUTE).await, 1, "one of them is enough to find out");
    assert_eq!(rounds.fixture.trouble(), None);
}

/// A lookup's probe is answered: the schedule hears of it at once, and pulls what grew old in the outage.
#[tokio::test(start_paused = true)]
async fn a_lookup_that_finds_the_provider_back_wakes_the_schedule() {
    let fixture = Fixture::new();
    fixture.provider.fail(out());
    fixture.lookup(Duration::ZERO).await.unwrap_err();
    assert_eq!(fixture.trouble(), Some(true));
    tokio::time::advance(MINUTE).await;
    fixture.provider.fail(None);
    fixture.lookup(Duration::ZERO).await.unwrap();
    assert_eq!(fixture.trouble(), None);
    let woken = tokio::time::timeout(Duration::ZERO, fixture.service.recovered.notified());
    assert!(woken.await.is_ok());
}

/// A source that is gone for good must not be pulled more often than one that is there.
#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_confirmed_soon_and_then_left_alone_ever_longer() {
    let fixture = Fixture::with_folders(&["/a", "/app"]);
    let gone = ProviderError::NotFound("no such directory".into());
    fixture.provider.error_of.lock().unwrap().insert("/a".into(), gone);
    let rounds = Rounds::begin(fixture);
    assert_eq!(rounds.lists_in(MINUTE).await, 2);
    // After 1, 2, 4, 8 and 16 minutes and a little; the other one not once.
    let lists = rounds.lists_in(45 * MINUTE).await;
    assert!((4..=5).contains(&lists), "{lists}");
}

#[tokio::test(start_paused = true)]
async fn a_drill_keeps_the_schedule_from_the_provider() {
    let rounds = Rounds::begin(Fixture::new());
    let now = Instant::now();
    let lease = rounds.fixture.service.drill.begin(now + 10 * MINUTE, now);
    assert_eq!(rounds.lists_in(9 * MINUTE).await, 0);
    drop(lease);
    assert_eq!(rounds.lists_in(2 * MINUTE).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_crashes_psid_fails_alone_and_the_status_names_the_crash() {
    let rounds = Rounds::begin(Fixture::with_folders(&["/broken", "/app"]));
    *rounds.fixture.provider.panics_over.lock().unwrap() = Some("/broken".into());
    rounds.lists_in(40 * SECOND).await;
    let fixture = &rounds.fixture;
    assert_eq!(fixture.lookup(40 * SECOND).await.unwrap(), "one");
    assert_eq!(fixture.provider.fetches(), 0, "the other directory was not listed");
    let failed = fixture.refresher.last().unwrap().failed;
    assert!(failed[0].contains("psid crashed over it"), "{failed:?}");
    let degraded = fixture.service.tasks.degraded(Instant::now());
    assert!(degraded[0].contains("refresh task crashed"), "{degraded:?}");
    // It is tried again, and all is well once the defect is gone.
    *rounds.fixture.provider.panics_over.lock().unwrap() = None;
    rounds.lists_in(10 * MINUTE).await;
    assert_eq!(fixture.refresher.last().unwrap().failed, Vec::<String>::new());
    assert_eq!(fixture.service.tasks.degraded(Instant::now()), Vec::<String>::new());
}
