//! The running daemon: construction from the config (`build`), the key (`unlock`, `rekey`), the background tasks
//! (`serve`, `self_test`) and the status (`degraded`). `control` implements what `grpc` calls.

pub(crate) mod build;
mod change_marks;
mod config_in_force;
mod control;
mod degraded;
pub(crate) mod listener;
mod rekey;
mod self_test;
pub(crate) mod serve;
mod unlock;
pub(crate) mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::crypto::keyring::Keyring;
use crate::keys::KeyBackend;
use crate::keys::pkcs11::{Token, TokenConfig};
use crate::lookup::Service;
use crate::model::clock;
use crate::refresh::{RefreshInterval, Refresher};
use crate::storage::cache_file::Persister;
use crate::trail::{Actor, Event, Record, Trail, TrailSubject};

use config_in_force::ConfigInForce;

pub(crate) use unlock::open_keyring;

/// A running daemon.
pub struct Runtime {
    /// Lookups and registrations.
    service: Arc<Service>,
    /// The record of uses, refusals and changes.
    trail: Arc<Trail>,
    /// Refreshes of the sources.
    refresher: Arc<Refresher>,
    /// The configured refresh interval.
    schedule: watch::Sender<RefreshInterval>,
    /// The config that the daemon runs with.
    in_force: ConfigInForce,
    /// The path of `cache.enc`.
    cache_path: PathBuf,
    /// The key backend; without one, psid stores nothing.
    backend: Option<Box<dyn KeyBackend>>,
    /// Whether the config enables the cache.
    persists: bool,
    /// The token, once a config has named one: its thread and session outlive reloads.
    token: Mutex<Option<Token>>,
    /// Serializes the opening and the replacement of keys.
    unlocking: tokio::sync::Mutex<()>,
    keyring: Mutex<Option<Arc<Keyring>>>,
    /// Whether the cache file could not be read; reading it is retried.
    is_blocked: AtomicBool,
    persister_task: Mutex<Option<PersisterTask>>,
    degraded: Mutex<BTreeMap<DegradedReason, String>>,
    stop_persister: CancellationToken,
}

/// The persister and its task.
struct PersisterTask {
    persister: Arc<Persister>,
    task: JoinHandle<()>,
}

/// The parts of a [`Runtime`].
pub(crate) struct RuntimeParts {
    pub(crate) service: Arc<Service>,
    pub(crate) interval: RefreshInterval,
    in_force: ConfigInForce,
    pub(crate) cache_path: PathBuf,
    pub(crate) backend: Option<Box<dyn KeyBackend>>,
    /// Whether the config enables the cache.
    pub(crate) persists: bool,
    pub(crate) token: Option<Token>,
}

/// The subject of a degradation; a later one with the same subject replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DegradedReason {
    /// The state directory.
    State,
    /// The data key.
    Key,
    /// An interrupted rekey.
    Rekey,
    /// `recovery.enc`
    Recovery,
    /// `cache.enc`
    Cache,
    /// A provider with an unusable configuration.
    Provider,
    /// A user of a workload that is unknown.
    User,
}

impl Runtime {
    /// A runtime without a key.
    pub(crate) fn new(parts: RuntimeParts) -> Self {
        let RuntimeParts { service, interval, in_force, cache_path, backend, persists, token } =
            parts;
        let registry = Arc::clone(service.registry());
        Self {
            trail: Arc::new(Trail::start(move |id| registry.label(id))),
            refresher: Arc::new(Refresher::new(Arc::clone(&service), interval)),
            service,
            schedule: watch::Sender::new(interval),
            in_force,
            cache_path,
            backend,
            persists,
            token: Mutex::new(token),
            unlocking: tokio::sync::Mutex::default(),
            keyring: Mutex::default(),
            is_blocked: AtomicBool::new(false),
            persister_task: Mutex::default(),
            degraded: Mutex::default(),
            stop_persister: CancellationToken::new(),
        }
    }

    /// Lookups and registrations.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Ends the persister once it has written pending changes.
    pub(crate) async fn stop_persister(&self) {
        self.stop_persister.cancel();
        let running = self.persister_task.lock().take();
        if let Some(running) = running {
            let _ = running.task.await;
        }
    }

    /// Applies the token of a reloaded config.
    pub(crate) fn follow_token(&self, config: Option<TokenConfig>) -> Option<Token> {
        let config = config?;
        let mut present = self.token.lock();
        match &*present {
            Some(token) => token.follow(config),
            None => *present = Some(Token::new(config)),
        }
        present.clone()
    }

    /// The token, once a config has named one.
    pub(crate) fn token(&self) -> Option<Token> {
        self.token.lock().clone()
    }

    /// Logs out of the token; for the end of the process.
    pub(crate) async fn close_token(&self) {
        if let Some(token) = self.token() {
            token.with_timeout(Duration::from_secs(2)).close().await;
        }
    }

    /// The persister, if the key is open.
    pub(crate) fn persister(&self) -> Option<Arc<Persister>> {
        self.persister_task.lock().as_ref().map(|running| Arc::clone(&running.persister))
    }

    /// Records a change of the config, which comes by a signal: the kernel does not name its sender.
    pub(crate) fn record_config(&self, outcome: &'static str) {
        let path = self.in_force.path().display().to_string();
        let record =
            Record::new(Event::Config, Actor::default(), TrailSubject::name(&path), outcome);
        self.trail.record(record, clock::now());
    }

    /// Takes each lock that a lookup takes. The watchdog calls it: it does not return if a lock is never released.
    pub(crate) fn touch(&self) {
        self.service.cache().len();
        self.service.registry().fault();
        for upstream in self.service.upstreams().providers.values() {
            drop(upstream.health());
        }
        drop(self.degraded.lock());
        self.trail.totals();
        self.service.tasks().reports(clock::now().mono);
    }
}
