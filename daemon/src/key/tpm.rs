//! A 32-byte key sealed by systemd-creds(1), as a rule to this host's TPM.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use async_trait::async_trait;
use psi_common::BackendTag;

use super::{KeyBackend, KeyError, LoadedKey};
use crate::credential::{Credential, SealOptions};
use crate::files;
use crate::reach::Reach;
use crate::sealer::DataKey;

/// The key that systemd hands over as a credential, or that `systemd-creds` opens for us.
pub struct TpmKey {
    /// The key, as a credential.
    pub credential: Credential,
    /// The state folder: its owner is psid's user, who must read the key that root makes. The sealed key
    /// lies beside the config, in a folder of root's.
    pub state: PathBuf,
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
            let Credential { name, sealed, .. } = &self.credential;
            return Err(KeyError::new(
                format!("there is no key: no credential {name}, no {}", sealed.display()),
                "make one with `psi-driver cache init --backend tpm`",
            ));
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
        let seal = seal
            .cloned()
            .or_else(|| self.present_seal())
            .unwrap_or_else(|| self.credential.creds.default_seal());
        let with_key = &seal.with_key;
        let sealed = self.credential.seal(&key.to_secret(), &seal).await.map_err(|why| {
            KeyError::new(
                format!("sealing a key with --seal-with {with_key}: {why}"),
                "nothing was changed; check `systemd-creds has-tpm2` and the PCRs; without a TPM, \
                 --seal-with host keeps the key in /var/lib/systemd/credential.secret, on the same disk",
            )
        })?;
        let path = self.next_path();
        if let Err(error) = files::keep_aside(&path) {
            return Err(KeyError::new(format!("{}: {error}", path.display()), "check the folder"));
        }
        let folder = path.parent().map_or(Ok(()), files::make_folder);
        folder
            .and_then(|()| files::replace_for_owner_of(&self.state, &path, sealed.expose_secret()))
            .map_err(|error| {
                KeyError::new(
                    format!("writing {}: {error}", path.display()),
                    "run it as the owner of that folder",
                )
            })?;
        Ok(LoadedKey { key, part: Vec::new() })
    }

    async fn commit(&self) -> Result<(), KeyError> {
        let (next, present) = (self.next_path(), &self.credential.sealed);
        match files::rename(&next, present) {
            // It was committed before: a rekey that was interrupted, and is gone through again.
            Err(error) if error.kind() == ErrorKind::NotFound && present.exists() => Ok(()),
            result => result.map_err(|error| {
                KeyError::new(
                    format!("renaming {} to {}: {error}", next.display(), present.display()),
                    "both keys are kept; try again",
                )
            }),
        }
    }
}

impl TpmKey {
    /// How the key in use is sealed, when that can be told.
    pub fn present_seal(&self) -> Option<SealOptions> {
        SealOptions::of(&fs::read(&self.credential.sealed).ok()?)
    }

    /// Where the next key waits to become the one in use.
    fn next_path(&self) -> PathBuf {
        self.credential.sealed.with_extension("key.next")
    }

    fn next(&self) -> Credential {
        Credential { delivered: None, sealed: self.next_path(), ..self.credential.clone() }
    }

    async fn open(&self, credential: &Credential) -> Result<Option<LoadedKey>, KeyError> {
        let key = credential
            .read()
            .await
            .map_err(|why| KeyError::new(format!("the key in {why}"), remedy(&why)))?;
        let Some(key) = key else { return Ok(None) };
        let key = DataKey::from_secret(&key).ok_or_else(|| {
            KeyError::new(
                format!("the cache key has {} bytes instead of {}", key.len(), DataKey::LEN),
                "make a new one with `psi-driver cache init --backend tpm --force`",
            )
        })?;
        Ok(Some(LoadedKey { key, part: Vec::new() }))
    }
}

/// What to do about a key that does not open. A TPM takes a loss of power after a key was opened for a guess
/// at it (TPM 2.0, part 1, 19.8), and refuses all keys for a while after some: ENOLCK, in systemd's words.
fn remedy(why: &str) -> &'static str {
    if why.contains("No locks available") {
        return "the TPM has locked itself, as it does after some losses of power: it opens by itself within \
                minutes or hours, and psid tries again; `tpm2_dictionarylockout --clear-lockout` opens it now";
    }
    "if firmware, Secure Boot or the board changed, `psi-driver cache recover` brings it back with the \
     recovery key; else make a new key with `psi-driver cache init --backend tpm --force`"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tpm_that_is_locked_is_no_reason_for_a_new_key() {
        let locked =
            remedy("it does not open: Failed to unseal secret using TPM2: No locks available");
        assert!(!locked.contains("--force") && locked.contains("by itself"));
        assert!(remedy("it does not open: Operation not permitted").contains("cache recover"));
    }
}
