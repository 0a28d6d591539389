//! The values that podman's file driver keeps, in clear: `secretsdata.json`, an object of base64 by id
//! (vendor/go.podman.io/common/pkg/secrets/filedriver/filedriver.go).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use psi_common::{Exit, SecretBytes, SecretId};

use super::Secret;
use super::store::{lock, replace};
use crate::failure::Failure;

const STRANGE: &str = "it has another form than podman 4.3 to 6.1 give it";

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
        self.folder.join("secretsdata.json")
    }

    /// Every id of which there is a value.
    pub(crate) fn ids(&self) -> Result<BTreeSet<SecretId>, Failure> {
        let text = self.read()?;
        Ok(self.parse(&text)?.keys().filter_map(|id| id.parse().ok()).collect())
    }

    /// The values of those of these ids that have one.
    pub(crate) fn values(
        &self,
        ids: &BTreeSet<SecretId>,
    ) -> Result<BTreeMap<SecretId, SecretBytes>, Failure> {
        // Podman writes the file in place. Where it never had a lock, there is nothing to wait for.
        let _podman_waits = lock(&self.folder.join("secretsdata.lock")).ok();
        let text = self.read()?;
        let mut values = BTreeMap::new();
        for (id, value) in self.parse(&text)? {
            let Some(id) = id.parse().ok().filter(|id| ids.contains(id)) else { continue };
            let value = STANDARD.decode(value).map_err(|_| self.failure(STRANGE))?;
            values.insert(id, SecretBytes::new(value));
        }
        Ok(values)
    }

    /// Removes values, by one write; tells how many there were. What was on the disk may stay there until it is
    /// used again: no file system promises more.
    pub(crate) fn remove(&self, ids: &BTreeSet<SecretId>) -> Result<usize, Failure> {
        let failed = |cause: io::Error| self.failure(&cause.to_string());
        let _podman_waits = lock(&self.folder.join("secretsdata.lock")).map_err(failed)?;
        let text = self.read()?;
        let mut values = self.parse(&text)?;
        let before = values.len();
        values.retain(|id, _| !id.parse().is_ok_and(|id| ids.contains(&id)));
        if values.len() < before {
            let text = serde_json::to_string_pretty(&values).unwrap_or_default();
            let text = SecretBytes::new(text.into_bytes());
            replace(&self.path(), &text).map_err(failed)?;
        }
        Ok(before - values.len())
    }

    fn read(&self) -> Result<SecretBytes, Failure> {
        match fs::read(self.path()) {
            Ok(text) => Ok(SecretBytes::new(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(SecretBytes::new(b"{}".to_vec()))
            }
            Err(error) => Err(self.failure(&error.to_string())),
        }
    }

    /// Borrowed, so that no copies of values are left behind.
    fn parse<'a>(&self, text: &'a SecretBytes) -> Result<BTreeMap<&'a str, &'a str>, Failure> {
        serde_json::from_slice(text.expose_secret()).map_err(|_| self.failure(STRANGE))
    }

    fn failure(&self, why: &str) -> Failure {
        Failure::new(
            Exit::Io,
            format!("podman's file driver in {}: {why}", self.folder.display()),
            "nothing was changed in it; run it as podman's user",
        )
    }
}

#[cfg(test)]
mod tests {
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
