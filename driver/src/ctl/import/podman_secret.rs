//! Podman's secrets, read through their driver.

use std::collections::BTreeSet;
use std::path::PathBuf;

use psi_common::{Exit, Paths, SecretBytes, SecretId};
use psi_proto::v1::RegistrationKind;

use super::entries::Entries;
use crate::client::{Client, Deadline};
use crate::ctl::podman::{self, FileDriver, Secret, Secrets, ids, resolve};
use crate::ctl::wording::counted;
use crate::error::CliError;

/// Podman's secrets and store.
pub(super) struct Source {
    secrets: Secrets,
    graph_root: PathBuf,
}

/// Reads secrets, each `NAME` or `NAME=KEY`.
pub(super) fn read_named(names: &[String]) -> Result<Entries, CliError> {
    let secrets = Source::load()?;
    let mut entries = Entries::default();
    for given in names {
        let (name, key) = given.split_once('=').unwrap_or((given, given));
        entries.put(key.to_owned(), secrets.value(name)?);
    }
    Ok(entries)
}

/// Reads every secret under its name, but references: their values are at their provider already.
pub(super) fn read_all(paths: &Paths) -> Result<Entries, CliError> {
    let source = Source::load()?;
    let references = references(paths, &source.secrets)?;
    let mut entries = Entries::default();
    let mut left_out = 0_u64;
    for secret in source.secrets.iter() {
        if references.contains(&secret.id) {
            left_out += 1;
        } else {
            entries.put(secret.name.clone(), source.value(&secret.name)?);
        }
    }
    if left_out > 0 {
        let references = counted(left_out, "reference");
        entries.warn(format!(
            "{references} of psi: not imported, for the values are at their provider"
        ));
    }
    Ok(entries)
}

/// The ids of the secrets that psi serves from a provider. psid is asked only if podman has secrets of psi's.
fn references(paths: &Paths, secrets: &Secrets) -> Result<BTreeSet<SecretId>, CliError> {
    if !secrets.iter().any(Secret::names_psi) {
        return Ok(BTreeSet::new());
    }
    let registered = Client::new(paths, Deadline::Admin).registrations()?;
    let references = registered.iter().filter(|one| one.kind() == RegistrationKind::Reference);
    Ok(references.filter_map(|one| one.id.parse().ok()).collect())
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
