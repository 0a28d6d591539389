//! psid's background tasks, supervised. A task that panics or ends before psid stops is started again, and
//! the log, the status and the metrics name it: without that, psid would go on serving while nothing is
//! refreshed or written any more.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long after the first crash the task is started again; each crash that follows doubles it…
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A task that has run for so long since its last crash counts as well again.
const TRUSTED_AFTER: Duration = Duration::from_secs(600);

/// A task that runs as long as psid does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Opens the key, and tries again while it does not open.
    Key,
    /// Refreshes by the schedule.
    Refresh,
    /// Tries every registered secret without a provider.
    SelfTest,
    /// Writes `cache.enc`.
    Persist,
    /// Reads the config again.
    Reload,
    /// Removes deleted registrations, and gives free memory back.
    Tidy,
    /// Feeds systemd's watchdog.
    Watchdog,
}

/// The supervised tasks, and how they fare.
#[derive(Default)]
pub struct Tasks {
    records: Mutex<BTreeMap<Task, Record>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    crashes: u64,
    last_crash: Option<Instant>,
    /// Since when one step of it is under way.
    busy_since: Option<Instant>,
}

/// How a task fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskReport {
    /// Which task.
    pub task: Task,
    /// How often it crashed since the start.
    pub crashes: u64,
    /// For how long one step of it has been under way, when that is longer than it may take.
    pub stalled: Option<Duration>,
}

/// A step that a task has begun; it ends when this is dropped.
pub struct Step {
    tasks: Arc<Tasks>,
    task: Task,
}

impl Task {
    const ALL: [Self; 7] = [
        Self::Key,
        Self::Refresh,
        Self::SelfTest,
        Self::Persist,
        Self::Reload,
        Self::Tidy,
        Self::Watchdog,
    ];

    /// Its name, in the log and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Refresh => "refresh",
            Self::SelfTest => "self-test",
            Self::Persist => "persist",
            Self::Reload => "reload",
            Self::Tidy => "tidy",
            Self::Watchdog => "watchdog",
        }
    }

    /// What psid lacks without it.
    fn effect(self) -> &'static str {
        match self {
            Self::Key => "the key is not opened",
            Self::Refresh => "cached values are not refreshed",
            Self::SelfTest => "an outage is not tested",
            Self::Persist => "fetched values are not written to cache.enc",
            Self::Reload => "the config is not read again",
            Self::Tidy => "deleted secrets are not removed from the disk",
            Self::Watchdog => "systemd's watchdog is not fed",
        }
    }

    /// How long one step of it may take.
    fn limit(self) -> Duration {
        match self {
            // A wide source under a rate limit takes many minutes.
            Self::Refresh => Duration::from_secs(3_600),
            _ => Duration::from_secs(60),
        }
    }

    /// Whether it may end before psid does.
    fn may_end(self) -> bool {
        matches!(self, Self::Key | Self::Watchdog)
    }
}

