//! A 32-byte key sealed by systemd-creds(1), as a rule to this host's TPM.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use psi_common::{BackendTag, SecretBytes};

use super::{KeyBackend, KeyError, LoadedKey};
use crate::crypto::aead::DataKey;
use crate::keys::credential::{Credential, CredsError, SealOptions, SealWith};
use crate::model::reach::Reach;
use crate::sys::files;

/// The key that systemd hands over as a credential, or that `systemd-creds` opens for us.
pub struct TpmKey {
    /// The key, as a credential.
    pub credential: Credential,
    /// The state folder: its owner is psid's user, who must read the key that root makes. The sealed key
    /// lies beside the config, in a folder of root's.
    pub state: PathBuf,
    /// The config, for messages.
    pub config: PathBuf,
    /// What the key must be sealed to.
    pub demand: Mutex<SealWith>,
}

#[async_trait]
impl KeyBackend for TpmKey {
    fn tag(&self) -> BackendTag {
        BackendTag::Tpm
    }

    async fn load(&self, _parts: &[Vec<u8>]) -> Result<Vec<LoadedKey>, KeyError> {
        let mut keys = Vec::new();
        // What a rekey that was interrupted has kept: something may be sealed under it already.
        keys.extend(self.open(&self.next()).await?);
        let present = self.open(&self.credential).await?;
        if present.is_none() && keys.is_empty() {
            return Err(self.absent());
        }
        if present.is_none() {
            // A first key, whose making was interrupted.
            self.commit().await?;
        }
        keys.extend(present);
        Ok(keys)
    }

    fn reach(&self) -> Reach {
        let Credential { sealed, delivered, .. } = &self.credential;
        if delivered.as_ref().is_some_and(|path| path.exists()) || self.next_path().exists() {
            return Reach::Ready;
        }
        match sealed.try_exists() {
            Ok(true) => Reach::Ready,
            Ok(false) => Reach::Out,
            Err(error) => Reach::Unknown(format!(
                "whether the key would open again cannot be seen: {}: {error}",
                sealed.display()
            )),
        }
    }

    async fn keep(&self, key: DataKey, seal: Option<&SealOptions>) -> Result<LoadedKey, KeyError> {
        let demand = self.seal_with();
        let present = self.present_seal().await.filter(|seal| demand.accepts(Some(seal)));
        let seal =
            seal.cloned().or(present).unwrap_or_else(|| self.credential.creds.seal_for(demand));
        let sealed = match self.credential.seal(&key.to_secret(), &seal).await {
            Ok(sealed) => sealed,
            Err(error) => return Err(self.not_sealed(&seal, &error).await),
        };
        if let Some(objection) = self.objection("the new key", &sealed) {
            return Err(objection);
        }
        let (path, state) = (self.next_path(), self.state.clone());
        on_disk(move || {
            let told = |error: std::io::Error, remedy: &str| {
                KeyError::new(format!("writing {}: {error}", path.display()), remedy)
            };
            files::back_up(&path).map_err(|error| told(error, "nothing was changed"))?;
            path.parent()
                .map_or(Ok(()), files::create_directory)
                .and_then(|()| files::replace_owned_like(&state, &path, sealed.expose_secret()))
                .map_err(|error| told(error, "run it as the owner of that folder"))
        })
        .await?;
        Ok(LoadedKey { key, part: Vec::new() })
    }

    async fn commit(&self) -> Result<(), KeyError> {
        let (next, present) = (self.next_path(), self.credential.sealed.clone());
        on_disk(move || match files::rename(&next, &present) {
            // It was committed before: a rekey that was interrupted, and is gone through again.
            Err(error) if error.kind() == ErrorKind::NotFound && present.exists() => Ok(()),
            result => result.map_err(|error| {
                KeyError::new(
                    format!("renaming {} to {}: {error}", next.display(), present.display()),
                    "both keys are kept; try again",
                )
            }),
        })
        .await
    }

    async fn follow(&self, seal_with: SealWith) -> Result<(), KeyError> {
        *self.demand.lock().unwrap_or_else(PoisonError::into_inner) = seal_with;
        if self.credential.delivered().await.is_ok_and(|delivered| delivered.is_some()) {
            return Ok(());
        }
        let sealed = self.credential.sealed().await.ok().flatten();
        let objection = sealed.and_then(|sealed| self.objection("the key in use", &sealed));
        objection.map_or(Ok(()), Err)
    }
}

impl TpmKey {
    /// Whether there is a key, and it opens; nothing is changed.
    pub async fn check(&self) -> Result<(), KeyError> {
        match self.open(&self.credential).await? {
            Some(_) => Ok(()),
            None => Err(self.absent()),
        }
    }

