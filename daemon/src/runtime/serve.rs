//! The daemon from its start to its stop.

use super::build;
use crate::grpc;
use crate::model::clock;
use crate::sys::{files, malloc, notify};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::build::Environment;
use super::listener::Listening;
use super::{DegradedReason, Runtime};
use crate::config::Config;
use crate::grpc::control::Control;
use crate::sys::tasks::{self, Task};

/// How long psid tries to revoke its access tokens when it ends.
const REVOKING_TAKES: Duration = Duration::from_secs(2);

/// One run of a task.
type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves until `stop`, then writes what is not written yet.
pub(crate) async fn serve(
    config: Config,
    surroundings: &Environment,
    listening: Listening,
    stop: CancellationToken,
) -> Result<(), String> {
    // From here on, a hangup is a reload: before, it would end the process.
    let hangup = signal(SignalKind::hangup()).map_err(|error| format!("signals: {error}"))?;
    let owned = own_state(surroundings)?;
    let daemon = Arc::new(build::assemble(&config, surroundings));
    if let Some(why) = &owned.fault {
        daemon.degrade(DegradedReason::State, why);
    }
    if listening.is_own {
        daemon.own_socket(surroundings.paths.socket.clone());
    }
    start_tasks(&daemon, hangup, surroundings, &stop);
    let served =
        grpc::serve(Arc::clone(&daemon) as Arc<dyn Control>, listening.socket, stop.clone()).await;
    notify::stopping();
    let (closing, kept) = (close_providers(&daemon), daemon.stop_keeping());
    tokio::join!(closing, kept);
    daemon.close_token().await;
    tracing::info!("stopped");
    served
}

/// Revokes what providers gave psid. One that is out, or slow, does not keep psid from ending.
async fn close_providers(daemon: &Runtime) {
    let upstreams = daemon.service.upstreams();
    let close = async {
        for upstream in upstreams.providers.values() {
            let is_well = upstream.health().breaker.outage().is_none();
            if is_well {
                upstream.provider.close().await;
            }
        }
    };
    let _ = tokio::time::timeout(REVOKING_TAKES, close).await;
}

/// Starts what runs beside the calls. If the server itself ends, so does psid, and systemd starts it again.
fn start_tasks(
    daemon: &Arc<Runtime>,
    hangup: Signal,
    surroundings: &Environment,
    stop: &CancellationToken,
) {
    let spawn =
        |task: Task, run: Box<dyn Fn(Arc<Runtime>, CancellationToken) -> Run + Send + Sync>| {
            let (each, until) = (Arc::clone(daemon), stop.clone());
            let run = move || run(Arc::clone(&each), until.clone());
            daemon.service.tasks.supervise(task, stop.clone(), run);
        };
    let (hangup, surroundings) = (Arc::new(Mutex::new(hangup)), surroundings.clone());
    spawn(Task::Key, Box::new(|daemon, stop| Box::pin(keep_key(daemon, stop))));
    spawn(Task::Refresh, Box::new(|daemon, stop| Box::pin(keep_fresh(daemon, stop))));
    spawn(Task::SelfTest, Box::new(|daemon, stop| Box::pin(keep_testing(daemon, stop))));
    spawn(Task::Tidy, Box::new(|daemon, stop| Box::pin(tidy(daemon, stop))));
    spawn(
        Task::Reload,
        Box::new(move |daemon, stop| {
            let (hangup, surroundings) = (Arc::clone(&hangup), surroundings.clone());
            Box::pin(async move {
                reload_on_hangup(&mut *hangup.lock().await, &daemon, &surroundings, stop).await;
            })
        }),
    );
    spawn(
        Task::Watchdog,
        Box::new(|daemon, stop| {
            Box::pin(async move {
                notify::keep_alive(stop, || {
                    let daemon = Arc::clone(&daemon);
                    async move { tasks::blocking(move || daemon.touch()).await.is_some() }
                })
                .await;
            })
        }),
    );
}

/// The key may take half a minute to open; callers are answered meanwhile.
async fn keep_key(daemon: Arc<Runtime>, stop: CancellationToken) {
    let ready = Ready(&daemon);
    daemon.open(stop.clone()).await;
    drop(ready);
    daemon.keep_trying(stop).await;
}

/// What is refreshed before the key is there would be taken for new.
async fn keep_fresh(daemon: Arc<Runtime>, stop: CancellationToken) {
    if daemon.service.readiness.ready_or_stopped(&stop).await {
        let schedule = daemon.schedule.subscribe();
        daemon.refresher.keep_fresh(schedule, clock::now, stop).await;
    }
}

async fn keep_testing(daemon: Arc<Runtime>, stop: CancellationToken) {
    if daemon.service.readiness.ready_or_stopped(&stop).await {
        daemon.keep_testing(stop).await;
    }
}

/// Tells systemd when it is dropped that psid is ready, also when what came before crashed: psid serves.
struct Ready<'a>(&'a Runtime);

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        tell_ready(self.0);
    }
}

/// The state folder, as long as this lives.
struct Owned {
    _lock: Option<files::DirectoryLock>,
    /// Why nothing will last, when that is so.
    fault: Option<String>,
}

/// Two daemons on one state folder would overwrite each other's cache.
fn own_state(surroundings: &Environment) -> Result<Owned, String> {
    let state = &surroundings.paths.state;
    let told = |error: std::io::Error| {
        format!(
            "the state folder {}: {error}; see to it and restart psid, for nothing may last",
            state.display()
        )
    };
    let made = files::create_private_directory(state);
    match files::lock_directory(state, Duration::ZERO) {
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Err(format!("another psid uses {}; stop it first", state.display()))
        }
        Err(error) => Ok(Owned { _lock: None, fault: Some(told(made.err().unwrap_or(error))) }),
        Ok(lock) => {
            files::remove_temporary_files(state);
            Ok(Owned { _lock: Some(lock), fault: made.err().map(told) })
        }
    }
}

fn tell_ready(daemon: &Runtime) {
    let entries = daemon.service.cache.len();
    let secrets = daemon.service.registry.all().len();
    let degraded = daemon.degraded();
    let status = match degraded.first() {
        None => format!("serving {secrets} secrets, {entries} values cached"),
        Some(why) => format!("serving {secrets} secrets, DEGRADED: {}", why.why),
    };
    tracing::info!(secrets, entries, "ready: {status}");
    notify::ready(&status);
}

/// SIGHUP: the config is read again. A bad one is named, and the good one stays.
async fn reload_on_hangup(
    hangup: &mut Signal,
    daemon: &Runtime,
    surroundings: &Environment,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => {}
        }
        notify::reloading();
        let _ready = Ready(daemon);
        match Config::read(&surroundings.paths.config) {
            Ok(config) => {
                build::follow(daemon, &config, surroundings).await;
                tracing::info!("the config was read again");
            }
            // The status repeats it, until the file is corrected.
            Err(error) => tracing::warn!("{error}; the config before it stays in force"),
        }
    }
}

/// Removes what was deleted, once it is restorable no more, and gives back memory that is free.
async fn tidy(daemon: Arc<Runtime>, stop: CancellationToken) {
    loop {
        let registry = Arc::clone(&daemon.service.registry);
        let refresher = Arc::clone(&daemon.refresher);
        let work = move || {
            registry.purge(clock::now());
            refresher.drop_deleted(clock::now());
            malloc::trim();
        };
        tasks::blocking(work).await;
        if tokio::time::timeout(Duration::from_secs(60), stop.cancelled()).await.is_ok() {
            return;
        }
    }
}
