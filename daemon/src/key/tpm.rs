//! A 32-byte key sealed by systemd-creds(1), as a rule to this host's TPM.

use async_trait::async_trait;
use psi_common::{BackendTag, SecretBytes};

use super::{KeyBackend, KeyError, LoadedKey};
use crate::credential::Credential;
use crate::files;
use crate::sealer::DataKey;

/// The key that systemd hands over as a credential, or that `systemd-creds` opens for us.
pub struct TpmKey {
    /// The key, as a credential.
    pub credential: Credential,
    /// How a new key is sealed.
    pub seal: SealOptions,
}

/// What `systemd-creds encrypt` seals a new key to.
#[derive(Clone, Debug)]
pub struct SealOptions {
    /// Its `--with-key`: tpm2, host, host+tpm2 or auto.
    pub with_key: String,
    /// Its `--tpm2-pcrs`; empty for none.
    pub tpm2_pcrs: String,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { with_key: "tpm2".into(), tpm2_pcrs: "7".into() }
    }
}

#[async_trait]
impl KeyBackend for TpmKey {
    fn tag(&self) -> BackendTag {
        BackendTag::Tpm
    }

    async fn load(&self, _part: Option<&[u8]>) -> Result<LoadedKey, KeyError> {
        let key = self.credential.read().await.map_err(|why| {
            KeyError::new(
                format!("the key in {why}"),
                "if firmware or Secure Boot changed, so did the PCRs: undo that, or make a new key with \
                 `psi-driver cache init --backend tpm --force`",
            )
        })?;
        let key = key.ok_or_else(|| {
            let Credential { name, sealed, .. } = &self.credential;
            KeyError::new(
                format!("there is no key: no credential {name}, no {}", sealed.display()),
                "make one with `psi-driver cache init --backend tpm`",
            )
        })?;
        let key = DataKey::from_secret(&key).ok_or_else(|| {
            KeyError::new(
                format!("the cache key has {} bytes instead of {}", key.len(), DataKey::LEN),
                "make a new one with `psi-driver cache init --backend tpm --force`",
            )
        })?;
        Ok(LoadedKey { key, part: Vec::new() })
    }

    async fn provision(&self) -> Result<LoadedKey, KeyError> {
        let key = DataKey::generate()
            .map_err(|error| KeyError::new(format!("no random numbers: {error}"), "try again"))?;
        let sealed = self.seal_and_prove(&key.to_secret()).await?;
        let path = &self.credential.sealed;
        let folder = path.parent().map_or(Ok(()), files::make_folder);
        folder.and_then(|()| files::replace(path, sealed.expose_secret())).map_err(|error| {
            KeyError::new(
                format!("writing {}: {error}", path.display()),
                "run it as the owner of that folder",
            )
        })?;
        Ok(LoadedKey { key, part: Vec::new() })
    }
}

impl TpmKey {
    async fn seal_and_prove(&self, key: &SecretBytes) -> Result<SecretBytes, KeyError> {
        let SealOptions { with_key, tpm2_pcrs } = &self.seal;
        let sealed = self.credential.seal(key, with_key, tpm2_pcrs).await.map_err(|why| {
            KeyError::new(
                format!("sealing a key with --seal-with {with_key}: {why}"),
                "check `systemd-creds has-tpm2`; without a TPM, --seal-with host keeps the key in \
                 /var/lib/systemd/credential.secret, on the same disk",
            )
        })?;
        let why = match self.credential.open(&sealed).await {
            Ok(opened) if opened.same_as(key) => return Ok(sealed),
            Ok(_) => "it opens to another key".into(),
            Err(why) => why,
        };
        Err(KeyError::new(
            format!("a key that was just sealed with --seal-with {with_key} does not open: {why}"),
            "nothing was changed; check the TPM and the PCRs",
        ))
    }
}
