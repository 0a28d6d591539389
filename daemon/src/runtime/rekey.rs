//! A new data key in the place of the present one. Whenever it is interrupted, both keys are at hand at
//! the next start, every file opens under one of them, and the rest is done then.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{DegradedReason, Runtime};
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
    pub async fn rekey(&self, seal: Option<&SealOptions>) -> Result<(), String> {
        let _one = self.unlocking.lock().await;
        let (Some(keyring), Some(backend)) = (self.keyring(), &self.backend) else {
            return Err("there is no key to replace; see `psictl cache status`".into());
        };
        if keyring.has_former() {
            self.resume_rekey(&keyring).await?;
        }
        let key = DataKey::generate().map_err(|error| format!("no random numbers: {error}"))?;
        let kept = backend.keep(key, seal).await.map_err(|error| error.to_string())?;
        // Before anything is sealed under the new key, the recovery key opens both.
        let rewrapped = self.rewrap(&keyring, |file, keys| {
            let both: Vec<&DataKey> =
                [&kept.key].into_iter().chain(keys.first().copied()).collect();
            recovery_key::rewrap(file, keys, &both)
        });
        // Whatever became of that: the new key is kept, and the next try must go on with it.
        keyring.adopt(kept.key, WrappedKeyHeader { tag: backend.tag(), bytes: kept.part });
        rewrapped.inspect_err(|why| self.degrade_rekey(why))?;
        self.finish_rekey().await
    }

    /// Goes on with a rekey that was interrupted after its new key was kept.
    pub(super) async fn resume_rekey(&self, keyring: &Keyring) -> Result<(), String> {
        // The interruption may have come before the recovery key opened both.
        self.rewrap(keyring, |file, keys| recovery_key::rewrap(file, keys, keys))
            .inspect_err(|why| self.degrade_rekey(why))?;
        self.finish_rekey().await
    }

    /// Seals under the present key what is not yet, and forgets the former ones.
    pub(super) async fn finish_rekey(&self) -> Result<(), String> {
        self.reseal_all().await.inspect_err(|why| self.degrade_rekey(why))?;
        self.recover(DegradedReason::Rekey);
        Ok(())
    }

    fn degrade_rekey(&self, why: &str) {
        self.degrade(
            DegradedReason::Rekey,
            &format!("a rekey was interrupted and is not done: {why}"),
        );
    }

    async fn reseal_all(&self) -> Result<(), String> {
        let (Some(keyring), Some(backend)) = (self.keyring(), &self.backend) else { return Ok(()) };
        self.write_cache(&keyring).await?;
        self.service
            .registry
            .reseal()
            .await
            .map_err(|error| ServiceError::from(error).to_string())?;
        self.rewrap(&keyring, |file, keys| {
            recovery_key::rewrap(file, keys, &keys.iter().take(1).copied().collect::<Vec<_>>())
        })?;
        backend.commit().await.map_err(|error| error.to_string())?;
        keyring.forget_former();
        Ok(())
    }

    /// Makes a recovery key; only its wrapping stays here.
    pub async fn make_recovery_key(&self) -> Result<RecoveryKey, String> {
        let _one = self.unlocking.lock().await;
        let keyring = self
            .keyring()
            .ok_or("there is no key that could be recovered; see `psictl cache status`")?;
        let recovery = RecoveryKey::generate().map_err(|error| error.to_string())?;
        let file = keyring
            .with_keys(|keys| recovery_key::wrap(&recovery, keys))
            .map_err(|error| error.to_string())?;
        let path = self.recovery_path();
        files::replace(&path, &file)
            .map_err(|error| format!("writing {}: {error}; check the disk", path.display()))?;
        self.recover(DegradedReason::Recovery);
        Ok(recovery)
    }

    async fn write_cache(&self, keyring: &Arc<Keyring>) -> Result<(), String> {
        let remedy = "see to the disk, and run `psictl cache rekey`";
        match self.persister() {
            Some(persister) if persister.write().await => Ok(()),
            Some(persister) => {
                let why = persister.state().error.unwrap_or_default();
                Err(format!("writing {}: {why}; {remedy}", self.cache_path.display()))
            }
            None => cache_file::reseal(&self.cache_path, keyring)
                .map_err(|why| format!("writing {}: {why}; {remedy}", self.cache_path.display())),
        }
    }

    fn rewrap(
        &self,
        keyring: &Keyring,
        rewrap: impl FnOnce(&[u8], &[&DataKey]) -> Result<Vec<u8>, RecoveryError>,
    ) -> Result<(), String> {
        let path = self.recovery_path();
        let file = match std::fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(files::problem(&path, &error).to_string()),
        };
        // One that is damaged is told at each start, and no reason to keep an old data key.
        if keyring.with_keys(|keys| recovery_key::check(&file, keys)).is_err() {
            return Ok(());
        }
        keyring
            .with_keys(|keys| rewrap(&file, keys))
            .map_err(|why| why.to_string())
            .and_then(|file| files::replace(&path, &file).map_err(|error| error.to_string()))
            .map_err(|why| format!("writing {}: {why}; both keys are kept", path.display()))
    }
}
