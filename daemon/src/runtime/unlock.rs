//! The key: opened while the socket is served already, by its backend or by the recovery key.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use psi_common::BackendTag;
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

/// How long after a key that did not open to try again: a token may be put back at any time. Not sooner: a
/// recovery whose last fsync failed is done again first, and only then is its key sure to survive a power cut.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// How long after something that could not be read to try again.
const READ_AGAIN: Duration = Duration::from_secs(5);

impl Runtime {
    /// Opens the key, while lookups that need it wait and systemd is asked for time; without success,
    /// tries again now and then until `stop`.
    pub async fn open(&self, stop: CancellationToken) {
        let what = self.backend.as_ref().map_or("none", |backend| backend.tag().name());
        let told = format!("opening the key ({what})");
        let _opening = self.service.readiness.ready_at_end();
        tokio::select! {
            () = self.unlock() => {}
            () = notify::extend_timeout(&told) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Tries again what did not succeed, until `stop`: to read what could not be read, and to open a key that
    /// did not open.
    pub async fn keep_trying(&self, stop: CancellationToken) {
        let mut key_tried = Instant::now();
        while tokio::time::timeout(READ_AGAIN, stop.cancelled()).await.is_err() {
            if self.service.registry.has_unreadable() {
                let registry = Arc::clone(&self.service.registry);
                blocking(move || registry.reload_unreadable()).await;
            }
            let is_blocked = self.is_blocked.load(Ordering::Relaxed);
            let is_closed = self.backend.is_some() && self.keyring().is_none();
            if is_blocked || (is_closed && key_tried.elapsed() >= TRY_AGAIN) {
                self.unlock().await;
                key_tried = Instant::now();
            }
        }
    }

    /// Opens the key and what is sealed under it, and starts to persist. A failure leaves the daemon
    /// serving live, with the reason in its status.
    pub async fn unlock(&self) {
        let _one = self.unlocking.lock().await;
        if self.keeping.lock().is_some() {
            return;
        }
        if let Some(keyring) = self.keyring() {
            return self.start_to_persist(&keyring).await;
        }
        let Some(backend) = &self.backend else {
            let why = "no key backend: live lookups only; set backend in [cache], and run `psictl cache init`";
            return self.degrade(DegradedReason::Key, why);
        };
        match open_keyring(&**backend, &self.cache_path, &self.service.registry).await {
            Ok(keyring) => self.take_over(keyring).await,
            Err(why) => self.degrade(DegradedReason::Key, &why),
        }
    }

    /// Opens the data keys by the recovery key, keeps them as the backend does now, and unlocks.
    pub async fn recover_key(
        &self,
        recovery: &RecoveryKey,
        seal: Option<&SealOptions>,
    ) -> Result<(), String> {
        let _one = self.unlocking.lock().await;
        let backend = self.backend.as_ref().ok_or(
            "there is no key backend to keep the key; set backend in [cache], and restart psid",
        )?;
        if self.keyring().is_some() && self.degraded.lock().contains_key(&DegradedReason::Rekey) {
            // An earlier try recovered the key, and could not seal everything as it is kept now.
            return self.finish_rekey().await;
        }
        if self.keyring().is_some() {
            return Err("the key opens, and there is nothing to recover; to replace it, use \
                        `psictl cache rekey`"
                .into());
        }
        let path = self.recovery_path();
        let file = tokio::fs::read(&path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "there is no {}; put it back from a backup: without it, only `psictl cache init` is left",
                path.display()
            ),
            _ => files::problem(&path, &error).to_string(),
        })?;
        let mut keys = recovery_key::open(&file, recovery)
            .map_err(|why| format!("{why}; check what you typed"))?
            .into_iter();
        let present = keys.next().ok_or("recovery.enc holds no key; report it")?;
        let kept = backend.keep(present, seal).await.map_err(|error| error.to_string())?;
        // Of a rekey that was interrupted, the former key is in recovery.enc alone, as far as anybody can open
        // it. Until nothing needs it, which is when the rekey commits, a restart must be able to recover again.
        if keys.len() == 0 {
            backend.commit().await.map_err(|error| error.to_string())?;
        }
        let part = WrappedKeyHeader { tag: backend.tag(), bytes: kept.part };
        let keyring = Keyring::new(kept.key, part.clone());
        for former in keys {
            keyring.open_with(former, part.clone());
        }
        self.take_over(Arc::new(keyring)).await;
        // A token's wrapping is in every file: those that another one wrapped must be written again.
        self.finish_rekey().await
    }

    /// Where the recovery key's file is.
    pub fn recovery_path(&self) -> std::path::PathBuf {
        self.cache_path.with_file_name("recovery.enc")
    }

