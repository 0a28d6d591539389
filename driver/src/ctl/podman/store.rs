//! Podman's own record of its secrets, `secrets.json`, changed under podman's own lock.
//!
//! Podman has no update: it removes a secret and creates another one with a new id, and between the two the name
//! is unknown; a `podman secret create --replace` whose store fails has removed the secret. The driver and its options are fields of this file that podman reads at each use, so they can be
//! replaced in place. Podman's own writes are not atomic; this one is.
//! Format: vendor/go.podman.io/common/pkg/secrets/secretsdb.go, the same from podman 4.3 to 6.1.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use psi_common::file_lock::LockMode;
use psi_common::{Exit, SecretBytes, SecretId};
use serde_json::{Map, Value, json};

use super::directory::Directory;
use super::lock;
use super::record::{LOCK, MAX_BYTES, RECORD, UNRECOGNIZED_FORMAT};
use super::{Commands, FileDriver};
use crate::error::CliError;

/// The secrets of one podman store.
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    /// The secrets of the store at `graph_root`.
    pub(crate) fn of(graph_root: &Path) -> Self {
        Self { directory: graph_root.join("secrets") }
    }

    /// Makes psi the driver of these secrets by one write; each keeps its id and its name. Returns the ids that the
    /// store has.
    pub(crate) fn hand_to_psi(
        &self,
        ids: &BTreeSet<SecretId>,
        commands: &Commands,
    ) -> Result<BTreeSet<SecretId>, CliError> {
        let driver = RecordedDriver { name: "shell", options: json!(commands.options()) };
        self.change(|record| set_driver(record, ids, &driver)).map_err(|cause| self.error(&cause))
    }

    /// Makes podman's file driver the driver of these secrets, with these values: first the values are written, by one
    /// write, then the record, by another. Each secret keeps its id, its name and its labels. Returns the ids that the
    /// store has with another driver.
    ///
    /// A crash leaves psi or the file driver as the driver of all of them, and the driver has the values.
    pub(crate) fn hand_to_file(
        &self,
        values: &BTreeMap<SecretId, SecretBytes>,
    ) -> Result<BTreeSet<SecretId>, CliError> {
        let files = self.file_driver();
        let driver = RecordedDriver { name: "file", options: json!({"path": files.directory()}) };
        let change = |record: &mut Value| {
            let of_shell = of_driver(record, "shell")?;
            let values: BTreeMap<_, _> = values
                .iter()
                .filter(|(id, _)| of_shell.contains(id))
                .map(|(id, value)| (*id, value))
                .collect();
            if !values.is_empty() {
                files.put(&values)?;
            }
            set_driver(record, &values.into_keys().collect(), &driver)
        };
        self.change(change).map_err(|cause| self.error(&cause))
    }

    /// Podman's file driver in its default directory.
    pub(crate) fn file_driver(&self) -> FileDriver {
        FileDriver::at(&self.directory.join("filedriver"))
    }

    fn error(&self, cause: &io::Error) -> CliError {
        unchanged(&format!("podman's record in {}", self.directory.display()), cause)
    }

    /// Changes the record under podman's lock, which podman takes for every use of a secret.
    fn change(
        &self,
        edit: impl FnOnce(&mut Value) -> io::Result<BTreeSet<SecretId>>,
    ) -> io::Result<BTreeSet<SecretId>> {
        let missing = || io::Error::from(ErrorKind::NotFound);
        let directory = Directory::open(&self.directory)?.ok_or_else(missing)?;
        let lock = lock::take(&directory, LOCK, LockMode::Exclusive, lock::LIMIT)?;
        let _lock = lock.ok_or_else(missing)?;
        let text = directory.read(RECORD, MAX_BYTES)?.ok_or_else(missing)?;
        let mut record: Value = serde_json::from_slice(text.expose_secret())?;
        let changed = edit(&mut record)?;
        if !changed.is_empty() {
            let text = SecretBytes::new(format!("{record:#}").into_bytes());
            directory.replace(RECORD, &text)?;
        }
        Ok(changed)
    }
}

/// The error that a file of podman's could not be read or changed. A held lock is a passing condition.
pub(super) fn unchanged(what: &str, cause: &io::Error) -> CliError {
    let what = format!("{what}: {cause}");
    if cause.kind() == ErrorKind::TimedOut {
        return CliError::new(Exit::TryLater, what, "nothing was changed; run it again later");
    }
    CliError::new(Exit::Io, what, "nothing was changed in it; run it as podman's user")
}

/// A driver as podman records it.
struct RecordedDriver {
    name: &'static str,
    options: Value,
}

/// Changes the driver of these secrets; everything else in the record stays as it is.
fn set_driver(
    record: &mut Value,
    ids: &BTreeSet<SecretId>,
    driver: &RecordedDriver,
) -> io::Result<BTreeSet<SecretId>> {
    let mut changed = BTreeSet::new();
    for (id, secret) in secrets_in(record)? {
        let Some(id) = id.parse().ok().filter(|id| ids.contains(id)) else { continue };
        let secret =
            secret.as_object_mut().filter(|secret| has_driver(secret)).ok_or_else(unrecognized)?;
        secret.insert("driver".into(), driver.name.into());
        secret.insert("driverOptions".into(), driver.options.clone());
        changed.insert(id);
    }
    Ok(changed)
}

