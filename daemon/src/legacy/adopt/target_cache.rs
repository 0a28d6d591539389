//! psid's own cache file, into which the values of an old cache are taken over.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use psi_common::Problem;

use super::placement::PlacedValues;
use crate::cache::{Entry, Snapshot};
use crate::crypto::envelope::AadContext;
use crate::crypto::keyring::Keyring;
use crate::model::reference::CacheKey;
use crate::storage::cache_file;
use crate::storage::payload;
use crate::sys::files;

/// psid's own cache file.
pub(crate) struct TargetCache {
    path: PathBuf,
    keyring: Arc<Keyring>,
    /// The generation on disk.
    generation: u64,
    entries: BTreeMap<CacheKey, Arc<Entry>>,
    /// Whether the old cache has this path.
    replaces: bool,
    /// Whether a value was added.
    changed: bool,
}

/// The result of [`TargetCache::take`].
#[derive(Default)]
pub(crate) struct TakenValues {
    /// The number of values that were added, by provider.
    pub(crate) taken: BTreeMap<String, usize>,
    /// The number of values of which the cache had one that is as new or newer.
    pub(crate) present: usize,
}

impl TargetCache {
    /// An empty cache that replaces the old one at the same path.
    pub(crate) fn replacing(path: &Path, keyring: Arc<Keyring>) -> Self {
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

    /// The cache on disk; empty if there is none.
    pub(crate) fn open(path: &Path, keyring: Arc<Keyring>) -> Result<Self, Problem> {
        let empty = Self { replaces: false, ..Self::replacing(path, keyring) };
        let file = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(empty),
            file => file.map_err(|error| {
                Problem::new(format!("{}: {error}", path.display()), "run it as root")
            })?,
        };
        let opened = empty.keyring.open(AadContext::Cache, &file);
        let Snapshot { generation, entries } =
            opened.and_then(|bytes| payload::decode(&bytes)).map_err(|error| {
                let path = path.display();
                Problem::new(
                    format!("psid's own {path} is not usable: {error}"),
                    "start psid once, which sets it aside",
                )
            })?;
        Ok(Self { generation, entries: entries.into_iter().collect(), ..empty })
    }

    /// Adds values; an entry that is as new or newer stays.
    pub(crate) fn take(&mut self, values: PlacedValues) -> TakenValues {
        let mut counts = TakenValues::default();
        for (key, (entry, provider)) in values {
            let known = self.entries.get(&key);
            if known.is_some_and(|known| known.fetched_at() >= entry.fetched_at()) {
                counts.present += 1;
            } else {
                self.changed = true;
                *counts.taken.entry(provider).or_default() += 1;
                self.entries.insert(key, entry);
            }
        }
        counts
    }

    /// Whether it has a value.
    pub(crate) fn contains(&self, key: &CacheKey) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether it differs from the file.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed || self.replaces
    }

    /// Writes it. An old cache at its path is renamed.
    pub(crate) fn write(self) -> io::Result<()> {
        if self.replaces {
            files::back_up_as(&self.path, cache_file::VERSION_1)?;
        }
        let entries = self.entries.into_iter().collect();
        let snapshot = Snapshot { generation: self.generation + 1, entries };
        cache_file::write(&self.path, &self.keyring, &snapshot)
    }
}
