//! Opens the key by its backend or by the recovery key. The socket is served meanwhile.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use psi_common::{BackendTag, Problem};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{DegradedReason, PersisterTask, Runtime};
use crate::crypto::envelope::WrappedKeyHeader;
use crate::crypto::keyring::Keyring;
use crate::crypto::recovery_key::{self, RecoveryKey};
use crate::keys::{KeyBackend, LoadedKey, SealOptions};
use crate::model::clock;
use crate::registry::{Registry, SealedUnder};
use crate::storage::cache_file::{self, Loaded, Persister};
use crate::sys::files;
use crate::sys::notify;
use crate::sys::tasks::{Task, blocking};

/// The interval of retries for a key that did not open: a token may be plugged in at any time. It is not shorter, so
/// that an admin can repeat a recovery whose last fsync failed before its key, which a power cut may lose, is used.
const KEY_RETRY: Duration = Duration::from_secs(30);

/// The interval of retries for files that could not be read.
const READ_RETRY: Duration = Duration::from_secs(5);

impl Runtime {
    /// Opens the key for the first time, until `stop`. Lookups that need it wait, and the start timeout of systemd
    /// is extended.
    pub async fn open(&self, stop: CancellationToken) {
        let backend = self.backend.as_ref().map_or("none", |backend| backend.tag().name());
        let status = format!("opening the key ({backend})");
        let _opening = self.service.readiness().ready_at_end();
        tokio::select! {
            () = self.unlock() => {}
            () = notify::extend_timeout(&status) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Retries until `stop`: files that could not be read, and a key that did not open.
    pub async fn keep_trying(&self, stop: CancellationToken) {
        let mut key_tried = Instant::now();
        while tokio::time::timeout(READ_RETRY, stop.cancelled()).await.is_err() {
            if self.service.registry().has_unreadable() {
                let registry = Arc::clone(self.service.registry());
                blocking(move || registry.reload_unreadable()).await;
            }
            let is_blocked = self.is_blocked.load(Ordering::Relaxed);
            let is_closed = self.backend.is_some() && self.keyring().is_none();
            if is_blocked || (is_closed && key_tried.elapsed() >= KEY_RETRY) {
                self.unlock().await;
                key_tried = Instant::now();
            }
        }
    }

    /// Opens the key, the literals and the cache, and starts the persister. After a failure psid is degraded, and its
    /// lookups are live.
    pub async fn unlock(&self) {
        let _one = self.unlocking.lock().await;
        if self.persister_task.lock().is_some() {
            return;
        }
        if let Some(keyring) = self.keyring() {
            return self.start_persister(&keyring).await;
        }
        let Some(backend) = &self.backend else {
            let why = "no key backend: live lookups only; set backend in [cache], and run `psictl cache init`";
            return self.degrade(DegradedReason::Key, why);
        };
        match open_keyring(&**backend, &self.cache_path, self.service.registry()).await {
            Ok(keyring) => self.use_keyring(keyring).await,
            Err(problem) => self.degrade(DegradedReason::Key, &problem.to_string()),
        }
    }

    /// Opens the data keys with the recovery key, seals the current one to the backend, and unlocks.
    pub async fn recover_key(
        &self,
        recovery: &RecoveryKey,
        seal: Option<&SealOptions>,
    ) -> Result<(), Problem> {
        let _one = self.unlocking.lock().await;
        let backend = self.backend.as_ref().ok_or_else(|| {
            Problem::new(
                "there is no key backend to seal the key to",
                "set backend in [cache], and run `systemctl restart psid`",
            )
        })?;
        if self.keyring().is_some() && self.degraded.lock().contains_key(&DegradedReason::Rekey) {
            // An earlier recovery opened the key, but could not seal every file under it.
            return self.finish_rekey().await;
        }
        if self.keyring().is_some() {
            return Err(Problem::new(
                "the key opens, and there is nothing to recover",
                "to replace it, run `psictl cache rekey`",
            ));
        }
        let path = self.recovery_path();
        let file = tokio::fs::read(&path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Problem::new(
                format!("there is no {}", path.display()),
                "restore it from a backup; without one, only `psictl cache init` is left",
            ),
            _ => files::problem(&path, &error),
        })?;
        let mut keys = recovery_key::open(&file, recovery)
            .map_err(|error| Problem::new(error.to_string(), "check what you typed"))?
            .into_iter();
        let current =
            keys.next().ok_or_else(|| Problem::new("recovery.enc holds no key", "report it"))?;
        let stored = backend.store(current, seal).await.map_err(|error| error.problem)?;
        // After an interrupted rekey, only recovery.enc has a former key that can be opened. The backend commits
        // when no file needs that key any more; until then, a restart must be able to recover again.
        if keys.len() == 0 {
            backend.commit().await.map_err(|error| error.problem)?;
        }
        let header = WrappedKeyHeader { tag: backend.tag(), bytes: stored.header };
        let keyring = Keyring::new(stored.key, header.clone());
        for former in keys {
            keyring.add_former(former, header.clone());
        }
        self.use_keyring(Arc::new(keyring)).await;
        // With the hsm backend, every file holds the wrapped key: files with another wrapping are written again.
        self.finish_rekey().await
    }

    /// The path of `recovery.enc`.
    pub fn recovery_path(&self) -> std::path::PathBuf {
        self.cache_path.with_file_name("recovery.enc")
    }

    /// The open keys.
    pub fn keyring(&self) -> Option<Arc<Keyring>> {
        self.keyring.lock().clone()
    }

    async fn use_keyring(&self, keyring: Arc<Keyring>) {
        self.recover(DegradedReason::Key);
        *self.keyring.lock() = Some(Arc::clone(&keyring));
        let (registry, opened) = (Arc::clone(self.service.registry()), Arc::clone(&keyring));
        blocking(move || registry.unlock(opened)).await;
        self.check_recovery(&keyring).await;
        self.start_persister(&keyring).await;
        if keyring.has_former() {
            // A failure is recorded as a degradation.
            let _ = self.resume_rekey(&keyring).await;
        }
    }

    async fn check_recovery(&self, keyring: &Keyring) {
        let path = self.recovery_path();
        let problem = match tokio::fs::read(&path).await {
            Ok(file) => match keyring.with_keys(|keys| recovery_key::check(&file, keys)) {
                Ok(()) => return self.recover(DegradedReason::Recovery),
                Err(error) => Problem::new(
                    format!("the recovery key does not open the data key: {error}"),
                    "make a new one with `psictl cache recovery-key`",
                ),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.recover(DegradedReason::Recovery);
            }
            Err(error) => {
                let Problem { what, remedy } = files::problem(&path, &error);
                Problem::new(format!("the recovery key cannot be checked: {what}"), remedy)
            }
        };
        self.degrade(DegradedReason::Recovery, &problem.to_string());
    }

    /// Reads the cache file and starts its persister. A file that cannot be read stays unchanged, and reading it is
    /// retried.
    async fn start_persister(&self, keyring: &Arc<Keyring>) {
        if !self.persists {
            let off = "the cache is off, and no fetched value outlives a restart; set enabled = true in [cache]";
            return self.degrade(DegradedReason::Cache, off);
        }
        let (path, opened, now) = (self.cache_path.clone(), Arc::clone(keyring), clock::now());
        let Some(loaded) = blocking(move || cache_file::load(&path, &opened, now.wall)).await
        else {
            return self
                .degrade(DegradedReason::Cache, "the reader of the cache crashed; report it");
        };
        if self.is_blocked.swap(false, Ordering::Relaxed) {
            self.recover(DegradedReason::Cache);
        }
        let mut generation = 0;
        match loaded {
            Loaded::Nothing => {}
            Loaded::Snapshot(snapshot) => {
                generation = snapshot.generation;
                self.service.cache().restore(snapshot, now);
            }
            Loaded::Quarantined(why) => self.degrade(DegradedReason::Cache, &why),
            // The persister would overwrite it.
            Loaded::Blocked(why) => {
                self.is_blocked.store(true, Ordering::Relaxed);
                return self.degrade(DegradedReason::Cache, &why);
            }
        }
        let cache = Arc::clone(self.service.cache());
        let path = self.cache_path.clone();
        let persister = Arc::new(Persister::new(path, Arc::clone(keyring), cache, generation));
        let (each, stop) = (Arc::clone(&persister), self.stop_persister.clone());
        let task =
            self.service.tasks().supervise(Task::Persist, self.stop_persister.clone(), move || {
                Arc::clone(&each).run(stop.clone())
            });
        *self.persister_task.lock() = Some(PersisterTask { persister, task });
    }
}

/// Opens the data keys of the files in the state directory.
pub(crate) async fn open_keyring(
    backend: &dyn KeyBackend,
    cache: &Path,
    registry: &Arc<Registry>,
) -> Result<Arc<Keyring>, Problem> {
    let tag = backend.tag();
    let (cache, registry) = (cache.to_owned(), Arc::clone(registry));
    let WrappedKeys { keys, unread } =
        blocking(move || wrapped_keys(tag, &cache, &registry)).await.unwrap_or_default();
    let keys = backend.load(&keys).await.map_err(|error| match unread {
        // With the hsm backend, the wrapped key is in the files that are sealed under it.
        Some(Problem { what, remedy }) if tag == BackendTag::Hsm => Problem::new(
            format!(
                "a file that may hold the wrapped key cannot be read, which is tried again: {what}"
            ),
            remedy,
        ),
        _ => error.problem,
    })?;
    let mut keys = keys.into_iter();
    let LoadedKey { key, header } =
        keys.next().ok_or_else(|| Problem::new("the key backend has no key", "report it"))?;
    let keyring = Keyring::new(key, WrappedKeyHeader { tag, bytes: header });
    for LoadedKey { key, header } in keys {
        keyring.add_former(key, WrappedKeyHeader { tag, bytes: header });
    }
    Ok(Arc::new(keyring))
}

/// The wrapped keys of a backend in the files of the state directory.
#[derive(Default)]
struct WrappedKeys {
    /// Each once, the cache's first.
    keys: Vec<Vec<u8>>,
    /// The problem with a file that could not be read.
    unread: Option<Problem>,
}

fn wrapped_keys(tag: BackendTag, cache: &Path, registry: &Registry) -> WrappedKeys {
    let SealedUnder { headers: registered, unread } = registry.sealed_under();
    let mut unread = unread.map(Problem::without_remedy);
    let cached = cache_file::wrapped_key_header(cache).unwrap_or_else(|problem| {
        unread = Some(problem);
        None
    });
    let mut keys = Vec::new();
    for header in cached.into_iter().chain(registered) {
        if header.tag == tag && !keys.contains(&header.bytes) {
            keys.push(header.bytes);
        }
    }
    WrappedKeys { keys, unread }
}
