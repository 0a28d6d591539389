//! The config, checked: what the rest of the daemon may rely on. `raw` is what the file says.

mod auth;
mod hsm;
mod raw;
mod seal_line;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use psi_common::BackendTag;

use crate::keys::credential::SealWith;
use crate::provider::upstream::Workload;

pub(crate) use auth::{AuthConfig, ClientSecret};
pub(crate) use hsm::{HsmConfig, HsmPin};
pub(crate) use seal_line::with_seal_line;

/// A config that makes sense.
#[derive(Debug)]
pub struct Config {
    /// `[cache]`
    pub cache: CacheConfig,
    /// `[access]`
    pub access: Access,
    /// `[providers.infisical]`
    pub infisical: Option<InfisicalConfig>,
    /// `[providers.nitrokeyhsm]`
    pub hsm: Option<HsmConfig>,
    /// `[workloads.*]`
    pub workloads: BTreeMap<String, Workload>,
    /// What is allowed but not wise, or not in this version; one sentence each.
    pub warnings: Vec<String>,
}

/// `[cache]`
#[derive(Debug)]
pub struct CacheConfig {
    /// Whether fetched values are kept at all.
    pub enabled: bool,
    /// The key backend; none: live lookups only.
    pub backend: Option<BackendTag>,
    /// How often every source is pulled.
    pub refresh_interval: Duration,
    /// How much later, at random.
    pub refresh_jitter: Duration,
    /// How old a value may be that is served in an outage; none: no limit.
    pub max_stale: Option<Duration>,
    /// What the key must be sealed to; none: the default, which differs for a user's psid.
    pub seal_with: Option<SealWith>,
    /// Whether a value is dropped once the provider has confirmed that it is gone or denied.
    pub evict_revoked: bool,
}

/// `[access]`: who may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// User ids.
    pub uids: Vec<u32>,
    /// Group ids.
    pub gids: Vec<u32>,
}

/// `[providers.infisical]`
#[derive(Debug)]
pub struct InfisicalConfig {
    /// The instance's URL.
    pub api_url: String,
    /// A PEM file of the only CAs to trust; none: the system's.
    pub ca_cert: Option<PathBuf>,
    /// For one request.
    pub timeout: Duration,
    /// By the name that references use.
    pub projects: BTreeMap<String, ProjectConfig>,
}

/// `[providers.infisical.projects.*]`
#[derive(Debug)]
pub struct ProjectConfig {
    /// The project's UUID.
    pub id: String,
    /// The environment's slug.
    pub environment: String,
    /// Whose token reads it: the project's own, or the provider's.
    pub auth: AuthConfig,
}

/// What is wrong with a config file, and in which line.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1; none when the file cannot be read.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// Whether there is no such file.
    pub is_missing: bool,
}

impl Config {
    /// Reads and checks a config file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fault =
            |line, what| ConfigError { path: path.to_owned(), line, what, is_missing: false };
        let bytes = std::fs::read(path).map_err(|error| ConfigError {
            is_missing: error.kind() == std::io::ErrorKind::NotFound,
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
        raw::parse(text).and_then(raw::RawConfig::check).map_err(|fault| ConfigError {
            path: path.to_owned(),
            line: fault.at.map(|at| text[..at.min(text.len())].matches('\n').count() + 1),
            what: fault.what,
            is_missing: false,
        })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what.replace('\n', " "))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