    /// What the key must be sealed to.
    pub fn seal_with(&self) -> SealWith {
        *self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn absent(&self) -> KeyError {
        let Credential { name, sealed, .. } = &self.credential;
        KeyError::new(
            format!("there is no key: no credential {name}, no {}", sealed.display()),
            "make one with `psictl cache init --backend tpm`",
        )
    }

    /// How the key in use is sealed, when that can be told.
    async fn present_seal(&self) -> Option<SealOptions> {
        SealOptions::of(self.credential.sealed().await.ok()??.expose_secret())
    }

    /// Where the next key waits to become the one in use.
    fn next_path(&self) -> PathBuf {
        self.credential.sealed.with_extension("key.next")
    }

    fn next(&self) -> Credential {
        Credential { delivered: None, sealed: self.next_path(), ..self.credential.clone() }
    }

    async fn open(&self, credential: &Credential) -> Result<Option<LoadedKey>, KeyError> {
        let key = match credential.delivered().await {
            // A unit's credential is root's doing.
            Ok(Some(key)) => key,
            Ok(None) => match credential.sealed().await {
                Ok(Some(sealed)) => self.unseal(credential, &sealed).await?,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.unread(&error)),
            },
            Err(error) => return Err(self.unread(&error)),
        };
        let key = DataKey::from_secret(&key).ok_or_else(|| {
            KeyError::new(
                format!("the cache key has {} bytes instead of {}", key.len(), DataKey::LEN),
                "`psictl cache recover` brings it back with the recovery key",
            )
            .lasting()
        })?;
        Ok(Some(LoadedKey { key, part: Vec::new() }))
    }

    async fn unseal(
        &self,
        credential: &Credential,
        sealed: &SecretBytes,
    ) -> Result<SecretBytes, KeyError> {
        let what = format!("the key in {}", credential.sealed.display());
        if let Some(objection) = self.objection(&what, sealed) {
            return Err(objection);
        }
        match credential.open(sealed).await {
            Ok(key) => Ok(key),
            Err(error) => {
                let fault = credential.fault(&error).await;
                let told = KeyError::new(
                    format!("the key in {}", fault.what),
                    fault.remedy(LOST, UNCLEAR),
                );
                Err(if fault.is_lasting() { told.lasting() } else { told })
            }
        }
    }

    /// Why a sealed key is not what the config demands.
    fn objection(&self, what: &str, sealed: &SecretBytes) -> Option<KeyError> {
        let demand = self.seal_with();
        let seal = SealOptions::of(sealed.expose_secret());
        if demand.accepts(seal.as_ref()) {
            return None;
        }
        let (named, enough) = match &seal {
            Some(seal) => (seal.to_string(), SealWith::met_by(seal)),
            None => ("something that psid does not know".into(), SealWith::Any),
        };
        Some(KeyError::new(
            format!(
                "{what} is sealed to {named}, and seal_with = \"{}\" in [cache] of {} demands more",
                demand.name(),
                self.config.display()
            ),
            format!(
                "`psictl cache recover --seal-with {}` seals it anew with the recovery key; if it is meant to \
                 be so, set seal_with = \"{}\" there",
                self.credential.creds.seal_for(demand).with_key,
                enough.name()
            ),
        ))
    }

    /// The file cannot be read: that says nothing of the key.
    fn unread(&self, error: &CredsError) -> KeyError {
        KeyError::new(
            format!("the key cannot be opened: {error}"),
            format!(
                "psid tries again by itself; if psid may not read the file, `chown --reference={} {}`",
                self.state.display(),
                self.credential.sealed.display()
            ),
        )
    }

    async fn not_sealed(&self, seal: &SealOptions, error: &CredsError) -> KeyError {
        let fault = self.credential.sealing_fault(seal, error).await;
        let host = "--seal-with host keeps the key in /var/lib/systemd/credential.secret, on the same disk";
        let remedy = if fault.has_no_tpm() {
            format!("switch the TPM on in the firmware; without one, {host}")
        } else {
            let check =
                format!("check `systemd-creds has-tpm2` and the PCRs; without a TPM, {host}");
            fault.remedy(&check, &check)
        };
        KeyError::new(
            format!("sealing a key with --seal-with {}: {}", seal.with_key, fault.what),
            format!("nothing was changed; {remedy}"),
        )
    }
}

/// What helps where waiting does not.
const LOST: &str = "if firmware, Secure Boot, the board or the TPM changed, `psictl cache recover` brings it back \
     with the recovery key; only without one, `psictl cache init --backend tpm --force` makes a new key, and \
     what the old one sealed is lost";
/// What helps where nothing is known.
const UNCLEAR: &str = "psid tries again by itself; if it stays so, `psictl cache recover` brings the key back with \
     the recovery key";

/// File operations with an fsync, off the threads that answer lookups.
async fn on_disk(
    work: impl FnOnce() -> Result<(), KeyError> + Send + 'static,
) -> Result<(), KeyError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(KeyError::new(format!("keeping the key: {error}"), "nothing was changed; report it"))
    })
}
