//! Where the data key lives.

mod tpm;

use std::fmt;

use async_trait::async_trait;
use psi_common::BackendTag;

use crate::sealer::DataKey;

pub use tpm::{SealOptions, TpmKey};

/// The name of the systemd credential that holds the tpm backend's key.
pub const CREDENTIAL: &str = "psi-cache-key";

/// Keeps the data key where a stolen disk has it not.
#[async_trait]
pub trait KeyBackend: Send + Sync {
    /// Which backend this is.
    fn tag(&self) -> BackendTag;

    /// Opens the data key; `part` is the backend's part of the present `cache.enc`, if there is one of
    /// this backend.
    async fn load(&self, part: Option<&[u8]>) -> Result<LoadedKey, KeyError>;

    /// Makes a new key, keeps it durably and proves that it opens.
    async fn provision(&self) -> Result<LoadedKey, KeyError>;
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
}

impl KeyError {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for KeyError {}
