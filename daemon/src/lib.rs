//! psid, in the order that a lookup takes: `grpc` (the peer, the wire), `service` (what is done),
//! `registry` (what podman registered), `cache` (what is known), `provider` (where values come from),
//! `persist` (what outlives the process), with `sealer` and `envelope` below it and `key` beside it.

pub mod cli;

pub mod adopt;
pub mod assemble;
pub mod boot;
pub mod config;
pub mod daemon;
pub mod diagnose;
pub mod hardening;
pub mod init;
pub mod listener;
pub mod logging;
pub mod memory;
pub mod notify;
pub mod preflight;

pub mod grpc;

pub mod drill;
pub mod gate;
pub mod import;
pub mod service;

pub mod inflight;
pub mod link;
pub mod refresh;
pub mod registry;
pub mod upstream;
pub mod workloads;

pub mod breaker;
pub mod cache;
pub mod clock;
pub mod reference;
pub mod shared_cache;

pub mod provider;

pub mod persist;

pub mod refusals;

pub mod envelope;
pub mod files;
pub mod hybrid;
pub mod legacy;
pub mod payload;
pub mod recovery;
pub mod reference_file;
pub mod sealer;

pub mod credential;
pub mod key;
pub mod pkcs11;
pub mod public_key;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use assemble::Surroundings;
use config::Config;
use daemon::{Daemon, Topic};
use listener::Listening;

/// Serves until `stop`, then writes what is not written yet.
pub async fn serve(
    config: Config,
    surroundings: &Surroundings,
    listening: Listening,
    stop: CancellationToken,
) -> Result<(), String> {
    // From here on, a hangup is a reload: before, it would end the process.
    let hangup = signal(SignalKind::hangup()).map_err(|error| format!("signals: {error}"))?;
    let owned = own_state(surroundings)?;
    let daemon = Arc::new(assemble::assemble(&config, surroundings));
    if let Some(why) = &owned.fault {
        daemon.degrade(Topic::State, why);
    }
    if listening.is_own {
        daemon.own_socket(surroundings.paths.socket.clone());
    }
    tokio::spawn(open_and_refresh(Arc::clone(&daemon), stop.clone()));
    tokio::spawn(reload_on_hangup(hangup, Arc::clone(&daemon), surroundings.clone(), stop.clone()));
    tokio::spawn(tidy(Arc::clone(&daemon), stop.clone()));
    tokio::spawn(notify::keep_alive(stop.clone()));
    let served = grpc::serve(Arc::clone(&daemon), listening.socket, stop.clone()).await;
    notify::stopping();
    daemon.stop_keeping().await;
    daemon.close_token().await;
    tracing::info!("stopped");
    served
}

/// The key may take half a minute to open; callers are answered meanwhile.
async fn open_and_refresh(daemon: Arc<Daemon>, stop: CancellationToken) {
    daemon.open(stop.clone()).await;
    tell_ready(&daemon);
    let schedule = daemon.schedule.subscribe();
    tokio::join!(
        daemon.keep_trying(stop.clone()),
        daemon.keep_testing(stop.clone()),
        daemon.refresher.keep_fresh(schedule, clock::now, stop.clone())
    );
}

/// The state folder, as long as this lives.
struct Owned {
    _lock: Option<std::fs::File>,
    /// Why nothing will last, when that is so.
    fault: Option<String>,
}

/// Two daemons on one state folder would overwrite each other's cache.
fn own_state(surroundings: &Surroundings) -> Result<Owned, String> {
    let state = &surroundings.paths.state;
    let told = |error: std::io::Error| {
        format!(
            "the state folder {}: {error}; see to it and restart psid, for nothing may last",
            state.display()
        )
    };
    let made = files::make_private_folder(state);
    match files::lock_folder(state) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(format!("another psid uses {}; stop it first", state.display()))
        }
        Err(error) => Ok(Owned { _lock: None, fault: Some(told(made.err().unwrap_or(error))) }),
        Ok(lock) => {
            files::remove_remnants(state);
            Ok(Owned { _lock: Some(lock), fault: made.err().map(told) })
        }
    }
}

fn tell_ready(daemon: &Daemon) {
    let entries = daemon.service.cache.read(cache::Cache::len);
    let secrets = daemon.service.registry.all().len();
    let degraded = daemon.degraded();
    let status = match degraded.first() {
        None => format!("serving {secrets} secrets, {entries} values cached"),
        Some(why) => format!("serving {secrets} secrets, DEGRADED: {why}"),
    };
    tracing::info!(secrets, entries, "ready: {status}");
    notify::ready(&status);
}

/// SIGHUP: the config is read again. A bad one is named, and the good one stays.
async fn reload_on_hangup(
    mut hangup: Signal,
    daemon: Arc<Daemon>,
    surroundings: Surroundings,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => {}
        }
        notify::reloading();
        match Config::read(&surroundings.paths.config) {
            Ok(config) => {
                assemble::follow(&daemon, &config, &surroundings).await;
                tracing::info!("the config was read again");
            }
            Err(error) => daemon
                .degrade(Topic::Config, &format!("{error}; the config before it stays in force")),
        }
        tell_ready(&daemon);
    }
}

/// Removes what was deleted, once it is restorable no more, and gives back memory that is free.
async fn tidy(daemon: Arc<Daemon>, stop: CancellationToken) {
    loop {
        let registry = Arc::clone(&daemon.service.registry);
        let work = move || {
            registry.purge(clock::now().wall);
            memory::give_back();
        };
        let _ = tokio::task::spawn_blocking(work).await;
        if tokio::time::timeout(Duration::from_secs(60), stop.cancelled()).await.is_ok() {
            return;
        }
    }
}
