//! The configured providers, each with the state of its health; and the workloads that name sources.

mod counters;
mod health;
mod on_change;
mod scopes;
mod workload;
mod workload_user;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::principal::Principal;
use crate::model::reference::Reference;
use crate::provider::configured_name;

pub(crate) use counters::ProviderCounters;
pub(crate) use health::CallError;
pub use health::Upstream;
pub(crate) use on_change::{ChangeAction, OnChange};
pub(crate) use scopes::{Call, Route};
pub(crate) use workload::{Mount, Workload, WorkloadSource};
pub(crate) use workload_user::WorkloadUser;

/// Separates the workload's name from the key in the podman names of secrets.
pub(crate) const SEPARATOR: &str = "--";

/// The providers and the workloads of the config.
#[derive(Default)]
pub struct Upstreams {
    /// By name.
    pub providers: BTreeMap<String, Arc<Upstream>>,
    /// By name.
    pub workloads: BTreeMap<String, Workload>,
}

impl Upstreams {
    /// The provider that a reference names.
    pub fn provider(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.providers.get(configured_name(name))
    }

    /// The workloads of a caller, by name: all of them, or those that name its user.
    pub fn workloads_of(&self, caller: Principal) -> impl Iterator<Item = (&String, &Workload)> {
        self.workloads.iter().filter(move |(_, workload)| workload.is_of(caller))
    }

    /// The references that `WORKLOAD--VARIABLE` may mean to a caller, in the order of preference.
    pub fn by_name(&self, name: &str, caller: Principal) -> Vec<Reference> {
        // A workload's name and a variable may contain the separator, so every split is tried.
        name.match_indices(SEPARATOR)
            .filter_map(|(at, _)| {
                Some((self.workload_of(&name[..at], caller)?, &name[at + SEPARATOR.len()..]))
            })
            .filter(|(_, variable)| !variable.is_empty())
            .flat_map(|(workload, variable)| workload.references(variable))
            .collect()
    }

    /// The caller's workload of this name. `worker` comes before `worker@`, unless it is another user's.
    fn workload_of(&self, prefix: &str, caller: Principal) -> Option<&Workload> {
        let of_caller = |name: &str| self.workloads.get(name).filter(|one| one.is_of(caller));
        of_caller(prefix).or_else(|| of_caller(&format!("{prefix}@")))
    }
}

/// The podman name of the secret that holds all of a workload.
pub(crate) fn kube_name_of(workload: &str) -> &str {
    workload.strip_suffix('@').unwrap_or(workload)
}

/// The prefix of the podman names of a workload's secrets. It omits the `@` of a template unit, which podman before
/// 4.7 does not accept in names.
pub(crate) fn prefix_of(workload: &str) -> String {
    format!("{}{SEPARATOR}", kube_name_of(workload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Source;

    fn source(path: &str, selected: &[(&str, &str)]) -> WorkloadSource {
        let source = Source { project: "p".into(), path: path.into(), recursive: false };
        let selected = selected.iter().map(|(variable, key)| ((*variable).into(), (*key).into()));
        let selected: BTreeMap<String, String> = selected.collect();
        WorkloadSource { source, selected: (!selected.is_empty()).then_some(selected) }
    }

    fn upstreams(workloads: &[(&str, &[WorkloadSource])]) -> Upstreams {
        let workload = |(name, sources): &(&str, &[WorkloadSource])| {
            let workload = Workload {
                provider: "infisical".into(),
                user: (name.contains("two") || *name == "web@").then(|| WorkloadUser::Uid(1_000)),
                sources: sources.to_vec(),
                ..Workload::default()
            };
            ((*name).to_owned(), workload)
        };
        Upstreams { workloads: workloads.iter().map(workload).collect(), ..Upstreams::default() }
    }

    /// The paths and keys that a name means to an admin.
    fn places(upstreams: &Upstreams, name: &str) -> Vec<String> {
        let found = upstreams.by_name(name, Principal::Admin).into_iter();
        let member = |one: &Reference, name| one.member(name).unwrap().to_owned();
        found.map(|one| format!("{} {}", member(&one, "path"), member(&one, "key"))).collect()
    }

    #[test]
    fn later_source_is_preferred() {
        let upstreams = upstreams(&[
            ("app", &[source("/a", &[]), source("/b", &[])]),
            ("app--two", &[source("/c", &[])]),
            ("job@", &[source("/d", &[])]),
            ("web", &[source("/e", &[])]),
            ("web@", &[source("/two", &[])]),
        ]);
        assert_eq!(places(&upstreams, "app--K"), ["/b K", "/a K"]);
        assert_eq!(places(&upstreams, "app--two--K"), ["/b two--K", "/a two--K", "/c K"]);
        assert_eq!(places(&upstreams, "job--K"), ["/d K"]);
        assert_eq!(places(&upstreams, "job@--K"), ["/d K"]);
        for name in ["app", "app--", "other--K", "--K", ""] {
            assert!(places(&upstreams, name).is_empty(), "{name}");
        }
        let of_user = |uid| upstreams.by_name("app--two--K", Principal::User(uid)).len();
        assert_eq!([of_user(1_000), of_user(1_001), of_user(0)], [1, 0, 0]);
        let own = upstreams.by_name("web--K", Principal::User(1_000));
        assert_eq!(own.len(), 1, "root's workload web does not hide the user's web@");
    }

    #[test]
    fn source_that_selects_a_variable_is_the_only_one_before_it() {
        let selecting = source("/b", &[("URL", "K"), ("OTHER", "K"), ("K2", "K2")]);
        let upstreams = upstreams(&[
            ("app", &[source("/a", &[]), selecting.clone()]),
            ("web", &[selecting, source("/a", &[])]),
        ]);
        assert_eq!(places(&upstreams, "app--URL"), ["/b K"]);
        assert_eq!(places(&upstreams, "app--OTHER"), ["/b K"]);
        assert_eq!(places(&upstreams, "app--K2"), ["/b K2"]);
        // The key itself is no variable of this source.
        assert_eq!(places(&upstreams, "app--K"), ["/a K"]);
        assert_eq!(places(&upstreams, "web--URL"), ["/a URL", "/b K"]);
        assert_eq!(places(&upstreams, "web--K"), ["/a K"]);
    }
}