/// The ids of the secrets of one driver.
fn of_driver(record: &mut Value, driver: &str) -> io::Result<BTreeSet<SecretId>> {
    let secrets = secrets_in(record)?.iter().filter(|(_, secret)| secret["driver"] == driver);
    Ok(secrets.filter_map(|(id, _)| id.parse().ok()).collect())
}

fn secrets_in(record: &mut Value) -> io::Result<&mut Map<String, Value>> {
    record.get_mut("secrets").and_then(Value::as_object_mut).ok_or_else(unrecognized)
}

fn unrecognized() -> io::Error {
    io::Error::other(UNRECOGNIZED_FORMAT)
}

fn has_driver(secret: &Map<String, Value>) -> bool {
    secret.get("driver").is_some_and(Value::is_string)
        && secret
            .get("driverOptions")
            .is_some_and(|options| options.is_object() || options.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use psi_common::Paths;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const PYTHON: &str = "1111111111111111111111111";
    const OTHER: &str = "2222222222222222222222222";

    fn commands() -> Commands {
        let paths = Paths::new(psi_common::Scope::System);
        Commands::of(Some(Path::new("/usr/bin/psi-driver")), &paths).unwrap()
    }

    fn record() -> Value {
        let secret = |name: &str, id: &str| json!({"name": name, "id": id, "driver": "file", "driverOptions": {"path": "/x"}, "labels": {"a": "b"}});
        json!({
            "secrets": {PYTHON: secret("a", PYTHON), OTHER: secret("b", OTHER)},
            "nameToID": {"a": PYTHON, "b": OTHER},
            "to come": [1],
        })
    }

    #[test]
    fn hand_to_psi_changes_only_the_driver_of_the_given_ids() {
        let base = tempfile::tempdir().unwrap();
        let secrets = base.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        fs::write(secrets.join("secrets.lock"), "").unwrap();
        fs::write(secrets.join("secrets.json"), record().to_string()).unwrap();
        let ids = BTreeSet::from([PYTHON.parse().unwrap(), "3".repeat(25).parse().unwrap()]);
        assert_eq!(
            Store::of(base.path()).hand_to_psi(&ids, &commands()).unwrap(),
            BTreeSet::from([PYTHON.parse().unwrap()])
        );
        let path = secrets.join("secrets.json");
        let after: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut expected = record();
        expected["secrets"][PYTHON]["driver"] = "shell".into();
        expected["secrets"][PYTHON]["driverOptions"] = json!(commands().options());
        assert_eq!(after, expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn hand_to_file_writes_the_values_and_then_the_driver() {
        let base = tempfile::tempdir().unwrap();
        let secrets = base.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        fs::write(secrets.join("secrets.lock"), "").unwrap();
        let path = secrets.join("secrets.json");
        let mut before = record();
        before["secrets"][PYTHON]["driver"] = "shell".into();
        fs::write(&path, before.to_string()).unwrap();
        let [psi, file]: [SecretId; 2] = [PYTHON, OTHER].map(|id| id.parse().unwrap());
        let value = || SecretBytes::new(b"v".to_vec());
        // A secret that the file driver has already keeps its value.
        let values = BTreeMap::from([(psi, value()), (file, value())]);
        let store = Store::of(base.path());
        assert_eq!(store.hand_to_file(&values).unwrap(), BTreeSet::from([psi]));
        let mut expected = before;
        expected["secrets"][PYTHON]["driver"] = "file".into();
        expected["secrets"][PYTHON]["driverOptions"] = json!({"path": secrets.join("filedriver")});
        let after: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(after, expected);
        assert_eq!(store.file_driver().ids().unwrap(), BTreeSet::from([psi]));
        // If the values cannot be written, the record stays as it is.
        expected["secrets"][PYTHON]["driver"] = "shell".into();
        fs::write(&path, expected.to_string()).unwrap();
        fs::write(store.file_driver().path(), "[]").unwrap();
        let written = fs::read(&path).unwrap();
        assert!(store.hand_to_file(&values).is_err());
        assert_eq!(fs::read(&path).unwrap(), written);
    }

    #[test]
    fn set_driver_rejects_an_unrecognized_record() {
        let ids = BTreeSet::from([PYTHON.parse().unwrap()]);
        let driver = RecordedDriver { name: "shell", options: json!({}) };
        for unrecognized in [
            json!([]),
            json!({"secrets": []}),
            json!({"secrets": {PYTHON: "x"}}),
            json!({"secrets": {PYTHON: {"driver": {"name": "file"}, "driverOptions": {}}}}),
        ] {
            let mut record = unrecognized.clone();
            assert!(set_driver(&mut record, &ids, &driver).is_err());
            assert_eq!(record, unrecognized);
        }
    }
}
