//! The entries by namespace and directory. A clone shares the directories, and a shared directory is copied before it
//! changes: work on many entries uses a clone, and holds no lock.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use indexmap::IndexMap;

use super::Entry;
use crate::model::reference::{CacheKey, ListingScope, Namespace};

/// In the order in which they came, which is that of their memory: listings and snapshots read all of them.
type Directory = IndexMap<CacheKey, Arc<Entry>>;

/// The entries. No directory is empty.
#[derive(Clone, Default)]
pub(super) struct Entries(BTreeMap<Namespace, BTreeMap<Arc<str>, Arc<Directory>>>);

impl Entries {
    pub(super) fn get(&self, key: &CacheKey) -> Option<&Arc<Entry>> {
        self.directory_of(key)?.get(key)
    }

    pub(super) fn directory_of(&self, key: &CacheKey) -> Option<&Directory> {
        self.0.get(&key.namespace)?.get(&key.path).map(Arc::as_ref)
    }

    pub(super) fn insert(&mut self, key: CacheKey, entry: Arc<Entry>) {
        let paths = self.0.entry(key.namespace.clone()).or_default();
        let directory = paths.entry(Arc::clone(&key.path)).or_default();
        Arc::make_mut(directory).insert(key, entry);
    }

    pub(super) fn remove(&mut self, key: &CacheKey) {
        let Some(paths) = self.0.get_mut(&key.namespace) else { return };
        let Some(directory) = paths.get_mut(&key.path) else { return };
        if directory.contains_key(key) {
            Arc::make_mut(directory).swap_remove(key);
        }
        if directory.is_empty() {
            paths.remove(&key.path);
        }
    }

    /// The entries of these scopes, which may overlap.
    pub(super) fn within<'a>(&self, scopes: impl IntoIterator<Item = &'a ListingScope>) -> Self {
        let mut inside = Self::default();
        for scope in scopes {
            let Some(paths) = self.0.get(&scope.namespace) else { continue };
            let path = scope.path.as_str();
            let end = if scope.recursive { Unbounded } else { Included(path) };
            let directories = paths
                .range::<str, _>((Included(path), end))
                .take_while(|(other, _)| other.starts_with(path))
                .filter(|(other, _)| scope.covers(other))
                .map(|(path, directory)| (Arc::clone(path), Arc::clone(directory)));
            inside.0.entry(scope.namespace.clone()).or_default().extend(directories);
        }
        inside
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CacheKey, &Arc<Entry>)> {
        self.0.values().flat_map(BTreeMap::values).flat_map(|directory| directory.iter())
    }

    pub(super) fn to_vec(&self) -> Vec<(CacheKey, Arc<Entry>)> {
        self.iter().map(|(key, entry)| (key.clone(), Arc::clone(entry))).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).map(|directory| directory.len()).sum()
    }
}
