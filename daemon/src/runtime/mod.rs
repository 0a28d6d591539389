//! The parts of a running daemon, and how they follow a new config. `unlock` brings the key to them,
//! `rekey` replaces it.

pub(crate) mod build;
pub(crate) mod listener;
mod rekey;
mod self_test;
pub(crate) mod serve;
mod unlock;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cache::{RemovalReason, WithheldEntry};
use crate::config::Access;
use crate::crypto::keyring::Keyring;
use crate::keys::KeyBackend;
use crate::keys::pkcs11::{Token, TokenConfig};
use crate::lookup::Service;
use crate::model::clock;
use crate::refresh::{RefreshInterval, Refresher};
use crate::registry::Registered;
use crate::storage::cache_file::Persister;

pub(crate) use unlock::open_keyring;

/// A running daemon.
pub struct Runtime {
    /// What it does.
    pub service: Arc<Service>,
    /// What pulls every source.
    pub refresher: Arc<Refresher>,
    /// When that happens.
    pub schedule: watch::Sender<RefreshInterval>,
    /// Who may call.
    pub access: RwLock<Access>,
    /// Where `cache.enc` is.
    pub cache_path: PathBuf,
    /// Where the key lives; none: live lookups only.
    pub backend: Option<Box<dyn KeyBackend>>,
    /// Whether there is a cache file.
    persists: bool,
    /// The HSM, once the config has named one: it has one thread and one session, whatever is reloaded.
    token: Mutex<Option<Token>>,
    /// The socket, when it is one of our own and its mode is ours to set.
    socket: Mutex<Option<PathBuf>>,
    /// One opening or changing of keys at a time.
    unlocking: tokio::sync::Mutex<()>,
    keyring: Mutex<Option<Arc<Keyring>>>,
    /// Whether the cache file could not be read, and is to be tried again.
    is_blocked: AtomicBool,
    keeping: Mutex<Option<PersisterTask>>,
    degraded: Mutex<BTreeMap<DegradedReason, String>>,
    stop_keeping: CancellationToken,
}

/// The persister and its task.
struct PersisterTask {
    persister: Arc<Persister>,
    task: JoinHandle<()>,
}

/// Why the daemon is degraded.
pub struct Reason {
    /// A word for the cause that stays the same.
    pub cause: &'static str,
    /// What happened, with its cause; what to do.
    pub why: String,
}

/// What a sentence about degradation is about: a later one replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DegradedReason {
    /// The state folder.
    State,
    /// The data key.
    Key,
    /// A rekey that did not come to its end.
    Rekey,
    /// `recovery.enc`
    Recovery,
    /// `cache.enc`
    Cache,
    /// A provider that could not be set up.
    Provider,
    /// The config file, read again.
    Config,
}

impl Runtime {
    /// A daemon that has no key yet.
    pub fn new(
        service: Arc<Service>,
        schedule: RefreshInterval,
        access: Access,
        cache_path: PathBuf,
        backend: Option<Box<dyn KeyBackend>>,
        persists: bool,
        token: Option<Token>,
    ) -> Self {
        Self {
            refresher: Arc::new(Refresher::new(Arc::clone(&service), schedule)),
            service,
            schedule: watch::Sender::new(schedule),
            access: RwLock::new(access),
            cache_path,
            backend,
            persists,
            token: Mutex::new(token),
            socket: Mutex::default(),
            unlocking: tokio::sync::Mutex::default(),
            keyring: Mutex::default(),
            is_blocked: AtomicBool::new(false),
            keeping: Mutex::default(),
            degraded: Mutex::default(),
            stop_keeping: CancellationToken::new(),
        }
    }

    /// Writes what is not written yet, and ends the persister.
    pub async fn stop_keeping(&self) {
        self.stop_keeping.cancel();
        let keeping = self.keeping.lock().take();
        if let Some(keeping) = keeping {
            let _ = keeping.task.await;
        }
    }

    /// Takes over the socket whose mode follows `[access]`.
    pub fn own_socket(&self, path: PathBuf) {
        *self.socket.lock() = Some(path);
    }

