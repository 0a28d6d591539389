//! The values that podman's file driver keeps, in clear: `secretsdata.json`, an object of base64 by id
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
use super::store::changed_nothing;
use crate::error::CliError;

const STRANGE: &str = "it has another form than podman 4.3 to 6.1 give it";
const VALUES: &str = "secretsdata.json";
const LOCK: &str = "secretsdata.lock";
/// Some hundred values of the largest size that podman takes.
const LARGEST: u64 = 64 << 20;

/// One folder of the file driver.
pub(crate) struct FileDriver {
    folder: PathBuf,
}

impl FileDriver {
    /// A folder that somebody named.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder that podman uses unless it is told another one.
    pub(crate) fn of(graph_root: &Path) -> Self {
        Self { folder: graph_root.join("secrets/filedriver") }
    }

    /// The folder that a secret of the file driver names; podman writes it into each.
    pub(crate) fn of_secret(secret: &Secret, graph_root: &Path) -> Self {
        match secret.options.get("path") {
            Some(folder) => Self::at(Path::new(folder)),
            None => Self::of(graph_root),
        }
    }

    /// The folders that podman can be known to use: its own, those that these secrets name, and more.
    pub(crate) fn all<'a>(
        graph_root: &Path,
        secrets: impl IntoIterator<Item = &'a Secret>,
        more: &[PathBuf],
    ) -> Vec<Self> {
        let of_files = secrets.into_iter().filter(|secret| secret.driver == "file");
        let mut all = vec![Self::of(graph_root)];
        all.extend(of_files.map(|secret| Self::of_secret(secret, graph_root)));
        all.extend(more.iter().map(|folder| Self::at(folder)));
        let mut seen = BTreeSet::new();
        all.retain(|files| seen.insert(files.folder.clone()));
        all
    }

    /// The folder, as podman was told it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that holds the values.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(VALUES)
    }

    /// Every id of which there is a value.
    pub(crate) fn ids(&self) -> Result<BTreeSet<SecretId>, CliError> {
        self.with(|text| {
            let ids = parse(text)?.into_keys().filter_map(|id| id.parse().ok());
            Ok(ids.collect())
        })
    }

    /// The values of those of these ids that have one.
    pub(crate) fn values(
        &self,
        ids: &BTreeSet<SecretId>,
    ) -> Result<BTreeMap<SecretId, SecretBytes>, CliError> {
        self.with(|text| {
            let mut values = BTreeMap::new();
            for (id, value) in parse(text)? {
                let Some(id) = id.parse().ok().filter(|id| ids.contains(id)) else { continue };
                let value = STANDARD.decode(value).map_err(|_| io::Error::other(STRANGE))?;
                values.insert(id, SecretBytes::new(value));
            }
            Ok(values)
        })
    }

    /// Removes values, by one write, and returns how many there were. What was on the disk may stay there until
    /// it is used again: no file system promises more.
    pub(crate) fn remove(&self, ids: &BTreeSet<SecretId>) -> Result<usize, CliError> {
        self.removed(ids).map_err(|cause| self.failure(&cause))
    }

    fn removed(&self, ids: &BTreeSet<SecretId>) -> io::Result<usize> {
        let Some(directory) = Directory::open(&self.folder)? else { return Ok(0) };
        let lock = lock::take(&directory, LOCK, LockMode::Exclusive, lock::LIMIT)?;
        let _podman_waits = lock.ok_or_else(|| io::Error::other(format!("{LOCK} is missing")))?;
        let Some(text) = directory.read(VALUES, LARGEST)? else { return Ok(0) };
        let mut values = parse(&text)?;
        let before = values.len();
        values.retain(|id, _| !id.parse().is_ok_and(|id| ids.contains(&id)));
        if values.len() < before {
            let text = serde_json::to_string_pretty(&values)?;
            directory.replace(VALUES, &SecretBytes::new(text.into_bytes()))?;
        }
        Ok(before - values.len())
    }

    /// Reads the file. Podman writes it in place; where it never had a lock, there is nothing to wait for.
    fn with<T: Default>(
        &self,
        how: impl FnOnce(&SecretBytes) -> io::Result<T>,
    ) -> Result<T, CliError> {
        let read = || {
            let Some(directory) = Directory::open(&self.folder)? else { return Ok(T::default()) };
            let _podman_waits = lock::take(&directory, LOCK, LockMode::Shared, lock::LIMIT)?;
            directory.read(VALUES, LARGEST)?.map_or_else(|| Ok(T::default()), |text| how(&text))
        };
        read().map_err(|cause| self.failure(&cause))
    }

    fn failure(&self, cause: &io::Error) -> CliError {
        changed_nothing(&format!("podman's file driver in {}", self.folder.display()), cause)
    }
}

/// Borrowed, so that no copies of values are left behind.
fn parse(text: &SecretBytes) -> io::Result<BTreeMap<&str, &str>> {
    serde_json::from_slice(text.expose_secret()).map_err(|_| io::Error::other(STRANGE))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn values_are_found_and_removed_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let driver = FileDriver { folder: folder.path().to_owned() };
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(25).parse::<SecretId>().unwrap());
        assert!(driver.ids().unwrap().is_empty());
        fs::write(folder.path().join("secretsdata.lock"), "").unwrap();
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
