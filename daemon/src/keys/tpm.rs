//! A 32-byte key sealed by systemd-creds(1), usually to the TPM of this host.

use std::io::ErrorKind;
use std::path::PathBuf;

use async_trait::async_trait;
use parking_lot::Mutex;
use psi_common::{BackendTag, SecretBytes};

use super::{KeyBackend, KeyError, LoadedKey};
use crate::crypto::aead::DataKey;
use crate::keys::credential::{Credential, CredsError, SealOptions, SealWith};
use crate::model::reach::Reach;
use crate::sys::files;

/// Far more than a sealed key.
const MAX_SEALED_KEY: u64 = 256 << 10;

/// The key backend of a credential, which systemd delivers or `systemd-creds` opens.
pub struct TpmKey {
    /// The key, as a credential.
    pub credential: Credential,
    /// The state directory. Its owner is psid's user, who must be able to read the key that root creates; the
    /// sealed key lies beside the config, in a directory of root.
    pub state: PathBuf,
    /// The config, for messages.
    pub config: PathBuf,
    /// What the config requires of the seal.
    pub required_seal: Mutex<SealWith>,
}

#[async_trait]
impl KeyBackend for TpmKey {
    fn tag(&self) -> BackendTag {
        BackendTag::Tpm
    }

    async fn load(&self, _headers: &[Vec<u8>]) -> Result<Vec<LoadedKey>, KeyError> {
        let mut keys = Vec::new();
        // The next key of an interrupted rekey: files may be sealed under it already.
        keys.extend(self.open(&self.next()).await?);
        let present = self.open(&self.credential).await?;
        if present.is_none() && keys.is_empty() {
            return Err(self.absent());
        }
        if present.is_none() {
            // The first key, whose creation was interrupted.
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
                "it is unknown whether the key would open again: {}: {error}",
                sealed.display()
            )),
        }
    }

    fn bound_to(&self) -> Option<String> {
        let Credential { sealed, delivered, .. } = &self.credential;
        if delivered.as_ref().is_some_and(|path| path.exists()) {
            return Some("a credential of psid's unit".into());
        }
        let sealed = files::read_following_links(sealed, MAX_SEALED_KEY).ok()?;
        SealOptions::of(&sealed).map(|seal| seal.to_string())
    }

    async fn store(&self, key: DataKey, seal: Option<&SealOptions>) -> Result<LoadedKey, KeyError> {
        let required = self.seal_with();
        let present = self.present_seal().await.filter(|seal| required.accepts(Some(seal)));
        let seal =
            seal.cloned().or(present).unwrap_or_else(|| self.credential.creds.seal_for(required));
        let sealed = match self.credential.seal(&key.to_secret(), &seal).await {
            Ok(sealed) => sealed,
            Err(error) => return Err(self.not_sealed(&seal, &error).await),
        };
        if let Some(objection) = self.objection("the new key", &sealed) {
            return Err(objection);
        }
        let (path, state) = (self.next_path(), self.state.clone());
        on_disk(move || {
            let failed = |error: std::io::Error, remedy: &str| {
                KeyError::new(format!("writing {}: {error}", path.display()), remedy)
            };
            files::back_up(&path).map_err(|error| failed(error, "nothing was changed"))?;
            path.parent()
                .map_or(Ok(()), files::create_directory)
                .and_then(|()| files::replace_owned_like(&state, &path, sealed.expose_secret()))
                .map_err(|error| failed(error, "run it as the owner of that directory"))
        })
        .await?;
        Ok(LoadedKey { key, header: Vec::new() })
    }

    async fn commit(&self) -> Result<(), KeyError> {
        let (next, present) = (self.next_path(), self.credential.sealed.clone());
        on_disk(move || match files::rename(&next, &present) {
            // A repeated rekey: the interrupted one had committed it.
            Err(error) if error.kind() == ErrorKind::NotFound && present.exists() => Ok(()),
            result => result.map_err(|error| {
                KeyError::new(
                    format!("renaming {} to {}: {error}", next.display(), present.display()),
                    "both keys are still there; try again",
                )
            }),
        })
        .await
    }

    async fn require_seal(&self, seal_with: SealWith) -> Result<(), KeyError> {
        *self.required_seal.lock() = seal_with;
        if self.credential.delivered().await.is_ok_and(|delivered| delivered.is_some()) {
            return Ok(());
        }
        let sealed = self.credential.sealed().await.ok().flatten();
        let objection = sealed.and_then(|sealed| self.objection("the key in use", &sealed));
        objection.map_or(Ok(()), Err)
    }
}

