//! The checked config. `raw` holds it as the file has it.

mod auth;
mod fault;
mod files;
mod mount;
mod pkcs11;
mod raw;
mod seal_line;
mod span;
mod strict;
mod workload;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use psi_common::BackendTag;

use crate::keys::credential::SealWith;
use crate::provider::upstream::Workload;

pub(crate) use auth::{AuthConfig, PrivateKeyLocation, SecretLocation};
pub(crate) use files::NamedFile;
pub(crate) use pkcs11::{Pkcs11Config, Pkcs11Pin};
pub(crate) use seal_line::with_seal_line;

/// A valid config.
#[derive(Debug)]
pub struct Config {
    /// `[cache]`
    pub cache: CacheConfig,
    /// `[providers.infisical]`
    pub infisical: Option<InfisicalConfig>,
    /// `[providers.pkcs11]`
    pub pkcs11: Option<Pkcs11Config>,
    /// `[workloads.*]`
    pub workloads: BTreeMap<String, Workload>,
    /// Settings that are allowed but unsafe; one sentence each.
    pub warnings: Vec<String>,
    /// What `psid check` refuses and a start does not; each with its line.
    pub objections: Vec<String>,
    /// Identifies the file's content.
    pub(crate) fingerprint: Fingerprint,
}

/// Identifies the content of a config file, to find a change of it. A forger could make another one with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self(hasher.finish())
    }
}

/// `[cache]`
#[derive(Debug)]
pub struct CacheConfig {
    /// Whether fetched values are cached.
    pub enabled: bool,
    /// The key backend; none: live lookups only.
    pub backend: Option<BackendTag>,
    /// The time between two refreshes of a source.
    pub refresh_interval: Duration,
    /// The random time that is added to it.
    pub refresh_jitter: Duration,
    /// The greatest age of a value that is served in an outage; none: no limit.
    pub max_stale: Option<Duration>,
    /// What the key must be sealed to; none: the default, which differs for a user's psid.
    pub seal_with: Option<SealWith>,
    /// Whether a value is evicted once the provider has confirmed that it does not exist or is denied.
    pub evict_revoked: bool,
}

/// `[providers.infisical]`
#[derive(Debug)]
pub struct InfisicalConfig {
    /// The instance's URL.
    pub api_url: String,
    /// A PEM file of the trusted CAs; none: the system's.
    pub ca_cert: Option<PathBuf>,
    /// The timeout of one request.
    pub timeout: Duration,
    /// Projects by the name that references use.
    pub projects: BTreeMap<String, ProjectConfig>,
}

/// `[providers.infisical.projects.*]`
#[derive(Debug)]
pub struct ProjectConfig {
    /// The project's UUID.
    pub id: String,
    /// The environment's slug.
    pub environment: String,
    /// How psid logs in for it: the project's own `auth`, or the provider's.
    pub auth: AuthConfig,
}

/// What is wrong with a config file, and in which line.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {}", .path.display(), .line.map(|line| format!(":{line}")).unwrap_or_default(), .what.replace('\n', " "))]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1; none when the file cannot be read.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// Whether the file does not exist.
    pub is_missing: bool,
}

impl Config {
    /// Reads and checks a config file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::from_bytes(std::fs::read(path), path)
    }

    /// Checks the bytes of a config file that was read; `path` is for messages.
    pub(crate) fn from_bytes(read: io::Result<Vec<u8>>, path: &Path) -> Result<Self, ConfigError> {
        let fault =
            |line, what| ConfigError { path: path.to_owned(), line, what, is_missing: false };
        let bytes = read.map_err(|error| ConfigError {
            is_missing: error.kind() == io::ErrorKind::NotFound,
            ..fault(None, error.to_string())
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            fault(Some(line), "it is not UTF-8".into())
        })?;
        Self::parse(text, path)
    }

    /// Checks a config's text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let error = |fault: fault::Fault| ConfigError {
            path: path.to_owned(),
            line: fault.line_in(text),
            what: fault.what,
            is_missing: false,
        };
        let raw = raw::parse(text).map_err(error)?;
        let objections = strict::objections(&raw);
        let mut config = raw.check().map_err(error)?;
        config.objections = objections.into_iter().map(|it| error(it).to_string()).collect();
        config.fingerprint = Fingerprint::of(text.as_bytes());
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
