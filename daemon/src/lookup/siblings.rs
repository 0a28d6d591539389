//! The other secrets of a fetched secret's directory, which a response may contain: the next lookups are for them.

use std::collections::HashSet;

use psi_common::SecretBytes;

use super::Service;
use crate::cache::{Cache, FetchEpoch, ReconcileOptions};
use crate::model::clock::Now;
use crate::model::reference::{CacheKey, Listing};

/// The secrets of a directory to keep.
pub(super) struct Siblings {
    /// All of them, for a workload that selects none.
    all: bool,
    /// Those that a workload selects, and registered ones.
    named: HashSet<CacheKey>,
}

impl Service {
    /// The secrets beside one that a workload or a registration names.
    pub(super) fn siblings(&self, key: &CacheKey) -> Siblings {
        let upstreams = self.upstreams();
        let is_beside =
            |other: &CacheKey| other.namespace == key.namespace && other.path == key.path;
        let others = self.references().map(|(_, _, other)| other);
        let mut siblings = Siblings { all: false, named: others.filter(is_beside).collect() };
        for workload in upstreams.workloads.values() {
            let Some(upstream) = upstreams.providers.get(&workload.provider) else { continue };
            for source in &workload.sources {
                let scope = upstream.provider.scope_of(source);
                let Some(scope) = scope.ok().filter(|scope| scope.contains(key)) else { continue };
                match source.selected_in(&scope) {
                    Some(selected) => siblings.named.extend(selected),
                    None => siblings.all = true,
                }
            }
        }
        siblings
    }
}

impl Siblings {
    /// Caches the wanted ones. A value that was fetched since `began` is newer than these.
    pub(super) fn keep(
        &self,
        cache: &Cache,
        beside: Vec<(CacheKey, SecretBytes)>,
        (began, now): (Now, Now),
        epoch: FetchEpoch,
    ) {
        let wanted = |key: &CacheKey| self.all || self.named.contains(key);
        let options = ReconcileOptions { epoch, began, now, accept: false, wanted: &wanted };
        cache.reconcile(Listing { found: beside, ..Listing::default() }, &options);
    }
}
