//! Credentials of systemd: delivered to the unit, or sealed in a file that psid opens itself.
//!
//! A unit that loads a credential which does not open fails to start (243/CREDENTIALS), with or without
//! `SetCredential=` (observed with systemd 257). So psid can open one itself, and start without it.

mod child;
mod error;
mod fault;
mod form;
mod helper;
mod names;
mod seal;
mod tpm;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use psi_common::SecretBytes;

use crate::sys::files;

pub use child::Scope;
pub use error::{CredsError, CredsErrorKind};
pub use fault::CredentialFault;
pub use form::fault as form_fault;
pub use helper::serve;
pub use names::CACHE_KEY;
pub use seal::{SealOptions, SealWith};
pub use tpm::{Lockout, TpmState};

/// systemd accepts credentials of up to 1 MiB. Sealed, they are 128 KiB larger at most, in base64.
const MAX_FILE: u64 = 2 << 20;

/// One credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name, which the seal includes.
    pub name: String,
    /// The file in which systemd delivers it to a unit.
    pub delivered: Option<PathBuf>,
    /// The file that holds it, sealed by systemd-creds(1).
    pub sealed: PathBuf,
    /// How systemd-creds(1) is run.
    pub creds: Creds,
}

/// How systemd-creds(1) is run; it requires root for the credentials of the system.
#[derive(Clone, Debug)]
pub enum Creds {
    /// As a child of this process.
    Child(Scope),
    /// By the helper behind this socket, if psid is not root.
    Helper(PathBuf),
}

impl Credential {
    /// Reads and opens the credential; `None` if there is none.
    pub async fn read(&self) -> Result<Option<SecretBytes>, CredsError> {
        if let Some(secret) = self.delivered().await? {
            return Ok(Some(secret));
        }
        match self.sealed().await? {
            Some(sealed) => self.open(&sealed).await.map(Some),
            None => Ok(None),
        }
    }

    /// The credential that systemd delivered to the unit, if any.
    pub async fn delivered(&self) -> Result<Option<SecretBytes>, CredsError> {
        let Some(path) = &self.delivered else { return Ok(None) };
        let bytes = read(path).await?.filter(|bytes| !bytes.is_empty());
        // A unit sets an empty default for a missing credential.
        Ok(bytes.map(SecretBytes::new))
    }

    /// Whether systemd delivered it: another one is delivered at the next start only.
    pub fn is_delivered(&self) -> bool {
        let file = self.delivered.as_ref().and_then(|path| std::fs::metadata(path).ok());
        file.is_some_and(|file| file.len() > 0)
    }

    /// The content of the file with the sealed credential, if it exists.
    pub async fn sealed(&self) -> Result<Option<SecretBytes>, CredsError> {
        Ok(read(&self.sealed).await?.map(SecretBytes::new))
    }

    /// Opens the result of [`Self::sealed`].
    pub async fn open(&self, sealed: &SecretBytes) -> Result<SecretBytes, CredsError> {
        let opened = match &self.creds {
            Creds::Child(scope) => child::open(*scope, &self.name, sealed).await,
            Creds::Helper(socket) => helper::open(socket, &self.name, sealed).await,
        };
        opened.map_err(|error| CredsError {
            why: format!("{} does not open: {}", self.sealed.display(), error.why),
            ..error
        })
    }

    /// The cause of a failure to open it.
    pub async fn fault(&self, error: &CredsError) -> CredentialFault {
        let sealed = self.sealed().await.ok().flatten();
        let seal = sealed.and_then(|sealed| SealOptions::of(sealed.expose_secret()));
        fault::find(&self.creds, seal.as_ref(), error).await
    }

    /// The cause of a failure to seal it.
    pub async fn sealing_fault(&self, seal: &SealOptions, error: &CredsError) -> CredentialFault {
        fault::find(&self.creds, Some(seal), error).await
    }

    /// The command that seals it, for messages.
    pub fn command(&self) -> String {
        format!("psictl seal {}", self.name)
    }

    /// Seals `secret` under this name and verifies that it opens. The caller stores the result.
    pub async fn seal(
        &self,
        secret: &SecretBytes,
        seal: &SealOptions,
    ) -> Result<SecretBytes, CredsError> {
        match &self.creds {
            Creds::Child(scope) => child::seal(*scope, &self.name, secret, seal).await,
            Creds::Helper(socket) => helper::seal(socket, &self.name, secret, seal).await,
        }
    }
}

/// Reads a file; `None` if it does not exist. Runs on a thread that does not answer lookups: a disk may be slow.
async fn read(path: &Path) -> Result<Option<Vec<u8>>, CredsError> {
    let file = path.to_owned();
    let read =
        tokio::task::spawn_blocking(move || files::read_following_links(&file, MAX_FILE)).await;
    match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let why = format!("{} cannot be read: {error}", path.display());
            Err(CredsError::new(CredsErrorKind::Unreadable, why))
        }
    }
}

impl Creds {
    /// Whether the credentials belong to a user instead of the system.
    pub fn is_user(&self) -> bool {
        matches!(self, Self::Child(Scope::User))
    }

    /// How a new key is sealed to meet the config. The credentials of a user cannot be sealed to the TPM alone.
    pub fn seal_for(&self, required: SealWith) -> SealOptions {
        let (with_key, tpm2_pcrs) = match (required, self.is_user()) {
            (SealWith::Tpm2, false) => return SealOptions::default(),
            (SealWith::Tpm2, true) => ("host+tpm2", ""),
            (SealWith::Host, false) => ("host", ""),
            (SealWith::Any, false) => ("auto", "7"),
            (SealWith::Host | SealWith::Any, true) => ("auto", ""),
        };
        SealOptions { with_key: with_key.into(), tpm2_pcrs: tpm2_pcrs.into() }
    }

    /// Asks the TPM for its state.
    pub async fn tpm(&self) -> TpmState {
        match self {
            Self::Child(_) => tpm::query().await,
            Self::Helper(socket) => helper::tpm(socket).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(sealed: &Path) -> Credential {
        let (name, sealed) = ("psi-cache-key".into(), sealed.to_owned());
        Credential { name, delivered: None, sealed, creds: Creds::Child(Scope::System) }
    }

    #[tokio::test]
    async fn sealed_reports_only_a_missing_file_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache.key");
        assert!(credential(&path).sealed().await.unwrap().is_none());
        // A user who may write to the directory must not be able to block root.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [path.clone(), directory.path().to_owned(), path.join("below")] {
            let error = credential(&path).sealed().await.unwrap_err();
            assert_eq!(error.kind, CredsErrorKind::Unreadable, "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::write(directory.path().join("elsewhere"), "sealed").unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        let sealed = credential(&path).sealed().await.unwrap().unwrap();
        assert_eq!(sealed.expose_secret(), b"sealed", "a symbolic link of root");
    }

    #[test]
    fn seal_for_meets_the_config() {
        let system = Creds::Helper("/run/psi/creds.sock".into());
        for (creds, required, with_key) in [
            (&system, SealWith::Tpm2, "tpm2"),
            (&system, SealWith::Host, "host"),
            (&system, SealWith::Any, "auto"),
            (&Creds::Child(Scope::User), SealWith::Tpm2, "host+tpm2"),
            (&Creds::Child(Scope::User), SealWith::Host, "auto"),
        ] {
            assert_eq!(creds.seal_for(required).with_key, with_key);
        }
    }
}
