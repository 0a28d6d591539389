//! The plaintext values of podman's file driver: `secretsdata.json`, an object of base64 by id
//! (vendor/go.podman.io/common/pkg/secrets/filedriver/filedriver.go).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use psi_common::file_lock::LockMode;
use psi_common::{SecretBytes, SecretId};

use super::Secret;
use super::directory::Directory;
use super::lock;
use super::record::UNRECOGNIZED_FORMAT;
use super::store::unchanged;
use crate::error::CliError;

const VALUES: &str = "secretsdata.json";
const LOCK: &str = "secretsdata.lock";
/// About a hundred values of podman's maximum size.
const MAX_BYTES: u64 = 64 << 20;

/// One directory of the file driver.
pub(crate) struct FileDriver {
    directory: PathBuf,
}

impl FileDriver {
    /// A given directory.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Podman's default directory.
    pub(crate) fn of(graph_root: &Path) -> Self {
        Self { directory: graph_root.join("secrets/filedriver") }
    }

    /// The directory in the options of a secret of the file driver; podman writes it into each.
    pub(crate) fn of_secret(secret: &Secret, graph_root: &Path) -> Self {
        match secret.options.get("path") {
            Some(directory) => Self::at(Path::new(directory)),
            None => Self::of(graph_root),
        }
    }

    /// All known directories: podman's default, those of these secrets, and the given ones.
    pub(crate) fn all<'a>(
        graph_root: &Path,
        secrets: impl IntoIterator<Item = &'a Secret>,
        given: &[PathBuf],
    ) -> Vec<Self> {
        let of_files = secrets.into_iter().filter(|secret| secret.driver == "file");
        let mut all = vec![Self::of(graph_root)];
        all.extend(of_files.map(|secret| Self::of_secret(secret, graph_root)));
        all.extend(given.iter().map(|directory| Self::at(directory)));
        let mut seen = BTreeSet::new();
        all.retain(|files| seen.insert(files.directory.clone()));
        all
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file that holds the values.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(VALUES)
    }

    /// Every id that has a value.
    pub(crate) fn ids(&self) -> Result<BTreeSet<SecretId>, CliError> {
        self.with(|text| {
            let ids = parse(text)?.into_keys().filter_map(|id| id.parse().ok());
            Ok(ids.collect())
        })
    }

    /// The values of these ids; ids without one are left out.
    pub(crate) fn values(
        &self,
        ids: &BTreeSet<SecretId>,
    ) -> Result<BTreeMap<SecretId, SecretBytes>, CliError> {
        self.with(|text| {
            let mut values = BTreeMap::new();
            for (id, value) in parse(text)? {
                let Some(id) = id.parse().ok().filter(|id| ids.contains(id)) else { continue };
                let value =
                    STANDARD.decode(value).map_err(|_| io::Error::other(UNRECOGNIZED_FORMAT))?;
                values.insert(id, SecretBytes::new(value));
            }
            Ok(values)
        })
    }

    /// Removes values by one write and returns their number. The bytes may stay on the disk until the file system
    /// reuses the blocks.
    pub(crate) fn remove(&self, ids: &BTreeSet<SecretId>) -> Result<usize, CliError> {
        self.removed(ids).map_err(|cause| self.error(&cause))
    }

    fn removed(&self, ids: &BTreeSet<SecretId>) -> io::Result<usize> {
        let Some(directory) = Directory::open(&self.directory)? else { return Ok(0) };
        let lock = lock::take(&directory, LOCK, LockMode::Exclusive, lock::LIMIT)?;
        let _podman_waits = lock.ok_or_else(|| io::Error::other(format!("{LOCK} is missing")))?;
        let Some(text) = directory.read(VALUES, MAX_BYTES)? else { return Ok(0) };
        let mut values = parse(&text)?;
        let before = values.len();
        values.retain(|id, _| !id.parse().is_ok_and(|id| ids.contains(&id)));
        if values.len() < before {
            let text = serde_json::to_string_pretty(&values)?;
            directory.replace(VALUES, &SecretBytes::new(text.into_bytes()))?;
        }
        Ok(before - values.len())
    }

    /// Reads the file under podman's lock, because podman writes it in place. Without a lock file, podman never
    /// wrote it.
    fn with<T: Default>(
        &self,
        how: impl FnOnce(&SecretBytes) -> io::Result<T>,
    ) -> Result<T, CliError> {
        let read = || {
            let Some(directory) = Directory::open(&self.directory)? else {
                return Ok(T::default());
            };
            let _podman_waits = lock::take(&directory, LOCK, LockMode::Shared, lock::LIMIT)?;
            directory.read(VALUES, MAX_BYTES)?.map_or_else(|| Ok(T::default()), |text| how(&text))
        };
        read().map_err(|cause| self.error(&cause))
    }

    fn error(&self, cause: &io::Error) -> CliError {
        unchanged(&format!("podman's file driver in {}", self.directory.display()), cause)
    }
}

/// Borrows from the text, so that no copies of values are left behind.
fn parse(text: &SecretBytes) -> io::Result<BTreeMap<&str, &str>> {
    serde_json::from_slice(text.expose_secret()).map_err(|_| io::Error::other(UNRECOGNIZED_FORMAT))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn values_are_read_and_removed_by_id() {
        let directory = tempfile::tempdir().unwrap();
        let driver = FileDriver { directory: directory.path().to_owned() };
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(25).parse::<SecretId>().unwrap());
        assert!(driver.ids().unwrap().is_empty());
        fs::write(directory.path().join("secretsdata.lock"), "").unwrap();
        let text = format!("{{\n  \"{a}\": \"dgo=\",\n  \"{b}\": \"AP8=\"\n}}");
        fs::write(driver.path(), &text).unwrap();
        assert_eq!(driver.ids().unwrap(), BTreeSet::from([a, b]));
        let values = driver.values(&BTreeSet::from([b, c])).unwrap();
        assert_eq!(values.len(), 1);
        assert!(values[&b].same_as(&SecretBytes::new(vec![0, 255])));
        assert_eq!(driver.remove(&BTreeSet::from([c])).unwrap(), 0);
        assert_eq!(fs::read_to_string(driver.path()).unwrap(), text);
        assert_eq!(driver.remove(&BTreeSet::from([a, c])).unwrap(), 1);
        assert_eq!(driver.ids().unwrap(), BTreeSet::from([b]));
        fs::write(driver.path(), "[]").unwrap();
        assert!(driver.ids().is_err() && driver.remove(&BTreeSet::from([b])).is_err());
    }
}
