//! Where the data key lives.

pub(crate) mod credential;
mod hsm;
pub(crate) mod pkcs11;
mod tpm;

use std::fmt;

use async_trait::async_trait;
use psi_common::BackendTag;

use crate::crypto::aead::DataKey;
use crate::model::reach::Reach;

pub use crate::keys::credential::SealWith;
pub(crate) use crate::keys::credential::{CACHE_KEY as CREDENTIAL, SealOptions};
pub use hsm::HsmKey;
pub use tpm::TpmKey;

/// Keeps the data key where a stolen disk has it not.
#[async_trait]
pub trait KeyBackend: Send + Sync {
    /// Which backend this is.
    fn tag(&self) -> BackendTag;

    /// Opens the data keys: the one to seal under first, then those that a rekey has not done with.
    /// `parts` are the backend's parts in the files of the state folder, each once, the cache's first.
    async fn load(&self, parts: &[Vec<u8>]) -> Result<Vec<LoadedKey>, KeyError>;

    /// Whether the key that is open would open again, as far as a look tells that asks neither TPM nor token.
    fn reach(&self) -> Reach;

    /// Keeps `key` durably beside the one in use, and proves that it opens. `seal` tells a backend of
    /// systemd's how; without it, as the key in use.
    async fn keep(&self, key: DataKey, seal: Option<&SealOptions>) -> Result<LoadedKey, KeyError>;

    /// Makes the key that was kept last the one in use.
    async fn commit(&self) -> Result<(), KeyError>;

    /// Follows a config that was read again; `Err` when the key in use is not sealed as it demands.
    async fn follow(&self, _seal_with: SealWith) -> Result<(), KeyError> {
        Ok(())
    }
}

/// A data key, and what goes with it into each file that is sealed under it.
pub struct LoadedKey {
    /// The key.
    pub key: DataKey,
    /// The backend's part of the header; empty for tpm.
    pub part: Vec<u8>,
}

/// Why there is no key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// What happened, with its cause.
    pub what: String,
    /// What to do.
    pub remedy: String,
    /// Whether it is known that waiting does not help.
    pub is_lasting: bool,
}

impl KeyError {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), is_lasting: false }
    }

    fn lasting(self) -> Self {
        Self { is_lasting: true, ..self }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for KeyError {}
