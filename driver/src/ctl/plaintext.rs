//! The plaintext values that podman's file driver keeps of secrets that now belong to psi.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use psi_common::{SecretBytes, SecretId};

use crate::ctl::podman::{FileDriver, Secret, Secrets, ids, resolve};
use crate::error::CliError;

/// The plaintext values in one directory of the file driver.
pub(super) struct Plaintext {
    files: FileDriver,
    /// The secrets whose value psi serves too.
    pub(super) proven: BTreeSet<SecretId>,
    /// The secrets whose value psi does not serve, by name, with the reason.
    pub(super) differing: BTreeMap<String, String>,
    /// The number of values that were removed.
    pub(super) removed: usize,
}

impl Plaintext {
    /// Compares each value with the output of the secret's lookup command.
    pub(super) fn compare(files: FileDriver, secrets: &Secrets) -> Result<Self, CliError> {
        // Secrets with the same name are identified by their ids.
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
                Ok(served) if served.same_as(value) => {
                    found.proven.insert(secret.id);
                }
                Ok(_) => {
                    let why = "psi has another value";
                    found.differing.insert(key(secret), why.into());
                }
                Err(why) => {
                    let why = format!("its lookup through psi fails: {why}");
                    found.differing.insert(key(secret), why);
                }
            }
        }
        Ok(found)
    }

    /// The values of these ids; ids without one are left out.
    pub(super) fn values(
        &self,
        ids: &BTreeSet<SecretId>,
    ) -> Result<BTreeMap<SecretId, SecretBytes>, CliError> {
        self.files.values(ids)
    }

    /// Notes a value that psi does not serve, of a secret without a name.
    pub(super) fn note_differing(&mut self, id: SecretId, why: &str) {
        self.differing.insert(id.to_string(), why.to_owned());
    }

    /// The directory of the file.
    pub(super) fn directory(&self) -> &Path {
        self.files.directory()
    }

    /// The file with the values.
    pub(super) fn path(&self) -> PathBuf {
        self.files.path()
    }

    /// Removes values by one write.
    pub(super) fn remove(&mut self, ids: &BTreeSet<SecretId>) -> Result<(), CliError> {
        if !ids.is_empty() {
            self.removed = self.files.remove(ids)?;
        }
        Ok(())
    }

    /// Removes the values that psi serves.
    pub(super) fn remove_proven(&mut self) -> Result<(), CliError> {
        let proven = self.proven.clone();
        self.remove(&proven)
    }
}
