//! Values in clear that podman's file driver keeps of secrets that are psi's by now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use psi_common::{SecretBytes, SecretId};

use crate::ctl::podman::{FileDriver, Secret, Secrets, ids, resolve};
use crate::error::CliError;

/// What one folder of the file driver keeps of such secrets.
pub(super) struct Plaintext {
    files: FileDriver,
    /// Of those that psi serves just the same.
    pub(super) proven: BTreeSet<SecretId>,
    /// Of those that it does not, by name, and why.
    pub(super) differing: BTreeMap<String, String>,
    /// How many were removed.
    pub(super) removed: usize,
}

impl Plaintext {
    /// Compares each with what podman's own command for the secret gives.
    pub(super) fn look(files: FileDriver, secrets: &Secrets) -> Result<Self, CliError> {
        // Of several with one name, each is told by its id.
        let key = |secret: &Secret| match secrets.only(&secret.name) {
            Some(_) => secret.name.clone(),
            None => format!("{} ({})", secret.name, secret.id),
        };
        let of_psi = || secrets.iter().filter(|secret| secret.names_psi());
        let values = files.values(&ids(of_psi()))?;
        let mut found =
            Self { files, proven: BTreeSet::new(), differing: BTreeMap::new(), removed: 0 };
        for secret in of_psi() {
            let Some(value) = values.get(&secret.id) else { continue };
            let lookup = secret.options.get("lookup").map_or("", String::as_str);
            match resolve(lookup, secret.id) {
                Ok(now) if now.same_as(value) => {
                    found.proven.insert(secret.id);
                }
                Ok(_) => {
                    let why = "psi gives another value";
                    found.differing.insert(key(secret), why.into());
                }
                Err(why) => {
                    let why = format!("it does not resolve through psi: {why}");
                    found.differing.insert(key(secret), why);
                }
            }
        }
        Ok(found)
    }

    /// The values of those of these ids that have one.
    pub(super) fn values(
        &self,
        ids: &BTreeSet<SecretId>,
    ) -> Result<BTreeMap<SecretId, SecretBytes>, CliError> {
        self.files.values(ids)
    }

    /// Notes a value that psi does not serve the same, of a secret without a name.
    pub(super) fn differ(&mut self, id: SecretId, why: &str) {
        self.differing.insert(id.to_string(), why.to_owned());
    }

    /// The folder that holds them.
    pub(super) fn folder(&self) -> &Path {
        self.files.folder()
    }

    /// The file that holds them.
    pub(super) fn path(&self) -> PathBuf {
        self.files.path()
    }

    /// Removes values, by one write.
    pub(super) fn remove(&mut self, ids: &BTreeSet<SecretId>) -> Result<(), CliError> {
        if !ids.is_empty() {
            self.removed = self.files.remove(ids)?;
        }
        Ok(())
    }

    /// Removes those that psi serves.
    pub(super) fn remove_proven(&mut self) -> Result<(), CliError> {
        let proven = self.proven.clone();
        self.remove(&proven)
    }
}
