//! Runs the daemon from its start to its stop.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use psi_common::Problem;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::build::{self, Environment};
use super::listener::Listening;
use super::{DegradedReason, Runtime};
use crate::config::Config;
use crate::grpc;
use crate::grpc::control::Control;
use crate::model::clock;
use crate::sys::tasks::{self, Task};
use crate::sys::{files, malloc, notify};

/// How long the revocation of access tokens may take at the stop.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The interval at which expired trash is purged and free memory is returned.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// One run of a task.
type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves until `stop`, then writes pending changes.
pub(crate) async fn serve(
    config: Config,
    environment: &Environment,
    listening: Listening,
    stop: CancellationToken,
) -> Result<(), Problem> {
    // From here on, a SIGHUP reloads the config; before, it would end the process.
    let hangup = signal(SignalKind::hangup())
        .map_err(|error| Problem::new(format!("SIGHUP cannot be handled: {error}"), "report it"))?;
    let state = StateDirectory::open(environment)?;
    let runtime = Arc::new(build::runtime(&config, environment));
    if let Some(problem) = &state.fault {
        runtime.degrade(DegradedReason::State, &problem.to_string());
    }
    start_tasks(&runtime, hangup, environment, &stop);
    let sockets = grpc::Sockets { admin: listening.admin, users: listening.users };
    // Users wait in their socket's backlog until it is known who they are; root does not.
    let known = {
        let runtime = Arc::clone(&runtime);
        async move { runtime.find_users().await }
    };
    let served =
        grpc::serve(Arc::clone(&runtime) as Arc<dyn Control>, sockets, known, stop.clone()).await;
    notify::stopping();
    tokio::join!(close_providers(&runtime), runtime.stop_persister());
    runtime.close_token().await;
    let trail = Arc::clone(&runtime.trail);
    tasks::blocking(move || trail.close()).await;
    tracing::info!("stopped");
    served
}

/// Revokes psid's access tokens. A provider that is unreachable or slow does not delay the stop.
async fn close_providers(runtime: &Runtime) {
    let upstreams = runtime.service.upstreams();
    let close = async {
        for upstream in upstreams.providers.values() {
            let is_reachable = upstream.health().breaker.outage().is_none();
            if is_reachable {
                upstream.provider.close().await;
            }
        }
    };
    let _ = tokio::time::timeout(REVOCATION_TIMEOUT, close).await;
}

/// Starts the background tasks, each supervised. The server is none of them: if it ends, psid ends, and systemd
/// restarts it.
fn start_tasks(
    runtime: &Arc<Runtime>,
    hangup: Signal,
    environment: &Environment,
    stop: &CancellationToken,
) {
    let spawn =
        |task: Task, run: Box<dyn Fn(Arc<Runtime>, CancellationToken) -> Run + Send + Sync>| {
            let (each, until) = (Arc::clone(runtime), stop.clone());
            let run = move || run(Arc::clone(&each), until.clone());
            runtime.service.tasks().supervise(task, stop.clone(), run);
        };
    let (hangup, environment) = (Arc::new(Mutex::new(hangup)), environment.clone());
    spawn(Task::Key, Box::new(|runtime, stop| Box::pin(keep_key(runtime, stop))));
    spawn(Task::Refresh, Box::new(|runtime, stop| Box::pin(keep_fresh(runtime, stop))));
    spawn(Task::SelfTest, Box::new(|runtime, stop| Box::pin(keep_testing(runtime, stop))));
    let run = environment.paths.run.clone();
    spawn(
        Task::Changes,
        Box::new(move |runtime, stop| {
            let run = run.clone();
            Box::pin(async move { keep_marking(&runtime, &run, stop).await })
        }),
    );
    spawn(Task::Tidy, Box::new(|runtime, stop| Box::pin(tidy(runtime, stop))));
    spawn(
        Task::Reload,
        Box::new(move |runtime, stop| {
            let (hangup, environment) = (Arc::clone(&hangup), environment.clone());
            Box::pin(async move {
                reload_on_hangup(&mut *hangup.lock().await, &runtime, &environment, stop).await;
            })
        }),
    );
    spawn(
        Task::Watchdog,
        Box::new(|runtime, stop| {
            Box::pin(async move {
                notify::keep_alive(stop, || {
                    let runtime = Arc::clone(&runtime);
                    async move { tasks::blocking(move || runtime.touch()).await.is_some() }
                })
                .await;
            })
        }),
    );
}