    /// Follows a new `[access]`, with the mode of the socket too.
    pub fn follow_access(&self, access: Access) -> std::io::Result<()> {
        let mode = access.socket_mode();
        *self.access.write() = access;
        match &*self.socket.lock() {
            Some(path) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }

    /// The token of a config that was read again.
    pub fn follow_token(&self, config: Option<TokenConfig>) -> Option<Token> {
        let config = config?;
        let mut present = self.token.lock();
        match &*present {
            Some(token) => token.follow(config),
            None => *present = Some(Token::new(config)),
        }
        present.clone()
    }

    /// The token, once the config has named one.
    pub fn token(&self) -> Option<Token> {
        self.token.lock().clone()
    }

    /// Logs out of the token, if there is one, when the process ends.
    pub async fn close_token(&self) {
        if let Some(token) = self.token() {
            token.with_timeout(Duration::from_secs(2)).close().await;
        }
    }

    /// The persister, when there is a key.
    pub fn persister(&self) -> Option<Arc<Persister>> {
        self.keeping.lock().as_ref().map(|keeping| Arc::clone(&keeping.persister))
    }

    /// Goes through what every lookup goes through; it never returns when one of these is held for ever.
    pub fn touch(&self) {
        self.service.cache.len();
        self.service.registry.fault();
        for upstream in self.service.upstreams().providers.values() {
            drop(upstream.health());
        }
        drop(self.access.read());
        drop(self.degraded.lock());
        self.service.tasks.reports(clock::now().mono);
    }

    /// Takes note of a degradation, and tells the log once.
    pub fn degrade(&self, topic: DegradedReason, why: &str) {
        let known = self.degraded.lock().insert(topic, why.to_owned());
        if known.as_deref() != Some(why) {
            tracing::warn!(?topic, "{why}");
        }
    }

    /// Takes note that a degradation is over.
    pub fn recover(&self, topic: DegradedReason) {
        self.degraded.lock().remove(&topic);
    }

    /// Why the daemon is degraded, one sentence each.
    pub fn degraded(&self) -> Vec<Reason> {
        let noted = self.degraded.lock();
        let noted =
            noted.iter().map(|(topic, why)| Reason { cause: topic.cause(), why: why.clone() });
        let mut reasons: Vec<Reason> = noted.collect();
        let mut add = |cause, why| reasons.push(Reason { cause, why });
        if !self.service.readiness.is_ready() {
            add("key-opening", "the key is being opened; what needs it waits".into());
        }
        for why in self.service.tasks.degraded(clock::now().mono) {
            add("task", why);
        }
        if let Some(why) = self.persister().and_then(|persister| persister.state().error) {
            let path = self.cache_path.display();
            add(
                "cache-write",
                format!(
                    "{path} cannot be written: {why}; psid keeps trying, and a restart now would lose what it fetched"
                ),
            );
        }
        if let Some(why) = self.service.registry.fault() {
            let why = format!("the registered secrets cannot be read, which is tried again: {why}");
            add("registry-unreadable", why);
        }
        if let Some(why) = self.service.registry.trash_fault() {
            let why = format!("what was deleted cannot be read, which is tried again: {why}");
            add("trash-unreadable", why);
        }
        for upstream in self.service.upstreams().providers.values() {
            let faults = upstream.provider.login_faults();
            for why in &faults {
                add("login", why.clone());
            }
            if faults.is_empty()
                && let Some(why) = upstream.last_refusal()
            {
                add(
                    "provider-refuses",
                    format!("{} does not give what it is asked for: {why}", upstream.name),
                );
            }
        }
        self.doubts(&mut add);
        let registry = self.service.registry.all();
        let mut unusable = registry.iter().filter_map(|(id, what)| match what {
            Registered::Invalid(why) => Some(format!("secret {id} is not usable: {why}")),
            Registered::Unreadable(why) => {
                Some(format!("secret {id} cannot be read, which is tried again: {why}"))
            }
            _ => None,
        });
        for why in unusable.by_ref().take(5) {
            add("secret", why);
        }
        match unusable.count() {
            0 => {}
            1 => add("secret", "and 1 more secret is not usable".into()),
            more => add("secret", format!("and {more} more secrets are not usable")),
        }
        reasons
    }

    /// What is served although the provider or the config is against it.
    fn doubts(&self, add: &mut impl FnMut(&'static str, String)) {
        let doubted = self.service.cache.withheld();
        let overdue = self.service.cache.past_max_stale(clock::now().boot);
        let is_held = |doubted: &&WithheldEntry| {
            matches!(doubted.reason, RemovalReason::Unlisted | RemovalReason::Emptied)
        };
        let held = doubted.iter().filter(is_held).count();
        let refused = doubted.len() - held;
        if refused > 0 {
            let secrets = secrets(refused);
            add(
                "taken-back",
                format!(
                    "of {secrets} the provider says that it is gone or denied; it is served until that is confirmed"
                ),
            );
        }
        if held > 0 {
            let secrets = secrets(held);
            add(
                "held",
                format!(
                    "a refresh would have taken away or emptied {secrets}, more than it may at once: kept until \
                     another refresh confirms that, or `psictl cache refresh --accept-removals`"
                ),
            );
        }
        if overdue > 0 {
            let secrets = secrets(overdue);
            add(
                "overdue",
                format!(
                    "{secrets} older than max_stale, and served only because of a use since the boot: containers may \
                     be running with them; `psictl cache refresh` says why there is no newer value"
                ),
            );
        }
    }
}

/// "1 cached secret", "2 cached secrets".
fn secrets(count: usize) -> String {
    if count == 1 { "1 cached secret".into() } else { format!("{count} cached secrets") }
}

impl DegradedReason {
    /// A word for it that stays the same.
    fn cause(self) -> &'static str {
        match self {
            Self::State => "state-directory",
            Self::Key => "key",
            Self::Rekey => "rekey",
            Self::Recovery => "recovery-key",
            Self::Cache => "cache-file",
            Self::Provider => "provider-config",
            Self::Config => "config",
        }
    }
}