impl Tasks {
    /// Runs `run` as a task of its own until `stop`, and again after each crash.
    pub fn supervise<F>(
        self: &Arc<Self>,
        task: Task,
        stop: CancellationToken,
        run: impl Fn() -> F + Send + Sync + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tasks, run) = (Arc::clone(self), Arc::new(run));
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let (began, run) = (Instant::now(), Arc::clone(&run));
                let ended = tokio::spawn(async move { run().await }).await;
                if ended.is_ok() && (task.may_end() || stop.is_cancelled()) {
                    return;
                }
                if began.elapsed() >= TRUSTED_AFTER {
                    pause = FIRST_PAUSE;
                }
                tasks.note_crash(task);
                // A crash after the stop is no reason to do the same again.
                if stop.is_cancelled()
                    || tokio::time::timeout(pause, stop.cancelled()).await.is_ok()
                {
                    return;
                }
                pause = LONGEST_PAUSE.min(2 * pause);
            }
        })
    }

    /// Takes note of a crash, for the log and the status.
    pub fn note_crash(&self, task: Task) {
        let crashes = {
            let mut records = self.lock();
            let record = records.entry(task).or_default();
            record.crashes += 1;
            record.last_crash = Some(Instant::now());
            record.busy_since = None;
            record.crashes
        };
        tracing::error!(
            task = task.name(),
            crashes,
            "psid's {} task crashed and is started again: until then {}; please report it",
            task.name(),
            task.effect()
        );
    }

    /// Begins a step of a task; one that takes too long is reported.
    pub fn step(self: &Arc<Self>, task: Task) -> Step {
        self.lock().entry(task).or_default().busy_since = Some(Instant::now());
        Step { tasks: Arc::clone(self), task }
    }

    /// How each task fares.
    pub fn reports(&self, now: Instant) -> Vec<TaskReport> {
        let records = self.lock();
        let report = |task| {
            let record = records.get(&task).copied().unwrap_or_default();
            let busy = record.busy_since.map(|since| now.saturating_duration_since(since));
            let stalled = busy.filter(|busy| *busy > task.limit());
            TaskReport { task, crashes: record.crashes, stalled }
        };
        Task::ALL.into_iter().map(report).collect()
    }

    /// Why psid is degraded, one sentence for each task that crashed lately or stands still.
    pub fn degraded(&self, now: Instant) -> Vec<String> {
        let lately = |task: Task| {
            let last_crash = self.lock().get(&task)?.last_crash?;
            let ago = now.saturating_duration_since(last_crash);
            (ago < TRUSTED_AFTER).then_some(ago)
        };
        let mut reasons = Vec::new();
        for TaskReport { task, crashes, stalled } in self.reports(now) {
            let (name, effect) = (task.name(), task.effect());
            if let Some(ago) = lately(task) {
                let times = if crashes == 1 { "once".into() } else { format!("{crashes} times") };
                let ago = ago.as_secs();
                reasons.push(format!(
                    "psid's {name} task crashed {times} since the start, {ago} s ago the last time, and {effect} \
                     until it runs again; `journalctl -u psid` names the place, please report it"
                ));
            }
            if let Some(stalled) = stalled {
                let stalled = stalled.as_secs();
                reasons.push(format!(
                    "psid's {name} task has been in one step for {stalled} s, and {effect} meanwhile; \
                     `systemctl restart psid` if it does not end"
                ));
            }
        }
        reasons
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Task, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(record) = self.tasks.lock().get_mut(&self.task) {
            record.busy_since = None;
        }
    }
}

/// Runs work that blocks; its panic is the caller's, so that the supervisor sees it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends.
            Err(_) => None,
        },
    }
}