/// Opens the key, which may take half a minute; calls are answered meanwhile.
async fn keep_key(runtime: Arc<Runtime>, stop: CancellationToken) {
    let ready = Ready(&runtime);
    runtime.open(stop.clone()).await;
    drop(ready);
    runtime.keep_trying(stop).await;
}

/// Refreshes once the key is open: before, each value would count as new.
async fn keep_fresh(runtime: Arc<Runtime>, stop: CancellationToken) {
    if runtime.service.readiness().ready_or_stopped(&stop).await {
        let schedule = runtime.schedule.subscribe();
        runtime.refresher.keep_fresh(schedule, clock::now, stop).await;
    }
}

async fn keep_testing(runtime: Arc<Runtime>, stop: CancellationToken) {
    if runtime.service.readiness().ready_or_stopped(&stop).await {
        runtime.keep_testing(stop).await;
    }
}

async fn keep_marking(runtime: &Runtime, run: &Path, stop: CancellationToken) {
    if runtime.service.readiness().ready_or_stopped(&stop).await {
        runtime.keep_marking(run, stop).await;
    }
}

/// Notifies systemd of the readiness when it is dropped: psid serves even if the step before it crashed.
struct Ready<'a>(&'a Runtime);

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        notify_ready(self.0);
    }
}

/// The state directory, locked while this lives.
struct StateDirectory {
    _lock: Option<files::DirectoryLock>,
    /// The reason why it is not usable.
    fault: Option<Problem>,
}

impl StateDirectory {
    /// Locks it: two daemons on one state directory would overwrite each other's cache. psid also serves without a
    /// usable one.
    fn open(environment: &Environment) -> Result<Self, Problem> {
        let state = &environment.paths.state;
        let unusable = |error: io::Error| {
            Problem::new(
                format!(
                    "psid cannot use the state directory {}, and a restart may lose what it stores: {error}",
                    state.display()
                ),
                "make it a directory that psid can write, and run `systemctl restart psid`",
            )
        };
        let created = files::create_private_directory(state);
        match files::lock_directory(state, Duration::ZERO) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let what = format!("another psid uses {}", state.display());
                Err(Problem::new(what, "stop it first"))
            }
            Err(error) => {
                Ok(Self { _lock: None, fault: Some(unusable(created.err().unwrap_or(error))) })
            }
            Ok(lock) => {
                files::remove_temporary_files(state);
                Ok(Self { _lock: Some(lock), fault: created.err().map(unusable) })
            }
        }
    }
}

fn notify_ready(runtime: &Runtime) {
    let entries = runtime.service.cache().len();
    let secrets = runtime.service.registry().all().len();
    let degraded = runtime.degraded();
    let status = match degraded.first() {
        None => format!("serving {secrets} secrets, {entries} values cached"),
        Some(why) => format!("serving {secrets} secrets, DEGRADED: {}", why.why),
    };
    tracing::info!(secrets, entries, "ready: {status}");
    notify::ready(&status);
}

/// Reloads the config at each SIGHUP. A config with a fault degrades psid, and the one before it stays in force.
async fn reload_on_hangup(
    hangup: &mut Signal,
    runtime: &Runtime,
    environment: &Environment,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => {}
        }
        notify::reloading();
        let _ready = Ready(runtime);
        match Config::read(&environment.paths.config) {
            Ok(config) => {
                build::follow(runtime, &config, environment).await;
                tracing::info!("the config was reloaded");
            }
            // The status repeats it, until the file is corrected.
            Err(error) => {
                tracing::warn!("{error}; the config before it stays in force");
                runtime.record_config("malformed");
            }
        }
    }
}

/// Purges deleted registrations that can no longer be restored, returns free memory to the kernel, and looks for users
/// that are unknown.
async fn tidy(runtime: Arc<Runtime>, stop: CancellationToken) {
    loop {
        runtime.trail.report_left_out(clock::now());
        let registry = Arc::clone(runtime.service.registry());
        let refresher = Arc::clone(&runtime.refresher);
        let work = move || {
            registry.purge(clock::now());
            refresher.drop_deleted(clock::now());
            malloc::trim();
        };
        tasks::blocking(work).await;
        runtime.find_users().await;
        if tokio::time::timeout(TIDY_INTERVAL, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}
