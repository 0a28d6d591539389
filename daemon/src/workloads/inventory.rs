//! Every registration with its workloads and the age of its value.

use psi_common::SecretId;

use crate::lookup::{NamedRegistration, Service, ServiceError, kube};
use crate::model::clock::Timestamp;
use crate::model::principal::Principal;
use crate::model::reference::{CacheKey, ListingScope, Reference};
use crate::provider::upstream::{Workload, WorkloadSource, prefix_of};
use crate::registry::Registered;

/// A registration, and what psid knows of its value.
pub(crate) struct InventoryItem {
    pub(crate) registration: NamedRegistration,
    /// The workloads of the config that have it, by name.
    pub(crate) workloads: Vec<String>,
    /// When the provider returned the value, or the literal was stored; none without a value.
    pub(crate) fetched_at: Option<Timestamp>,
    /// When the value was first seen.
    pub(crate) changed_at: Option<Timestamp>,
}

/// The sources of a workload.
struct Sources {
    workload: String,
    prefix: String,
    scopes: Vec<(ListingScope, WorkloadSource)>,
}

/// A caller's registrations, sorted by id. It reads the times of literals from the disk.
pub(crate) fn inventory(
    service: &Service,
    caller: Principal,
) -> Result<Vec<InventoryItem>, ServiceError> {
    let sources = sources(service, caller);
    let registrations = service.registrations(caller)?.into_iter();
    Ok(registrations.map(|registration| item(service, registration, &sources)).collect())
}

fn sources(service: &Service, caller: Principal) -> Vec<Sources> {
    let upstreams = service.upstreams();
    let of_workload = |(name, workload): (&String, &Workload)| {
        let upstream = upstreams.providers.get(&workload.provider);
        let scope = |source: &WorkloadSource| {
            Some((upstream?.provider.scope_of(source).ok()?, source.clone()))
        };
        Sources {
            workload: name.clone(),
            prefix: prefix_of(name),
            scopes: workload.sources.iter().filter_map(scope).collect(),
        }
    };
    upstreams.workloads_of(caller).map(of_workload).collect()
}

fn item(service: &Service, registration: NamedRegistration, sources: &[Sources]) -> InventoryItem {
    let stored_at = |id: SecretId| service.registry().stored_at(id);
    let (workloads, fetched_at, changed_at) = match &registration.registered {
        Registered::Reference(reference) if kube::workload_of(reference).is_some() => {
            of_document(service, reference, sources)
        }
        Registered::Reference(reference) => match service.resolve_key(reference) {
            Some(key) => {
                let entry = service.cache().entry(&key);
                let fetched_at = entry.as_ref().map(|entry| entry.fetched_at());
                let changed_at = entry.as_ref().map(|entry| entry.changed_at());
                (workloads_of(sources, &key, &registration.podman.name), fetched_at, changed_at)
            }
            None => (Vec::new(), None, None),
        },
        Registered::Literal(_) => {
            let stored_at = stored_at(registration.id);
            (Vec::new(), stored_at, stored_at)
        }
        Registered::Invalid(_) | Registered::Unreadable(_) => (Vec::new(), None, None),
    };
    InventoryItem { registration, workloads, fetched_at, changed_at }
}

/// The workload of a document, and the times of its oldest and of its newest part.
fn of_document(
    service: &Service,
    reference: &Reference,
    sources: &[Sources],
) -> (Vec<String>, Option<Timestamp>, Option<Timestamp>) {
    let Some(keys) = service.document_keys(reference) else { return (Vec::new(), None, None) };
    let workload = kube::workload_of(reference).unwrap_or_default();
    let workloads = sources.iter().filter(|one| one.workload == workload);
    let entries: Option<Vec<_>> = keys.iter().map(|key| service.cache().entry(key)).collect();
    let entries = entries.unwrap_or_default();
    (
        workloads.map(|one| one.workload.clone()).collect(),
        entries.iter().map(|entry| entry.fetched_at()).min(),
        entries.iter().map(|entry| entry.changed_at()).max(),
    )
}

/// The workload whose prefix the podman name has; if none, all that take the key.
fn workloads_of(sources: &[Sources], key: &CacheKey, name: &str) -> Vec<String> {
    let takes = |(scope, source): &(ListingScope, WorkloadSource)| {
        scope.contains(key) && source.takes(&key.key)
    };
    let is_listed = |one: &&Sources| one.scopes.iter().any(takes);
    let listed: Vec<&Sources> = sources.iter().filter(is_listed).collect();
    let named: Vec<&Sources> =
        listed.iter().copied().filter(|one| name.starts_with(&one.prefix)).collect();
    let all = if named.is_empty() { listed } else { named };
    all.into_iter().map(|one| one.workload.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reference::Namespace;
    use crate::provider::Source;

    #[test]
    fn workload_is_the_one_of_the_name_or_each_that_lists_the_key() {
        let namespace = Namespace::new(&["p"]);
        let scope = |path: &str| {
            let scope =
                ListingScope { namespace: namespace.clone(), path: path.into(), recursive: false };
            let source = Source { project: "p".into(), path: path.into(), recursive: false };
            let selected = [("URL", "U")].map(|(variable, key)| (variable.into(), key.into()));
            let selected = (path == "/picked").then(|| selected.into());
            (scope, WorkloadSource { source, selected })
        };
        let of = |workload: &str, paths: &[&str]| Sources {
            workload: workload.into(),
            prefix: prefix_of(workload),
            scopes: paths.iter().map(|path| scope(path)).collect(),
        };
        let sources =
            [of("app", &["/app", "/shared", "/picked"]), of("web@", &["/web", "/shared"])];
        let workloads = |path: &str, name: &str| {
            let key = CacheKey::new(namespace.clone(), path, "K");
            workloads_of(&sources, &key, name).join(" ")
        };
        assert_eq!(workloads("/shared", "web--K"), "web@");
        assert_eq!(workloads("/shared", "app--K"), "app");
        assert_eq!(workloads("/shared", "by_hand"), "app web@");
        assert_eq!(workloads("/shared", ""), "app web@");
        assert_eq!(workloads("/app", "web--K"), "app");
        assert_eq!(workloads("/other", "app--K"), "");
        assert_eq!(workloads("/picked", "app--K"), "");
        let picked = CacheKey::new(namespace.clone(), "/picked", "U");
        assert_eq!(workloads_of(&sources, &picked, "app--URL"), ["app"]);
    }
}