/// What `future` gives; `None` when it panicked, so that one piece of work is not the end of all that
/// follow it.
pub(crate) async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Lets the other tasks run, with the clock standing still.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn crashes(tasks: &Tasks, task: Task) -> u64 {
        let reports = tasks.reports(Instant::now());
        reports.iter().find(|report| report.task == task).map_or(0, |report| report.crashes)
    }

    /// A task that panics, or ends, in its first `bad` runs, and then runs until `stop`.
    fn start(
        tasks: &Arc<Tasks>,
        task: Task,
        stop: &CancellationToken,
        bad: u32,
        panics: bool,
    ) -> (JoinHandle<()>, Arc<AtomicU32>) {
        let runs = Arc::new(AtomicU32::new(0));
        let (counted, waits) = (Arc::clone(&runs), stop.clone());
        let supervisor = tasks.supervise(task, stop.clone(), move || {
            let (run, waits) = (counted.fetch_add(1, Ordering::SeqCst), waits.clone());
            async move {
                match run < bad {
                    true if panics => panic!("injected"),
                    true => {}
                    false => waits.cancelled().await,
                }
            }
        });
        (supervisor, runs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_restarted_and_named_until_it_has_run_well() {
        let (tasks, stop) = (Arc::new(Tasks::default()), CancellationToken::new());
        let (supervisor, runs) = start(&tasks, Task::Persist, &stop, 3, true);
        settle().await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(tasks.degraded(Instant::now())[0].contains("persist task crashed once"));
        // After 1, 2 and 4 seconds.
        for (pause, expected) in [(1, 2), (2, 3), (4, 4)] {
            tokio::time::advance(pause * SECOND - Duration::from_millis(1)).await;
            settle().await;
            assert_eq!(runs.load(Ordering::SeqCst), expected - 1);
            tokio::time::advance(Duration::from_millis(2)).await;
            settle().await;
            assert_eq!(runs.load(Ordering::SeqCst), expected);
        }
        let degraded = tasks.degraded(Instant::now());
        assert_eq!(degraded.len(), 1);
        assert!(degraded[0].contains("crashed 3 times"), "{degraded:?}");
        assert!(degraded[0].contains("not written to cache.enc"), "{degraded:?}");
        tokio::time::advance(TRUSTED_AFTER).await;
        assert_eq!(tasks.degraded(Instant::now()), Vec::<String>::new());
        assert_eq!(crashes(&tasks, Task::Persist), 3);
        stop.cancel();
        supervisor.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_before_the_stop_counts_as_crashed_unless_it_may_end() {
        let (tasks, stop) = (Arc::new(Tasks::default()), CancellationToken::new());
        let (_refresh, refreshes) = start(&tasks, Task::Refresh, &stop, 1, false);
        let (key, keys) = start(&tasks, Task::Key, &stop, 1, false);
        key.await.unwrap();
        settle().await;
        tokio::time::advance(2 * SECOND).await;
        settle().await;
        assert_eq!((refreshes.load(Ordering::SeqCst), keys.load(Ordering::SeqCst)), (2, 1));
        assert_eq!((crashes(&tasks, Task::Refresh), crashes(&tasks, Task::Key)), (1, 0));
        // A panic is a crash of any task.
        let (_key, keys) = start(&tasks, Task::Key, &stop, 1, true);
        settle().await;
        tokio::time::advance(2 * SECOND).await;
        settle().await;
        assert_eq!((crashes(&tasks, Task::Key), keys.load(Ordering::SeqCst)), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_stop_ends_a_task_and_one_that_waits_to_be_restarted() {
        let (tasks, stop) = (Arc::new(Tasks::default()), CancellationToken::new());
        let (runs, _) = start(&tasks, Task::Tidy, &stop, 0, true);
        let (waits, starts) = start(&tasks, Task::Reload, &stop, u32::MAX, true);
        settle().await;
        stop.cancel();
        runs.await.unwrap();
        waits.await.unwrap();
        assert_eq!((crashes(&tasks, Task::Tidy), starts.load(Ordering::SeqCst)), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_minute_and_start_anew_after_a_long_run() {
        let (tasks, stop) = (Arc::new(Tasks::default()), CancellationToken::new());
        let (_supervisor, runs) = start(&tasks, Task::Refresh, &stop, u32::MAX, true);
        for _ in 0..2_000 {
            tokio::time::advance(SECOND).await;
            settle().await;
        }
        // 1 + 2 + 4 + 8 + 16 + 32 s, and then one a minute.
        let runs = runs.load(Ordering::SeqCst);
        assert!((35..=40).contains(&runs), "{runs}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_takes_too_long_is_named_until_it_ends() {
        let tasks = Arc::new(Tasks::default());
        let step = tasks.step(Task::Persist);
        tokio::time::advance(59 * SECOND).await;
        assert_eq!(tasks.degraded(Instant::now()), Vec::<String>::new());
        tokio::time::advance(2 * SECOND).await;
        let degraded = tasks.degraded(Instant::now());
        assert!(degraded[0].contains("persist task has been in one step for 61 s"), "{degraded:?}");
        drop(step);
        assert_eq!(tasks.degraded(Instant::now()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_panic_of_blocking_work_is_the_tasks_own() {
        assert_eq!(blocking(|| 1).await, Some(1));
        assert!(tokio::spawn(blocking(|| panic!("injected"))).await.unwrap_err().is_panic());
        assert_eq!(caught(async { 1 }).await, Some(1));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("injected")
        };
        assert_eq!(caught::<_>(panics).await, None::<()>);
    }
}
