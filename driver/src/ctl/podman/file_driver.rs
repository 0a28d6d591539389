//! The plaintext values of podman's file driver: `secretsdata.json`, an object of base64 by id
//! (vendor/go.podman.io/common/pkg/secrets/filedriver/filedriver.go).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use psi_common::file_lock::LockMode;
use psi_common::{SecretBytes, SecretId, SecretString};

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
        let _podman_waits = lock_exclusively(&directory)?;
        let Some(text) = directory.read(VALUES, MAX_BYTES)? else { return Ok(0) };
        let mut values = parse(&text)?;
        let before = values.len();
        values.retain(|id, _| !id.parse().is_ok_and(|id| ids.contains(&id)));
        if values.len() < before {
            write(&directory, &values)?;
        }
        Ok(before - values.len())
    }

    /// Adds values by one write, for podman to read. A value that an id has already is replaced.
    pub(super) fn put(&self, added: &BTreeMap<SecretId, &SecretBytes>) -> io::Result<()> {
        let directory = self.make()?;
        let _podman_waits = lock_exclusively(&directory)?;
        let text = directory.read(VALUES, MAX_BYTES)?;
        let mut values = text.as_ref().map_or_else(|| Ok(BTreeMap::new()), parse)?;
        let encoded = added
            .iter()
            .map(|(id, value)| (*id, SecretString::new(STANDARD.encode(value.expose_secret()))));
        let encoded: Vec<(SecretId, SecretString)> = encoded.collect();
        values.extend(encoded.iter().map(|(id, value)| (id.as_str(), value.expose_secret())));
        write(&directory, &values)
    }

    /// The directory, with its lock, as podman creates them for the first secret of its file driver.
    fn make(&self) -> io::Result<Directory> {
        match fs::DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = Directory::open(&self.directory)?.ok_or(ErrorKind::NotFound)?;
        directory.create(LOCK)?;
        Ok(directory)
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

/// Keeps podman from reading and writing the file.
fn lock_exclusively(directory: &Directory) -> io::Result<File> {
    let lock = lock::take(directory, LOCK, LockMode::Exclusive, lock::LIMIT)?;
    lock.ok_or_else(|| io::Error::other(format!("{LOCK} is missing")))
}

fn write(directory: &Directory, values: &BTreeMap<&str, &str>) -> io::Result<()> {
    // Quotes, a colon, a comma, blanks and the line's end of each entry.
    let length: usize = values.iter().map(|(id, value)| id.len() + value.len() + 12).sum();
    // Allocated at once: a buffer that grows leaves copies of secrets behind.
    let mut text = Vec::with_capacity(length + 8);
    let written = serde_json::to_writer_pretty(&mut text, values);
    let text = SecretBytes::new(text);
    written?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("{VALUES} would be larger than {MAX_BYTES} bytes")));
    }
    directory.replace(VALUES, &text)
}

/// Borrows from the text, so that no copies of values are left behind.
fn parse(text: &SecretBytes) -> io::Result<BTreeMap<&str, &str>> {
    serde_json::from_slice(text.expose_secret()).map_err(|_| io::Error::other(UNRECOGNIZED_FORMAT))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn put_creates_the_directory_and_keeps_other_values() {
        let base = tempfile::tempdir().unwrap();
        let driver = FileDriver::at(&base.path().join("filedriver"));
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(25).parse::<SecretId>().unwrap());
        let value = |bytes: &[u8]| SecretBytes::new(bytes.to_vec());
        let (first, second) = (value(b"\0\xff\r\n"), value(b""));
        driver.put(&BTreeMap::from([(a, &value(b"old")), (b, &second)])).unwrap();
        driver.put(&BTreeMap::from([(a, &first)])).unwrap();
        let values = driver.values(&BTreeSet::from([a, b])).unwrap();
        assert!(values[&a].same_as(&first) && values[&b].same_as(&second));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(driver.directory()), mode(&driver.path())), (0o700, 0o600));
        let text = fs::read_to_string(driver.path()).unwrap();
        assert_eq!(text, format!("{{\n  \"{a}\": \"AP8NCg==\",\n  \"{b}\": \"\"\n}}"));
    }

    #[test]
    fn put_leaves_a_file_of_another_format_as_it_is() {
        let base = tempfile::tempdir().unwrap();
        let driver = FileDriver::at(base.path());
        fs::write(driver.path(), "[]").unwrap();
        let id: SecretId = "a".repeat(25).parse().unwrap();
        let value = SecretBytes::new(b"x".to_vec());
        assert!(driver.put(&BTreeMap::from([(id, &value)])).is_err());
        assert_eq!(fs::read_to_string(driver.path()).unwrap(), "[]");
    }
}
