//! Our own cache, while values of an old one are put into it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::values::Values;
use crate::cache::{Entry, Snapshot};
use crate::crypto::envelope::AadContext;
use crate::crypto::keyring::Keyring;
use crate::model::reference::CacheKey;
use crate::storage::cache_file;
use crate::storage::payload;
use crate::sys::files;

/// Our own cache.
pub(crate) struct Ours {
    path: PathBuf,
    keyring: Arc<Keyring>,
    /// The last one that was written.
    generation: u64,
    entries: BTreeMap<CacheKey, Arc<Entry>>,
    /// Whether an old cache lies in its place.
    replaces: bool,
    /// Whether anything was put into it.
    changed: bool,
}

impl Ours {
    /// Ours, empty, in the place of an old one.
    pub(crate) fn in_place_of_an_old_one(path: &Path, keyring: Arc<Keyring>) -> Self {
        let entries = BTreeMap::new();
        Self {
            path: path.to_owned(),
            keyring,
            generation: 0,
            entries,
            replaces: true,
            changed: false,
        }
    }

    /// Ours as it is on the disk; empty when there is none.
    pub(crate) fn open(path: &Path, keyring: Arc<Keyring>) -> Result<Self, String> {
        let empty = Self { replaces: false, ..Self::in_place_of_an_old_one(path, keyring) };
        let file = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(empty),
            file => file.map_err(|error| format!("{}: {error}; run it as root", path.display()))?,
        };
        let opened = empty.keyring.open(AadContext::Cache, &file);
        let Snapshot { generation, entries } =
            opened.and_then(|bytes| payload::decode(&bytes)).map_err(|why| {
                let path = path.display();
                format!("our own {path} is not usable: {why}; start psid once, which sets it aside")
            })?;
        Ok(Self { generation, entries: entries.into_iter().collect(), ..empty })
    }

    /// Takes values in; where ours is as new, it stays. Tells how many were taken, by provider, and how
    /// many were not.
    pub(crate) fn take(&mut self, values: Values) -> (BTreeMap<String, usize>, usize) {
        let (mut taken, mut present) = (BTreeMap::new(), 0);
        for (at, (entry, provider)) in values {
            let known = self.entries.get(&at);
            if known.is_some_and(|known| known.fetched_at() >= entry.fetched_at()) {
                present += 1;
            } else {
                self.changed = true;
                *taken.entry(provider).or_default() += 1;
                self.entries.insert(at, entry);
            }
        }
        (taken, present)
    }

    /// Whether there is a value.
    pub(crate) fn holds(&self, at: &CacheKey) -> bool {
        self.entries.contains_key(at)
    }

    /// Whether the disk has another one.
    pub(crate) fn differs(&self) -> bool {
        self.changed || self.replaces
    }

    /// Writes it. An old one in its place keeps its bytes, and gets another name.
    pub(crate) fn write(self) -> Result<(), String> {
        if self.replaces {
            files::back_up_as(&self.path, cache_file::VERSION_1)
                .map_err(|error| format!("a second name for the old one: {error}"))?;
        }
        let entries = self.entries.into_iter().collect();
        let snapshot = Snapshot { generation: self.generation + 1, entries };
        cache_file::write(&self.path, &self.keyring, &snapshot)
    }
}