impl TpmKey {
    /// Checks that there is a key and that it opens; changes nothing.
    pub async fn check(&self) -> Result<(), KeyError> {
        match self.open(&self.credential).await? {
            Some(_) => Ok(()),
            None => Err(self.absent()),
        }
    }

    /// The next key, if an interrupted rekey or init left one.
    pub fn next_key(&self) -> Option<PathBuf> {
        Some(self.next_path()).filter(|path| path.exists())
    }

    /// What the config requires of the seal.
    pub fn seal_with(&self) -> SealWith {
        *self.required_seal.lock()
    }

    fn absent(&self) -> KeyError {
        let Credential { name, sealed, .. } = &self.credential;
        KeyError::new(
            format!("there is no key: no credential {name}, no {}", sealed.display()),
            "create one with `psictl cache init --backend tpm`",
        )
    }

    /// How the key in use is sealed, if that is known.
    async fn present_seal(&self) -> Option<SealOptions> {
        SealOptions::of(self.credential.sealed().await.ok()??.expose_secret())
    }

    /// The file of the next key, until it is committed.
    fn next_path(&self) -> PathBuf {
        self.credential.sealed.with_extension("key.next")
    }

    fn next(&self) -> Credential {
        Credential { delivered: None, sealed: self.next_path(), ..self.credential.clone() }
    }

    async fn open(&self, credential: &Credential) -> Result<Option<LoadedKey>, KeyError> {
        let key = match credential.delivered().await {
            // The seal of a unit's credential is not checked: root configured it.
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
                "`psictl cache recover` restores it with the recovery key",
            )
            .permanent()
        })?;
        Ok(Some(LoadedKey { key, header: Vec::new() }))
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
                let failed = KeyError::new(
                    format!("the key in {}", fault.what),
                    fault.remedy(PERMANENT, UNKNOWN),
                );
                Err(if fault.is_permanent() { failed.permanent() } else { failed })
            }
        }
    }

    /// The error for a sealed key that does not meet the config.
    fn objection(&self, what: &str, sealed: &SecretBytes) -> Option<KeyError> {
        let required = self.seal_with();
        let seal = SealOptions::of(sealed.expose_secret());
        if required.accepts(seal.as_ref()) {
            return None;
        }
        let (named, met) = match &seal {
            Some(seal) => (seal.to_string(), SealWith::met_by(seal)),
            None => ("something unknown to psid".into(), SealWith::Any),
        };
        Some(KeyError::new(
            format!(
                "{what} is sealed to {named}, and seal_with = \"{}\" in [cache] of {} requires more",
                required.name(),
                self.config.display()
            ),
            format!(
                "`psictl cache recover --seal-with {}` seals it again with the recovery key; if the present \
                 seal is intended, set seal_with = \"{}\" there",
                self.credential.creds.seal_for(required).with_key,
                met.name()
            ),
        ))
    }

    /// The error for a file that cannot be read, whatever the key in it is.
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
        let host =
            "--seal-with host uses the key in /var/lib/systemd/credential.secret, on the same disk";
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

/// The remedy for a permanent failure.
const PERMANENT: &str = "if firmware, Secure Boot, the board or the TPM changed, `psictl cache recover` restores it with \
     the recovery key; only without one, `psictl cache init --backend tpm --force` creates a new key, and the \
     data under the old one is lost";
/// The remedy for a failure of unknown cause.
const UNKNOWN: &str = "psid tries again by itself; if it keeps failing, `psictl cache recover` restores the key with \
     the recovery key";

/// Runs file operations with an fsync on a thread that does not answer lookups.
async fn on_disk(
    work: impl FnOnce() -> Result<(), KeyError> + Send + 'static,
) -> Result<(), KeyError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(KeyError::new(
            format!("storing the key: {error}"),
            "nothing was changed; report it with `journalctl -u psid`",
        ))
    })
}
