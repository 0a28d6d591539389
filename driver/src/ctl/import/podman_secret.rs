//! Podman's secrets, read through their driver.

use std::path::PathBuf;

use psi_common::{Exit, SecretBytes};

use super::entries::Entries;
use crate::ctl::podman::{self, FileDriver, Secrets, ids, resolve};
use crate::error::CliError;

/// Podman's secrets and store.
pub(super) struct Source {
    secrets: Secrets,
    graph_root: PathBuf,
}

/// Reads secrets, each `NAME` or `NAME=KEY`.
pub(super) fn read_all(names: &[String]) -> Result<Entries, CliError> {
    let secrets = Source::load()?;
    let mut entries = Entries::default();
    for given in names {
        let (name, key) = given.split_once('=').unwrap_or((given, given));
        entries.put(key.to_owned(), secrets.value(name)?);
    }
    Ok(entries)
}

impl Source {
    pub(super) fn load() -> Result<Self, CliError> {
        Ok(Self { secrets: podman::secrets()?, graph_root: podman::about()?.graph_root })
    }

    /// The value of a secret, read without podman, because podman before 4.7 has no command for it.
    pub(super) fn value(&self, name: &str) -> Result<SecretBytes, CliError> {
        let shown = name.escape_debug();
        let secret = match self.secrets.named(name) {
            [secret] => secret,
            [] => {
                let what = format!("podman has no secret {shown}");
                return Err(CliError::new(Exit::NoSuchSecret, what, "see `podman secret ls`"));
            }
            several => {
                return Err(CliError::without_remedy(
                    Exit::BadInput,
                    podman::duplicate_names(several).to_string(),
                ));
            }
        };
        let none = |why: &dyn std::fmt::Display| {
            CliError::new(
                Exit::BadInput,
                format!("the value of {shown} cannot be read: {why}"),
                "leave it out, or create the secret again",
            )
        };
        match (secret.driver.as_str(), secret.options.get("lookup")) {
            ("file", _) => {
                let files = FileDriver::of_secret(secret, &self.graph_root);
                let mut values = files.values(&ids([secret]))?;
                values
                    .remove(&secret.id)
                    .ok_or_else(|| none(&"podman's file driver does not have it"))
            }
            ("shell", Some(lookup)) => resolve(lookup, secret.id).map_err(|why| none(&why)),
            (driver, _) => Err(none(&format!("secrets of the {driver} driver cannot be read"))),
        }
    }
}
