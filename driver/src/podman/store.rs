//! Podman's own record of its secrets, `secrets.json`, changed under podman's own lock.
//!
//! Podman has no update: it would remove a secret and make another one, with a new id, and with a moment in
//! which the name means nothing. The driver and its options are only words in this file, read anew at each
//! use, so they can be replaced in place. Podman's own writes are not atomic; this one is.
//! Format: vendor/go.podman.io/common/pkg/secrets/secretsdb.go, the same from podman 4.3 to 6.1.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use psi_common::{Exit, SecretBytes, SecretId};
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::{Map, Value, json};

use super::Commands;
use super::guarded::ids_in_folder;
use crate::failure::Failure;

pub(super) const STRANGE: &str = "it has another form than podman 4.3 to 6.1 give it";

/// The folder of one store's secrets.
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    /// The secrets of the store at `graph_root`.
    pub(crate) fn of(graph_root: &Path) -> Self {
        Self { folder: graph_root.join("secrets") }
    }

    /// Makes psi the driver of these secrets, by one write for all; each keeps its id and its name. The ids
    /// of those that were there.
    pub(crate) fn hand_to_psi(
        &self,
        ids: &BTreeSet<SecretId>,
        commands: &Commands,
    ) -> Result<BTreeSet<SecretId>, Failure> {
        let _podman_waits = self.lock()?;
        let path = self.folder.join("secrets.json");
        let failed = |cause: io::Error| self.failure(&cause.to_string());
        let text = fs::read(&path).map_err(failed)?;
        let mut record: Value =
            serde_json::from_slice(&text).map_err(|cause| self.failure(&cause.to_string()))?;
        let handed = hand_over(&mut record, ids, commands).map_err(|why| self.failure(why))?;
        if !handed.is_empty() {
            let text = SecretBytes::new(format!("{record:#}").into_bytes());
            replace(&path, &text).map_err(failed)?;
        }
        Ok(handed)
    }

    /// The ids that podman knows here; none when it never had a secret here.
    pub(crate) fn ids(&self) -> Result<BTreeSet<SecretId>, Failure> {
        let ids = ids_in_folder(&self.folder).map_err(|cause| self.failure(&cause.to_string()))?;
        Ok(ids.unwrap_or_default())
    }

    /// Podman takes this lock for whatever it does with secrets; lookups of its own wait meanwhile.
    fn lock(&self) -> Result<File, Failure> {
        let lock = lock(&self.folder.join("secrets.lock"));
        lock.map_err(|cause| self.failure(&cause.to_string()))
    }

    fn failure(&self, why: &str) -> Failure {
        Failure::new(
            Exit::Io,
            format!("podman's record in {}: {why}", self.folder.display()),
            "nothing was changed in it; run it as podman's user",
        )
    }
}

/// Takes one of podman's locks: a POSIX one on the whole of an empty file (storage's rawfilelock).
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().read(true).write(true).open(path)?;
    fcntl_lock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

/// Whatever else the record holds stays as it is.
fn hand_over(
    record: &mut Value,
    ids: &BTreeSet<SecretId>,
    commands: &Commands,
) -> Result<BTreeSet<SecretId>, &'static str> {
    let secrets = record.get_mut("secrets").and_then(Value::as_object_mut).ok_or(STRANGE)?;
    let mut handed = BTreeSet::new();
    for (id, secret) in secrets {
        let Some(id) = id.parse().ok().filter(|id| ids.contains(id)) else { continue };
        let secret = secret.as_object_mut().filter(|secret| has_driver(secret)).ok_or(STRANGE)?;
        secret.insert("driver".into(), "shell".into());
        secret.insert("driverOptions".into(), json!(commands.options()));
        handed.insert(id);
    }
    Ok(handed)
}

fn has_driver(secret: &Map<String, Value>) -> bool {
    secret.get("driver").is_some_and(Value::is_string)
        && secret
            .get("driverOptions")
            .is_some_and(|options| options.is_object() || options.is_null())
}

/// A crash leaves the old file or the new one.
pub(super) fn replace(path: &Path, text: &SecretBytes) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // In its folder, for the rename and for SELinux's label; of mode 0600, as podman's.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.expose_secret())?;
    file.as_file().sync_all()?;
    file.into_temp_path().persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use psi_common::Paths;
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
    fn only_the_driver_of_the_named_ones_changes() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        fs::write(secrets.join("secrets.lock"), "").unwrap();
        fs::write(secrets.join("secrets.json"), record().to_string()).unwrap();
        let ids = BTreeSet::from([PYTHON.parse().unwrap(), "3".repeat(25).parse().unwrap()]);
        assert_eq!(
            Store::of(folder.path()).hand_to_psi(&ids, &commands()).unwrap(),
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
    fn a_record_of_another_form_is_left_alone() {
        let ids = BTreeSet::from([PYTHON.parse().unwrap()]);
        for strange in [
            json!([]),
            json!({"secrets": []}),
            json!({"secrets": {PYTHON: "x"}}),
            json!({"secrets": {PYTHON: {"driver": {"name": "file"}, "driverOptions": {}}}}),
        ] {
            let mut record = strange.clone();
            assert!(hand_over(&mut record, &ids, &commands()).is_err());
            assert_eq!(record, strange);
        }
    }
}
