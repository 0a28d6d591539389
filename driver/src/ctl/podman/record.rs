//! The record of secrets of a podman store, read without podman: for the stores of other users.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use psi_common::SecretId;
use psi_common::file_lock::LockMode;
use serde_json::Value;

use super::directory::{Directory, is_missing};
use super::lock;

pub(super) const RECORD: &str = "secrets.json";
pub(super) const LOCK: &str = "secrets.lock";
pub(super) const UNRECOGNIZED_FORMAT: &str = "its format is not that of podman 4.3 to 6.1";
/// About 15,000 secrets. The record is parsed into a tree, which takes several times as much memory.
pub(super) const MAX_BYTES: u64 = 8 << 20;

/// The default store of rootless podman, relative to the home directory.
pub(crate) const STORE_IN_HOME: &str = ".local/share/containers/storage";
/// How long a user may hold the lock of a store in a home directory.
const LOCK_LIMIT_IN_HOME: Duration = Duration::from_secs(5);

/// The names of a store's secrets, by id.
pub(crate) type Record = BTreeMap<SecretId, String>;

/// The record of the store at `graph_root`; `None` if podman never had a secret there.
pub(crate) fn record_of(graph_root: &Path) -> io::Result<Option<Record>> {
    match Directory::open(&graph_root.join("secrets"))? {
        Some(directory) => read(&directory, lock::LIMIT),
        None => Ok(None),
    }
}

/// The ids that podman lists but does not find by name: of two secrets with one name, one was removed, and with it
/// the name.
pub(crate) fn nameless(graph_root: &Path) -> io::Result<BTreeSet<SecretId>> {
    let directory = Directory::open(&graph_root.join("secrets"))?;
    let text = match directory {
        Some(directory) => {
            let _lock = lock::take(&directory, LOCK, LockMode::Shared, lock::LIMIT)?;
            directory.read(RECORD, MAX_BYTES)?
        }
        None => None,
    };
    text.map_or_else(|| Ok(BTreeSet::new()), |text| nameless_in(text.expose_secret()))
}

fn nameless_in(text: &[u8]) -> io::Result<BTreeSet<SecretId>> {
    let record: Value = serde_json::from_slice(text)?;
    let is_indexed = |name: &str| record["nameToID"][name].is_string();
    let secrets = parse(text)?;
    Ok(secrets.into_iter().filter(|(_, name)| !is_indexed(name)).map(|(id, _)| id).collect())
}

/// The record of the store in a user's home; `None` if podman never had a secret there. No link below the home is
/// followed.
pub(crate) fn record_in_home(home: &Path) -> io::Result<Option<Record>> {
    let owner = match fs::metadata(home) {
        Ok(about) => about.uid(),
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let secrets = home.join(STORE_IN_HOME).join("secrets");
    match Directory::open_of(&secrets, owner) {
        Ok(Some(directory)) => read(&directory, LOCK_LIMIT_IN_HOME),
        Ok(None) => Ok(None),
        // A home whose `.local` is a link is no error as long as podman has no record there.
        Err(untrusted) => match fs::metadata(secrets.join(RECORD)) {
            Err(error) if is_missing(&error) => Ok(None),
            _ => Err(untrusted),
        },
    }
}

fn read(directory: &Directory, limit: Duration) -> io::Result<Option<Record>> {
    if directory.file(RECORD, OFlag::O_RDONLY)?.is_none() {
        return Ok(None);
    }
    // Podman writes the record in place.
    let lock = lock::take(directory, LOCK, LockMode::Shared, limit)?;
    let _lock = lock.ok_or_else(|| io::Error::other(format!("{LOCK} is missing")))?;
    let Some(text) = directory.read(RECORD, MAX_BYTES)? else { return Ok(None) };
    parse(text.expose_secret()).map(Some)
}

fn parse(text: &[u8]) -> io::Result<Record> {
    let record: Value = serde_json::from_slice(text)
        .map_err(|error| io::Error::other(format!("{RECORD} is not valid JSON: {error}")))?;
    let secrets = record.get("secrets").and_then(Value::as_object);
    let secrets = secrets.ok_or_else(|| io::Error::other(UNRECOGNIZED_FORMAT))?;
    let named = secrets.iter().filter_map(|(id, secret)| {
        let name = secret.get("name").and_then(Value::as_str).unwrap_or_default();
        Some((id.parse().ok()?, name.to_owned()))
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nameless_finds_secrets_without_an_index_entry() {
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(25));
        let record = json!({
            "secrets": {a.as_str(): {"name": "one"}, b.as_str(): {"name": "two"}},
            "nameToID": {"one": a},
            "idToName": {},
        });
        let found = nameless_in(record.to_string().as_bytes()).unwrap();
        assert_eq!(found, BTreeSet::from([b.parse().unwrap()]));
        assert!(nameless_in(b"").is_err() && nameless_in(b"{}").is_err());
    }
}
