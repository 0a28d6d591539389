//! The record of secrets of a podman store, read without podman: for the stores of other users.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use psi_common::file_lock::LockMode;
use psi_common::{Scope, SecretId, passwd};
use serde_json::Value;

use super::directory::{Directory, is_missing};
use super::{lock, secrets};

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

/// The secrets of a record that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfDriver {
    Any,
    /// psi, of this version or version 1.
    Psi,
}

/// The record of the store at `graph_root`; `None` if podman never had a secret there.
pub(crate) fn record_of(graph_root: &Path, which: OfDriver) -> io::Result<Option<Record>> {
    match Directory::open(&graph_root.join("secrets"))? {
        Some(directory) => read(&directory, lock::LIMIT, which),
        None => Ok(None),
    }
}

/// The home directories of all users, if this process serves them.
pub(crate) fn homes() -> BTreeSet<PathBuf> {
    if Scope::of_this_process() != Scope::System {
        return BTreeSet::new();
    }
    let homes = passwd::users().unwrap_or_default().into_iter().map(|user| user.home);
    homes.filter(|home| home.is_absolute()).collect()
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
    let secrets = parse(text, OfDriver::Any)?;
    Ok(secrets.into_iter().filter(|(_, name)| !is_indexed(name)).map(|(id, _)| id).collect())
}

/// The record of the store in a user's home; `None` if podman never had a secret there. No link below the home is
/// followed.
pub(crate) fn record_in_home(home: &Path, which: OfDriver) -> io::Result<Option<Record>> {
    let owner = match fs::metadata(home) {
        Ok(about) => about.uid(),
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let secrets = home.join(STORE_IN_HOME).join("secrets");
    match Directory::open_of(&secrets, owner) {
        Ok(Some(directory)) => read(&directory, LOCK_LIMIT_IN_HOME, which),
        Ok(None) => Ok(None),
        // A home whose `.local` is a link is no error as long as podman has no record there.
        Err(untrusted) => match fs::metadata(secrets.join(RECORD)) {
            Err(error) if is_missing(&error) => Ok(None),
            _ => Err(untrusted),
        },
    }
}

fn read(directory: &Directory, limit: Duration, which: OfDriver) -> io::Result<Option<Record>> {
    if directory.file(RECORD, OFlag::O_RDONLY)?.is_none() {
        return Ok(None);
    }
    // Podman writes the record in place.
    let lock = lock::take(directory, LOCK, LockMode::Shared, limit)?;
    let _lock = lock.ok_or_else(|| io::Error::other(format!("{LOCK} is missing")))?;
    let Some(text) = directory.read(RECORD, MAX_BYTES)? else { return Ok(None) };
    parse(text.expose_secret(), which).map(Some)
}

fn parse(text: &[u8], which: OfDriver) -> io::Result<Record> {
    let record: Value = serde_json::from_slice(text)
        .map_err(|error| io::Error::other(format!("{RECORD} is not valid JSON: {error}")))?;
    let secrets = record.get("secrets").and_then(Value::as_object);
    let secrets = secrets.ok_or_else(|| io::Error::other(UNRECOGNIZED_FORMAT))?;
    let wanted = secrets.iter().filter(|(_, secret)| which == OfDriver::Any || is_of_psi(secret));
    let named = wanted.filter_map(|(id, secret)| {
        let name = secret.get("name").and_then(Value::as_str).unwrap_or_default();
        Some((id.parse().ok()?, name.to_owned()))
    });
    Ok(named.collect())
}

fn is_of_psi(secret: &Value) -> bool {
    let options = secret["driverOptions"].as_object().into_iter().flatten();
    let options = options.filter_map(|(_, option)| option.as_str());
    secrets::runs_psi(secret["driver"].as_str().unwrap_or_default(), options)
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

    #[test]
    fn parse_selects_the_secrets_of_psi() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(25));
        let record = json!({"secrets": {
            a.as_str(): {"name": "one", "driver": "shell", "driverOptions": {"lookup": "exec /usr/bin/psi-driver lookup"}},
            b.as_str(): {"name": "two", "driver": "file", "driverOptions": {"path": "/var/lib/psi"}},
            c.as_str(): {"name": "three", "driver": "shell", "driverOptions": null},
        }});
        let names = |which| {
            let record = parse(record.to_string().as_bytes(), which).unwrap();
            record.into_values().collect::<Vec<_>>()
        };
        assert_eq!(names(OfDriver::Psi), ["one"]);
        assert_eq!(names(OfDriver::Any), ["one", "two", "three"]);
    }
}
