//! Replaces the data key. After an interruption at any point, the next start opens both keys, each file opens under
//! one of them, and the rekey is completed.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{DegradedReason, Runtime};
use psi_common::Problem;

use crate::crypto::aead::DataKey;
use crate::crypto::envelope::WrappedKeyHeader;
use crate::crypto::keyring::Keyring;
use crate::crypto::recovery_key::{self, RecoveryError, RecoveryKey};
use crate::keys::SealOptions;
use crate::lookup::ServiceError;
use crate::storage::cache_file;
use crate::sys::files;

impl Runtime {
    /// Makes a new data key and seals everything under it.
    pub async fn rekey(&self, seal: Option<&SealOptions>) -> Result<(), Problem> {
        let _one = self.unlocking.lock().await;
        let (Some(keyring), Some(backend)) = (self.keyring(), &self.backend) else {
            return Err(Problem::new("there is no key to replace", "see `psictl cache status`"));
        };
        if keyring.has_former() {
            self.resume_rekey(&keyring).await?;
        }
        let key = DataKey::generate().map_err(|error| {
            Problem::new(format!("the kernel returns no random numbers: {error}"), "try again")
        })?;
        let stored = backend.store(key, seal).await.map_err(|error| error.problem)?;
        // The recovery key must open both keys before any file is sealed under the new one.
        let rewrapped = self.rewrap(&keyring, |file, keys| {
            let both: Vec<&DataKey> =
                [&stored.key].into_iter().chain(keys.first().copied()).collect();
            recovery_key::rewrap(file, keys, &both)
        });
        // Also after a failure: the backend has the new key, and the next attempt continues with it.
        keyring
            .set_present(stored.key, WrappedKeyHeader { tag: backend.tag(), bytes: stored.header });
        rewrapped.inspect_err(|problem| self.degrade_rekey(problem))?;
        self.finish_rekey().await
    }

    /// Completes a rekey that was interrupted after the backend had the new key.
    pub(super) async fn resume_rekey(&self, keyring: &Keyring) -> Result<(), Problem> {
        // The interruption may precede the step after which the recovery key opens both keys.
        self.rewrap(keyring, |file, keys| recovery_key::rewrap(file, keys, keys))
            .inspect_err(|problem| self.degrade_rekey(problem))?;
        self.finish_rekey().await
    }

    /// Seals every file under the current key, and drops the former keys.
    pub(super) async fn finish_rekey(&self) -> Result<(), Problem> {
        self.reseal_all().await.inspect_err(|problem| self.degrade_rekey(problem))?;
        self.recover(DegradedReason::Rekey);
        Ok(())
    }

    fn degrade_rekey(&self, problem: &Problem) {
        self.degrade(
            DegradedReason::Rekey,
            &format!("a rekey was interrupted and is not done: {problem}"),
        );
    }

    async fn reseal_all(&self) -> Result<(), Problem> {
        let (Some(keyring), Some(backend)) = (self.keyring(), &self.backend) else { return Ok(()) };
        self.write_cache(&keyring).await?;
        let resealed = self.service.registry().reseal().await;
        resealed.map_err(|error| Problem::without_remedy(ServiceError::from(error).to_string()))?;
        self.rewrap(&keyring, |file, keys| {
            recovery_key::rewrap(file, keys, &keys.iter().take(1).copied().collect::<Vec<_>>())
        })?;
        backend.commit().await.map_err(|error| error.problem)?;
        keyring.remove_former();
        Ok(())
    }

    /// Makes a recovery key. psid stores only the data keys wrapped by it.
    pub async fn make_recovery_key(&self) -> Result<RecoveryKey, Problem> {
        let _one = self.unlocking.lock().await;
        let keyring = self.keyring().ok_or_else(|| {
            Problem::new("there is no data key to recover", "see `psictl cache status`")
        })?;
        let failed = |error: RecoveryError| Problem::new(error.to_string(), "try again");
        let recovery = RecoveryKey::generate().map_err(failed)?;
        let file = keyring.with_keys(|keys| recovery_key::wrap(&recovery, keys)).map_err(failed)?;
        let path = self.recovery_path();
        files::replace(&path, &file).map_err(|error| {
            Problem::new(format!("writing {}: {error}", path.display()), "check the disk")
        })?;
        self.recover(DegradedReason::Recovery);
        Ok(recovery)
    }

    async fn write_cache(&self, keyring: &Arc<Keyring>) -> Result<(), Problem> {
        let written = match self.persister() {
            Some(persister) if persister.write().await => Ok(()),
            Some(persister) => Err(persister.state().error.unwrap_or_default()),
            None => {
                cache_file::reseal(&self.cache_path, keyring).map_err(|error| error.to_string())
            }
        };
        written.map_err(|why| {
            Problem::new(
                format!("writing {}: {why}", self.cache_path.display()),
                "check the disk, and run `psictl cache rekey`",
            )
        })
    }

    fn rewrap(
        &self,
        keyring: &Keyring,
        rewrap: impl FnOnce(&[u8], &[&DataKey]) -> Result<Vec<u8>, RecoveryError>,
    ) -> Result<(), Problem> {
        let path = self.recovery_path();
        let file = match std::fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(files::problem(&path, &error)),
        };
        // Each start reports a damaged file, which must not keep an old data key in use.
        if keyring.with_keys(|keys| recovery_key::check(&file, keys)).is_err() {
            return Ok(());
        }
        keyring
            .with_keys(|keys| rewrap(&file, keys))
            .map_err(|why| why.to_string())
            .and_then(|file| files::replace(&path, &file).map_err(|error| error.to_string()))
            .map_err(|why| {
                Problem::new(
                    format!("writing {}: {why}, and both keys stay in use", path.display()),
                    "check the disk, and run `psictl cache rekey`",
                )
            })
    }
}