    /// The keys in use, when one was opened.
    pub fn keyring(&self) -> Option<Arc<Keyring>> {
        self.keyring.lock().clone()
    }

    async fn take_over(&self, keyring: Arc<Keyring>) {
        self.recover(DegradedReason::Key);
        *self.keyring.lock() = Some(Arc::clone(&keyring));
        let (registry, opened) = (Arc::clone(&self.service.registry), Arc::clone(&keyring));
        blocking(move || registry.unlock(opened)).await;
        self.check_recovery(&keyring).await;
        self.start_to_persist(&keyring).await;
        if keyring.has_former() {
            // What goes wrong is told as a degradation.
            let _ = self.resume_rekey(&keyring).await;
        }
    }

    async fn check_recovery(&self, keyring: &Keyring) {
        let path = self.recovery_path();
        let why = match tokio::fs::read(&path).await {
            Ok(file) => match keyring.with_keys(|keys| recovery_key::check(&file, keys)) {
                Ok(()) => return self.recover(DegradedReason::Recovery),
                Err(why) => format!(
                    "{why}: the recovery key is of no use; make a new one with `psictl cache recovery-key`"
                ),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.recover(DegradedReason::Recovery);
            }
            Err(error) => {
                format!(
                    "whether the recovery key is good, nobody can tell: {}",
                    files::problem(&path, &error)
                )
            }
        };
        self.degrade(DegradedReason::Recovery, &why);
    }

    /// Reads the cache file, and keeps it from then on. One that cannot be read stays, and is tried again.
    async fn start_to_persist(&self, keyring: &Arc<Keyring>) {
        if !self.persists {
            let off =
                "the cache is off, enabled = false in [cache]: nothing that is fetched is kept";
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
                self.service.cache.restore(snapshot, now);
            }
            Loaded::Quarantined(why) => self.degrade(DegradedReason::Cache, &why),
            // To persist now would overwrite it.
            Loaded::Blocked(why) => {
                self.is_blocked.store(true, Ordering::Relaxed);
                return self.degrade(DegradedReason::Cache, &why);
            }
        }
        let cache = Arc::clone(&self.service.cache);
        let path = self.cache_path.clone();
        let persister = Arc::new(Persister::new(path, Arc::clone(keyring), cache, generation));
        let (each, stop) = (Arc::clone(&persister), self.stop_keeping.clone());
        let task =
            self.service.tasks.supervise(Task::Persist, self.stop_keeping.clone(), move || {
                Arc::clone(&each).run(stop.clone())
            });
        *self.keeping.lock() = Some(PersisterTask { persister, task });
    }
}

/// Opens the data keys that the files of the state folder need; `Err` is what happened; what to do.
pub(crate) async fn open_keyring(
    backend: &dyn KeyBackend,
    cache: &Path,
    registry: &Arc<Registry>,
) -> Result<Arc<Keyring>, String> {
    let tag = backend.tag();
    let (cache, registry) = (cache.to_owned(), Arc::clone(registry));
    let Components { parts, unread } =
        blocking(move || parts(tag, &cache, &registry)).await.unwrap_or_default();
    let keys = backend.load(&parts).await.map_err(|error| match unread {
        // A token's key lies in the files that were sealed under it.
        Some(unread) if tag == BackendTag::Hsm => {
            format!("a file that may hold the wrapped key cannot be read, which is tried again: {unread}")
        }
        _ => error.to_string(),
    })?;
    let mut keys = keys.into_iter();
    let LoadedKey { key, part } = keys.next().ok_or("the key backend has no key; report it")?;
    let keyring = Keyring::new(key, WrappedKeyHeader { tag, bytes: part });
    for LoadedKey { key, part } in keys {
        keyring.open_with(key, WrappedKeyHeader { tag, bytes: part });
    }
    Ok(Arc::new(keyring))
}

/// The backend's parts in the files of the state folder.
#[derive(Default)]
struct Components {
    /// Each once, the cache's first.
    parts: Vec<Vec<u8>>,
    /// What could not be read: why, and what to do.
    unread: Option<String>,
}

fn parts(tag: BackendTag, cache: &Path, registry: &Registry) -> Components {
    let SealedUnder { parts: registered, mut unread } = registry.sealed_under();
    let cached = cache_file::wrapped_key_header(cache).unwrap_or_else(|why| {
        unread = Some(why.to_string());
        None
    });
    let mut parts = Vec::new();
    for part in cached.into_iter().chain(registered) {
        if part.tag == tag && !parts.contains(&part.bytes) {
            parts.push(part.bytes);
        }
    }
    Components { parts, unread }
}
