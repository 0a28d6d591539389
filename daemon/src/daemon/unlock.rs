//! The key: opened while the socket is served already, by its backend or by the recovery key.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use psi_common::BackendTag;
use tokio_util::sync::CancellationToken;

use super::{Daemon, Keeping, Topic, lock};
use crate::adopt::first_start::{self, Conversion};
use crate::cache::Snapshot;
use crate::clock;
use crate::envelope::{BackendPart, Vault};
use crate::key::{KeyBackend, LoadedKey, SealOptions};
use crate::notify;
use crate::persist::{self, Loaded, Persister, Remembered};
use crate::recovery::{self, RecoveryKey};
use crate::registry::{Registry, RegistryError};
use crate::service::ServiceError;
use crate::tasks::Task;

/// How long after a key that did not open to try again: a token may be put back at any time. Not sooner: a
/// recovery whose last fsync failed is done again first, and only then is its key sure to survive a power cut.
const TRY_AGAIN: Duration = Duration::from_secs(30);

impl Daemon {
    /// Opens the key, while lookups that need it wait and systemd is asked for time; without success,
    /// tries again now and then until `stop`.
    pub async fn open(&self, stop: CancellationToken) {
        let what = self.backend.as_ref().map_or("none", |backend| backend.tag().name());
        let told = format!("opening the key ({what})");
        let _opening = self.service.gate.open_at_end();
        tokio::select! {
            () = self.unlock() => {}
            () = notify::ask_for_time(&told) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Tries again to open a key that did not open, until it does.
    pub async fn keep_trying(&self, stop: CancellationToken) {
        while self.backend.is_some() && self.vault().is_none() {
            if tokio::time::timeout(TRY_AGAIN, stop.cancelled()).await.is_ok() {
                return;
            }
            self.unlock().await;
        }
    }

    /// Opens the key and what is sealed under it, and starts to persist. A failure leaves the daemon
    /// serving live, with the reason in its status.
    pub async fn unlock(&self) {
        let _one = self.unlocking.lock().await;
        if lock(&self.keeping).is_some() {
            return;
        }
        let Some(backend) = &self.backend else {
            let why = "no key backend: live lookups only; set backend in [cache], and run `psi-driver cache init`";
            return self.degrade(Topic::Key, why);
        };
        match open_vault(&**backend, &self.cache_path, &self.service.registry).await {
            Ok(vault) => self.take_over(vault).await,
            Err(why) => self.degrade(Topic::Key, &why),
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
        if self.vault().is_some() && lock(&self.degraded).contains_key(&Topic::Rekey) {
            // An earlier try recovered the key, and could not seal everything as it is kept now.
            return self.finish_rekey().await;
        }
        if self.vault().is_some() {
            return Err("the key opens, and there is nothing to recover; to replace it, use \
                        `psi-driver cache rekey`"
                .into());
        }
        let path = self.recovery_path();
        let file = std::fs::read(&path).map_err(|error| {
            format!("{}: {error}; without it, only `psi-driver cache init` is left", path.display())
        })?;
        let mut keys = recovery::open(&file, recovery)
            .map_err(|why| format!("{why}; check what you typed"))?
            .into_iter();
        let present = keys.next().ok_or("recovery.enc holds no key; report it")?;
        let kept = backend.keep(present, seal).await.map_err(|error| error.to_string())?;
        // Of a rekey that was interrupted, the former key is in recovery.enc alone, as far as anybody can open
        // it. Until nothing needs it, which is when the rekey commits, a restart must be able to recover again.
        if keys.len() == 0 {
            backend.commit().await.map_err(|error| error.to_string())?;
        }
        let part = BackendPart { tag: backend.tag(), bytes: kept.part };
        let vault = Vault::new(kept.key, part.clone());
        for former in keys {
            vault.open_with(former, part.clone());
        }
        self.take_over(Arc::new(vault)).await;
        // A token's wrapping is in every file: those that another one wrapped must be written again.
        self.finish_rekey().await
    }

    /// Where the recovery key's file is.
    pub fn recovery_path(&self) -> std::path::PathBuf {
        self.cache_path.with_file_name("recovery.enc")
    }

    /// The keys in use, when one was opened.
    pub fn vault(&self) -> Option<Arc<Vault>> {
        lock(&self.vault).clone()
    }

    async fn take_over(&self, vault: Arc<Vault>) {
        self.recover(Topic::Key);
        *lock(&self.vault) = Some(Arc::clone(&vault));
        let is_done = self.take_over_registry(&vault);
        self.check_recovery(&vault);
        if self.convert_cache(&vault).await {
            if is_done {
                self.end_beginning(&vault);
            }
            self.start_to_persist(&vault);
        }
        if vault.has_former() {
            // What goes wrong is told as a degradation.
            let _ = self.resume_rekey(&vault).await;
        }
    }

    /// Opens what is registered. At the first start with a key, what lies there from before is believed, and
    /// sealed; false when it could not be.
    fn take_over_registry(&self, vault: &Arc<Vault>) -> bool {
        let (registry, path) = (&self.service.registry, &self.cache_path);
        let is_first = persist::is_first(path, vault, registry.has_sealed());
        if !is_first || registry.from_before(vault) == 0 {
            registry.unlock(Arc::clone(vault));
            return true;
        }
        // Interrupted from here on, it is still the first start. What `cache init` leaves says so too.
        let begun = match persist::remembered(path, vault) {
            Remembered::Nothing => persist::remember_beginning(path, vault),
            _ => Ok(()),
        };
        match begun
            .map_err(RegistryError::Storage)
            .and_then(|()| registry.take_over_with(Arc::clone(vault)))
        {
            Ok(sealed) => {
                tracing::info!("sealed {sealed} references from before there was a key");
                self.recover(Topic::Registry);
                true
            }
            Err(why) => {
                registry.believe_for_now(Arc::clone(vault));
                let why = ServiceError::from(why);
                let words =
                    format!("the references from before there was a key are not sealed: {why}");
                self.degrade(Topic::Registry, &format!("{words}; then restart psid"));
                false
            }
        }
    }

    /// From now on, a reference without a seal is refused.
    fn end_beginning(&self, vault: &Vault) {
        let path = &self.cache_path;
        // As long as the Python PSI's cache is there, taking over is not done.
        let remembered = persist::remembered(path, vault);
        let is_over = matches!(remembered, Remembered::Begun | Remembered::Generation(0))
            && !first_start::is_old(path);
        if is_over && let Err(why) = persist::remember(path, vault, 1) {
            tracing::warn!("beside {}: {why}; it is tried again at the next start", path.display());
        }
    }

    /// Takes over what the Python PSI left; false when it is in the way of a cache of ours.
    async fn convert_cache(&self, vault: &Arc<Vault>) -> bool {
        let Some(keys) = self.old_keys.as_ref().filter(|_| self.persists) else { return true };
        let (path, now) = (&self.cache_path, clock::now().wall);
        match first_start::convert_cache(path, vault, keys, &self.service, now).await {
            Conversion::Done => return true,
            Conversion::SetAside(why) => self.degrade(Topic::Cache, &why),
            Conversion::InTheWay(why) => {
                self.degrade(Topic::Cache, &why);
                return false;
            }
        }
        true
    }

    fn check_recovery(&self, vault: &Vault) {
        let checked = std::fs::read(self.recovery_path())
            .ok()
            .map(|file| vault.look(|keys| recovery::check(&file, keys)));
        match checked {
            Some(Err(why)) => self.degrade(
                Topic::Recovery,
                &format!("{why}: the recovery key is of no use; make a new one with `psi-driver cache recovery-key`"),
            ),
            _ => self.recover(Topic::Recovery),
        }
    }

    fn start_to_persist(&self, vault: &Arc<Vault>) {
        if !self.persists {
            let off =
                "the cache is off, enabled = false in [cache]: nothing that is fetched is kept";
            return self.degrade(Topic::Cache, off);
        }
        let remembered = persist::remembered(&self.cache_path, vault);
        let mut generation = match &remembered {
            Remembered::Generation(generation) => *generation,
            Remembered::Nothing | Remembered::Begun | Remembered::Unreadable(_) => 0,
        };
        let now = clock::now();
        match persist::load(&self.cache_path, vault, now.wall) {
            Loaded::Nothing => {}
            Loaded::Snapshot(snapshot) => {
                self.compare(&snapshot, &remembered, vault);
                generation = generation.max(snapshot.generation);
                self.service.cache.change_in_ram(|cache| cache.restore(snapshot, now));
            }
            Loaded::SetAside(why) => self.degrade(Topic::Cache, &why),
            // To persist now would overwrite it.
            Loaded::InTheWay(why) => return self.degrade(Topic::Cache, &why),
        }
        let cache = Arc::clone(&self.service.cache);
        let path = self.cache_path.clone();
        let persister = Arc::new(Persister::new(path, Arc::clone(vault), cache, generation));
        let (each, stop) = (Arc::clone(&persister), self.stop_keeping.clone());
        let task =
            self.service.tasks.supervise(Task::Persist, self.stop_keeping.clone(), move || {
                Arc::clone(&each).run(stop.clone())
            });
        *lock(&self.keeping) = Some(Keeping { persister, task });
    }

    /// Whether this is the cache that was written last.
    fn compare(&self, found: &Snapshot, remembered: &Remembered, vault: &Vault) {
        let (path, found) = (self.cache_path.display(), found.generation);
        let remedy = "what it holds may be old: run `psi-driver cache refresh`, and find out who put it there";
        match remembered {
            Remembered::Generation(last) if *last > found => self.degrade(
                Topic::Rollback,
                &format!("{path} is generation {found}, and {last} was written before; {remedy}"),
            ),
            // A write ends with the number: it may lag behind by one. A rekey that was interrupted may have
            // begun with a new number.
            Remembered::Generation(last) if *last + 1 < found && !vault.has_former() => self.degrade(
                Topic::Rollback,
                &format!(
                    "{path} is generation {found}, and the memory of the last one says {last}; {remedy}"
                ),
            ),
            Remembered::Nothing | Remembered::Begun if found > 1 => self.degrade(
                Topic::Rollback,
                &format!(
                    "{path} is generation {found}, and the memory of the last one is gone; {remedy}"
                ),
            ),
            Remembered::Unreadable(why) => self.degrade(
                Topic::Rollback,
                &format!("whether {path} is the last one cannot be told: {why}; {remedy}"),
            ),
            _ => {}
        }
    }
}

/// Opens the data keys that the files of the state folder need; `Err` is what happened; what to do.
pub async fn open_vault(
    backend: &dyn KeyBackend,
    cache: &Path,
    registry: &Registry,
) -> Result<Arc<Vault>, String> {
    let keys = backend.load(&parts(backend.tag(), cache, registry)).await;
    let mut keys = keys.map_err(|error| error.to_string())?.into_iter();
    let tag = backend.tag();
    let LoadedKey { key, part } = keys.next().ok_or("the key backend has no key; report it")?;
    let vault = Vault::new(key, BackendPart { tag, bytes: part });
    for LoadedKey { key, part } in keys {
        vault.open_with(key, BackendPart { tag, bytes: part });
    }
    Ok(Arc::new(vault))
}

/// The backend's parts in the files of the state folder, each once, the cache's first.
fn parts(tag: BackendTag, cache: &Path, registry: &Registry) -> Vec<Vec<u8>> {
    let registered = registry.backend_parts();
    let mut parts = Vec::new();
    for part in persist::backend_parts(cache).into_iter().chain(registered) {
        if part.tag == tag && !parts.contains(&part.bytes) {
            parts.push(part.bytes);
        }
    }
    parts
}
