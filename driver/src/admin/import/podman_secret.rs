//! Podman's own secrets, by the way that their driver has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use psi_common::{Exit, Paths, SecretBytes};

use super::entries::Entries;
use crate::failure::Failure;
use crate::podman::{FileDriver, Podman, Secret, ids, resolve};

/// A podman whose secrets can be read.
pub(super) struct Secrets {
    by_name: BTreeMap<String, Secret>,
    graph_root: PathBuf,
}

/// Reads secrets, each `NAME` or `NAME=KEY`.
pub(super) fn read_all(paths: &Paths, names: &[String]) -> Result<Entries, Failure> {
    let secrets = Secrets::of(paths)?;
    let mut entries = Entries::default();
    for given in names {
        let (name, key) = given.split_once('=').unwrap_or((given, given));
        entries.put(key.to_owned(), secrets.value(name)?);
    }
    Ok(entries)
}

impl Secrets {
    pub(super) fn of(paths: &Paths) -> Result<Self, Failure> {
        let podman = Podman::find(paths);
        Ok(Self { by_name: podman.secrets()?, graph_root: podman.about()?.graph_root })
    }

    /// A secret's value; podman before 4.7 has no command for it.
    pub(super) fn value(&self, name: &str) -> Result<SecretBytes, Failure> {
        let shown = name.escape_debug();
        let secret = self.by_name.get(name).ok_or_else(|| {
            let what = format!("podman has no secret {shown}");
            Failure::new(Exit::NoSuchSecret, what, "see `podman secret ls`")
        })?;
        let none = |why: String| {
            Failure::new(
                Exit::BadInput,
                format!("{shown} has no value: {why}"),
                "leave it out, or create it again",
            )
        };
        match (secret.driver.as_str(), secret.options.get("lookup")) {
            ("file", _) => {
                let files = FileDriver::of_secret(secret, &self.graph_root);
                let mut values = files.values(&ids([secret]))?;
                values.remove(&secret.id).ok_or_else(|| none("podman's file driver lost it".into()))
            }
            ("shell", Some(lookup)) => resolve(lookup, secret.id).map_err(none),
            (driver, _) => Err(none(format!("the {driver} driver's are not read here"))),
        }
    }
}
