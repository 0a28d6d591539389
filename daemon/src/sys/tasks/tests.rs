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
async fn panicked_task_is_restarted_and_reported_until_it_is_healthy() {
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
    tokio::time::advance(HEALTHY_AFTER).await;
    assert_eq!(tasks.degraded(Instant::now()), Vec::<String>::new());
    assert_eq!(crashes(&tasks, Task::Persist), 3);
    stop.cancel();
    supervisor.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn task_that_ends_early_counts_as_crashed_unless_it_may_end() {
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
async fn stop_ends_running_and_waiting_tasks() {
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
async fn pauses_grow_to_a_minute_and_reset_after_a_long_run() {
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
async fn slow_step_is_reported_until_it_ends() {
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
async fn panic_of_blocking_work_reaches_the_task() {
    assert_eq!(blocking(|| 1).await, Some(1));
    assert!(tokio::spawn(blocking(|| panic!("injected"))).await.unwrap_err().is_panic());
    assert_eq!(caught(async { 1 }).await, Some(1));
    let panics = async {
        tokio::task::yield_now().await;
        panic!("injected")
    };
    assert_eq!(caught::<_>(panics).await, None::<()>);
}
