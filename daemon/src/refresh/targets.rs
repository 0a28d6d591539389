//! The targets of refreshes: the workloads' sources first, then the directories of other registered references.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::schedule::{PlannedTarget, TargetKey};
use crate::cache::Cache;
use crate::lookup::Service;
use crate::model::clock::BootInstant;
use crate::model::principal::Principal;
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::Source;
use crate::provider::upstream::Upstream;

/// A source, its provider, and its wanted secrets.
pub(super) struct PullTarget {
    pub(super) upstream: Arc<Upstream>,
    pub(super) source: Source,
    pub(super) key: TargetKey,
    /// For messages.
    pub(super) name: String,
    /// The wanted secrets; `None`: all of them, for a workload that selects none.
    pub(super) wanted: Option<HashSet<CacheKey>>,
}

/// The secrets that the workloads of the config take.
#[derive(Default)]
pub(super) struct WorkloadSecrets {
    /// The sources of which a workload takes everything.
    scopes: Vec<ListingScope>,
    selected: HashSet<CacheKey>,
}

impl WorkloadSecrets {
    /// Those of all workloads.
    pub(super) fn of(service: &Service) -> Self {
        let mut all = Self::default();
        for pull in of_workloads(service) {
            match pull.wanted {
                Some(wanted) => all.selected.extend(wanted),
                None => all.scopes.push(pull.key.1),
            }
        }
        all
    }

    pub(super) fn contains(&self, key: &CacheKey) -> bool {
        self.selected.contains(key) || self.scopes.iter().any(|scope| scope.contains(key))
    }
}

/// All targets.
pub(super) fn plan(service: &Service) -> Vec<PullTarget> {
    let mut pulls = of_workloads(service);
    let others = of_registered(service, &mut pulls);
    pulls.extend(others);
    pulls
}

/// Those of the targets that are sources of the workloads that name a user.
pub(super) fn of_user(service: &Service, targets: Vec<PullTarget>, uid: u32) -> Vec<PullTarget> {
    let upstreams = service.upstreams();
    let mut keys = BTreeSet::new();
    for (_, workload) in upstreams.workloads_of(Principal::User(uid)) {
        let Some(upstream) = upstreams.providers.get(&workload.provider) else { continue };
        let scopes = workload.sources.iter().map(|source| upstream.provider.scope_of(source));
        keys.extend(scopes.flatten().map(|scope| (workload.provider.clone(), scope)));
    }
    targets.into_iter().filter(|target| keys.contains(&target.key)).collect()
}

fn of_workloads(service: &Service) -> Vec<PullTarget> {
    let upstreams = service.upstreams();
    let mut pulls: Vec<PullTarget> = Vec::new();
    let mut places: BTreeMap<TargetKey, usize> = BTreeMap::new();
    for workload in upstreams.workloads.values() {
        let Some(upstream) = upstreams.providers.get(&workload.provider) else { continue };
        for source in &workload.sources {
            let Ok(scope) = upstream.provider.scope_of(source) else { continue };
            let wanted = source.selected_in(&scope);
            let place =
                *places.entry((workload.provider.clone(), scope.clone())).or_insert(pulls.len());
            match pulls.get_mut(place) {
                Some(pull) => pull.widen(wanted),
                None => pulls.push(PullTarget::new(upstream, source.source.clone(), scope, wanted)),
            }
        }
    }
    pulls
}

/// The directories of registered references that no workload takes. A reference beside the selected keys of a workload is
/// pulled with them.
fn of_registered(service: &Service, workloads: &mut [PullTarget]) -> Vec<PullTarget> {
    let upstreams = service.upstreams();
    let mut directories: BTreeMap<(String, Source), HashSet<CacheKey>> = BTreeMap::new();
    for (_, reference, key) in service.references() {
        let mut around = workloads.iter_mut().filter(|pull| pull.scope().contains(&key)).peekable();
        if around.peek().is_some() {
            around.for_each(|pull| pull.widen(Some(HashSet::from([key.clone()]))));
            continue;
        }
        let Some(project) = reference.member("project") else { continue };
        let source =
            Source { project: project.to_owned(), path: key.path.to_string(), recursive: false };
        directories.entry((reference.provider().to_owned(), source)).or_default().insert(key);
    }
    let mut pulls: Vec<PullTarget> = Vec::new();
    for ((provider, source), wanted) in directories {
        let Some(upstream) = upstreams.provider(&provider) else { continue };
        let Ok(scope) = upstream.provider.scope_of(&source) else { continue };
        // Two names of the config may mean one project: that is one directory, and one request.
        let same = |pull: &&mut PullTarget| *pull.scope() == scope && pull.key.0 == provider;
        let others = pulls.iter_mut().find(same).and_then(|pull| pull.wanted.as_mut());
        match others {
            Some(others) => others.extend(wanted),
            None => {
                pulls.push(PullTarget::new(upstream, source, scope, Some(wanted)));
            }
        }
    }
    pulls
}

impl PullTarget {
    fn new(
        upstream: &Arc<Upstream>,
        source: Source,
        scope: ListingScope,
        wanted: Option<HashSet<CacheKey>>,
    ) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            name: source.to_string(),
            source,
            key: (upstream.name.clone(), scope),
            wanted,
        }
    }

    /// Wants more secrets; `None`: all.
    fn widen(&mut self, more: Option<HashSet<CacheKey>>) {
        match (&mut self.wanted, more) {
            (Some(wanted), Some(more)) => wanted.extend(more),
            (wanted, None) => *wanted = None,
            (None, Some(_)) => {}
        }
    }

    pub(super) fn scope(&self) -> &ListingScope {
        &self.key.1
    }

    pub(super) fn planned(&self) -> PlannedTarget<'_> {
        PlannedTarget { key: &self.key, name: &self.name, wanted: self.wanted.as_ref() }
    }

    /// When the oldest of its wanted secrets was fetched; `None` if one is missing, or a time is unknown.
    pub(super) fn oldest_fetch(&self, cache: &Cache) -> Option<BootInstant> {
        let Some(wanted) = &self.wanted else { return cache.oldest_fetch(self.scope()) };
        let fetched: Option<Vec<_>> = wanted.iter().map(|key| cache.fetched(key)).collect();
        fetched?.into_iter().min()
    }

    /// Its directories of which something is registered, for a provider that must be asked for each.
    pub(super) fn directories(&self, service: &Service) -> BTreeSet<String> {
        if !self.scope().recursive {
            return BTreeSet::new();
        }
        let registered = service.references().map(|(_, _, key)| key);
        registered
            .filter(|key| self.scope().contains(key))
            .map(|key| key.path.to_string())
            .collect()
    }
}
