//! Key backends: the stores of the data key.

pub(crate) mod credential;
mod hsm;
pub(crate) mod pkcs11;
mod tpm;

use async_trait::async_trait;
use psi_common::{BackendTag, Problem};

use crate::crypto::aead::DataKey;
use crate::model::reach::Reach;

pub use crate::keys::credential::SealWith;
pub(crate) use crate::keys::credential::{CACHE_KEY as CREDENTIAL, SealOptions};
pub use hsm::HsmKey;
pub use tpm::TpmKey;

/// Stores the data key so that a stolen disk does not reveal it.
#[async_trait]
pub trait KeyBackend: Send + Sync {
    /// Which backend this is.
    fn tag(&self) -> BackendTag;

    /// Opens the data keys: first the one to seal under, then those of an unfinished rekey. `headers` are the
    /// distinct wrapped-key headers in the files of the state directory, the one of the cache first.
    async fn load(&self, headers: &[Vec<u8>]) -> Result<Vec<LoadedKey>, KeyError>;

    /// Whether the key in use would open again, by a check that accesses neither TPM nor token.
    fn reach(&self) -> Reach;

    /// What the key in use is bound to, in words; `None` without a key, and if that is unknown. It reads a small file
    /// at most.
    fn bound_to(&self) -> Option<String>;

    /// Stores `key` durably beside the one in use, and verifies that it opens. The tpm backend seals it with
    /// `seal`, by default as the key in use.
    async fn store(&self, key: DataKey, seal: Option<&SealOptions>) -> Result<LoadedKey, KeyError>;

    /// Makes the key that was stored last the one in use.
    async fn commit(&self) -> Result<(), KeyError>;

    /// Applies `seal_with` of a config that was read again; `Err` if the key in use does not meet it.
    async fn require_seal(&self, _seal_with: SealWith) -> Result<(), KeyError> {
        Ok(())
    }
}

/// A data key, and the header for each file that is sealed under it.
pub struct LoadedKey {
    /// The key.
    pub key: DataKey,
    /// The wrapped-key header; empty for tpm.
    pub header: Vec<u8>,
}

/// A key backend failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct KeyError {
    /// What happened, and its remedy.
    pub problem: Problem,
    /// Whether waiting certainly does not help.
    pub is_permanent: bool,
}

impl KeyError {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem::new(what, remedy).into()
    }

    fn permanent(self) -> Self {
        Self { is_permanent: true, ..self }
    }
}

impl From<Problem> for KeyError {
    fn from(problem: Problem) -> Self {
        Self { problem, is_permanent: false }
    }
}
