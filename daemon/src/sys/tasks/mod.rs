//! Supervision of the background tasks. A task that panics or ends before psid stops is restarted and reported in
//! the log, the status and the metrics: otherwise, psid would keep serving without refreshing or writing anything.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The pause before the restart after the first crash; each further crash doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The time since its last crash after which a task counts as healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(600);

/// A task that runs as long as psid does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Opens the key, and retries until it opens.
    Key,
    /// Refreshes by the schedule.
    Refresh,
    /// Tests that all registered secrets resolve without a provider.
    SelfTest,
    /// Marks the workloads with changed values.
    Changes,
    /// Writes `cache.enc`.
    Persist,
    /// Reads the config again.
    Reload,
    /// Removes deleted registrations, returns free memory, and looks for unknown users.
    Tidy,
    /// Notifies systemd's watchdog.
    Watchdog,
}

/// The supervised tasks and their state.
#[derive(Default)]
pub(crate) struct Tasks {
    records: Mutex<BTreeMap<Task, Record>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    crashes: u64,
    last_crash: Option<Instant>,
    /// When the running step began.
    busy_since: Option<Instant>,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskReport {
    /// The task.
    pub task: Task,
    /// The number of crashes since the start.
    pub crashes: u64,
    /// The duration of the running step, if it exceeds its limit.
    pub stalled: Option<Duration>,
}

/// A running step of a task; it ends on drop.
pub(crate) struct TaskStep {
    tasks: Arc<Tasks>,
    task: Task,
}

impl Task {
    const ALL: [Self; 8] = [
        Self::Key,
        Self::Refresh,
        Self::SelfTest,
        Self::Changes,
        Self::Persist,
        Self::Reload,
        Self::Tidy,
        Self::Watchdog,
    ];

    /// Its name, in the log and the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Refresh => "refresh",
            Self::SelfTest => "self-test",
            Self::Changes => "changes",
            Self::Persist => "persist",
            Self::Reload => "reload",
            Self::Tidy => "tidy",
            Self::Watchdog => "watchdog",
        }
    }

    /// What psid does not do without it.
    fn effect(self) -> &'static str {
        match self {
            Self::Key => "the key is not opened",
            Self::Refresh => "cached values are not refreshed",
            Self::SelfTest => "an outage is not tested",
            Self::Changes => "units are not restarted after a change",
            Self::Persist => "fetched values are not written to cache.enc",
            Self::Reload => "the config is not read again",
            Self::Tidy => "deleted secrets are not removed from the disk",
            Self::Watchdog => "systemd's watchdog is not notified",
        }
    }

    /// The longest duration of a step.
    fn limit(self) -> Duration {
        match self {
            // A large source under a rate limit takes many minutes.
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
    /// Runs `run` as a task until `stop`, and restarts it after each crash.
    pub(crate) fn supervise<F>(
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
                if began.elapsed() >= HEALTHY_AFTER {
                    pause = FIRST_PAUSE;
                }
                tasks.note_crash(task);
                // No restart after the stop.
                if stop.is_cancelled()
                    || tokio::time::timeout(pause, stop.cancelled()).await.is_ok()
                {
                    return;
                }
                pause = LONGEST_PAUSE.min(2 * pause);
            }
        })
    }

    /// Records a crash for the log and the status.
    pub(crate) fn note_crash(&self, task: Task) {
        let crashes = {
            let mut records = self.records.lock();
            let record = records.entry(task).or_default();
            record.crashes += 1;
            record.last_crash = Some(Instant::now());
            record.busy_since = None;
            record.crashes
        };
        tracing::error!(
            task = task.name(),
            crashes,
            "psid's {} task crashed and is restarted; until then, {}; please report it",
            task.name(),
            task.effect()
        );
    }

    /// Begins a step of a task, which is reported if it takes too long.
    pub(crate) fn step(self: &Arc<Self>, task: Task) -> TaskStep {
        self.records.lock().entry(task).or_default().busy_since = Some(Instant::now());
        TaskStep { tasks: Arc::clone(self), task }
    }

    /// The state of each task.
    pub(crate) fn reports(&self, now: Instant) -> Vec<TaskReport> {
        let records = self.records.lock();
        let report = |task| {
            let record = records.get(&task).copied().unwrap_or_default();
            let busy = record.busy_since.map(|since| now.saturating_duration_since(since));
            let stalled = busy.filter(|busy| *busy > task.limit());
            TaskReport { task, crashes: record.crashes, stalled }
        };
        Task::ALL.into_iter().map(report).collect()
    }

    /// A message for each task that crashed recently or is stalled.
    pub(crate) fn degraded(&self, now: Instant) -> Vec<String> {
        let last_crash = |task: Task| {
            let last_crash = self.records.lock().get(&task)?.last_crash?;
            let ago = now.saturating_duration_since(last_crash);
            (ago < HEALTHY_AFTER).then_some(ago)
        };
        let mut reasons = Vec::new();
        for TaskReport { task, crashes, stalled } in self.reports(now) {
            let (name, effect) = (task.name(), task.effect());
            if let Some(ago) = last_crash(task) {
                let times = if crashes == 1 { "once".into() } else { format!("{crashes} times") };
                let ago = ago.as_secs();
                reasons.push(format!(
                    "psid's {name} task crashed {times} since the start, {ago} s ago the last time, and {effect} \
                     until it runs again; please report it with the output of `journalctl -u psid`"
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
}

impl Drop for TaskStep {
    fn drop(&mut self) {
        if let Some(record) = self.tasks.records.lock().get_mut(&self.task) {
            record.busy_since = None;
        }
    }
}

/// Runs blocking work. Its panic continues in the caller, so that the supervisor sees it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => None,
        },
    }
}

/// The output of `future`; `None` if it panicked, so that the caller can continue with its other work.
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
mod tests;
