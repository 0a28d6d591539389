//! The configured providers, each with the state of its health; and the workloads that name sources.

mod counters;
mod health;
mod on_change;
mod scopes;
mod workload_user;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::principal::Principal;
use crate::model::reference::Reference;
use crate::provider::{Source, configured_name};

pub(crate) use counters::ProviderCounters;
pub(crate) use health::CallError;
pub use health::Upstream;
pub(crate) use on_change::{ChangeAction, OnChange};
pub(crate) use scopes::{Call, Route};
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

/// A quadlet unit, and the sources of its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The provider's name.
    pub provider: String,
    /// The user whose podman runs it; none: root.
    pub user: Option<WorkloadUser>,
    /// The units after which its unit starts.
    pub depends_on: Vec<String>,
    /// The keys that become files in `/run/secrets` instead of variables.
    pub mount: Vec<String>,
    /// What is done when a value changed.
    pub on_change: OnChange,
    /// The directories; if two have the same key, the later one wins.
    pub sources: Vec<Source>,
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

    /// The references that `WORKLOAD--KEY` may mean to a caller, in the order of preference.
    pub fn by_name(&self, name: &str, caller: Principal) -> Vec<Reference> {
        // A workload's name and a key may contain the separator, so every split is tried.
        name.match_indices(SEPARATOR)
            .filter_map(|(at, _)| {
                Some((self.workload_of(&name[..at], caller)?, &name[at + SEPARATOR.len()..]))
            })
            .filter(|(_, key)| !key.is_empty())
            .flat_map(|(workload, key)| {
                workload.sources.iter().rev().map(move |source| {
                    let members = [
                        ("project", source.project.as_str()),
                        ("path", &source.path),
                        ("key", key),
                    ];
                    Reference::new(&workload.provider, members)
                })
            })
            .collect()
    }

    /// The caller's workload of this name. `worker` comes before `worker@`, unless it is another user's.
    fn workload_of(&self, prefix: &str, caller: Principal) -> Option<&Workload> {
        let of_caller = |name: &str| self.workloads.get(name).filter(|one| one.is_of(caller));
        of_caller(prefix).or_else(|| of_caller(&format!("{prefix}@")))
    }
}

impl Workload {
    /// Whether a caller may use it.
    pub fn is_of(&self, caller: Principal) -> bool {
        let uid = || self.user.as_ref().and_then(WorkloadUser::uid);
        match caller {
            Principal::Admin => true,
            Principal::User(caller) => uid() == Some(caller),
        }
    }
}

/// The prefix of the podman names of a workload's secrets. It omits the `@` of a template unit, which podman before
/// 4.7 does not accept in names.
pub(crate) fn prefix_of(workload: &str) -> String {
    format!("{}{SEPARATOR}", workload.strip_suffix('@').unwrap_or(workload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_source_is_preferred() {
        let source =
            |path: &str| Source { project: "p".into(), path: path.into(), recursive: false };
        let workload = |paths: &[&str]| Workload {
            provider: "infisical".into(),
            user: paths.contains(&"/c").then(|| WorkloadUser::Uid(1_000)),
            depends_on: Vec::new(),
            mount: Vec::new(),
            on_change: OnChange::default(),
            sources: paths.iter().map(|path| source(path)).collect(),
        };
        let upstreams = Upstreams {
            workloads: BTreeMap::from([
                ("app".to_owned(), workload(&["/a", "/b"])),
                ("app--two".to_owned(), workload(&["/c"])),
                ("job@".to_owned(), workload(&["/d"])),
                ("app@".to_owned(), workload(&["/c"])),
            ]),
            ..Upstreams::default()
        };
        let paths = |name| {
            let found = upstreams.by_name(name, Principal::Admin);
            found
                .iter()
                .map(|reference| reference.member("path").unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths("app--KEY"), ["/b", "/a"]);
        assert_eq!(paths("app--two--KEY"), ["/b", "/a", "/c"]);
        assert_eq!(paths("job--KEY"), ["/d"]);
        assert_eq!(paths("job@--KEY"), ["/d"]);
        for name in ["app", "app--", "other--KEY", "--KEY", ""] {
            assert!(paths(name).is_empty(), "{name}");
        }
        let of_user = |uid| upstreams.by_name("app--two--KEY", Principal::User(uid)).len();
        assert_eq!([of_user(1_000), of_user(1_001), of_user(0)], [2, 0, 0]);
        let own = upstreams.by_name("app--KEY", Principal::User(1_000));
        assert_eq!(own.len(), 1, "root's workload app does not hide the user's app@");
    }
}
