//! The configured providers, each with the state of its health; and the workloads that name sources.

mod counters;
mod health;
mod scopes;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::reference::Reference;
use crate::provider::{Source, configured_name};

pub(crate) use counters::ProviderCounters;
pub(crate) use health::CallError;
pub use health::Upstream;
pub(crate) use scopes::{Call, Route};

/// Separates the workload's name from the key in the podman names of secrets.
const SEPARATOR: &str = "--";

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
    /// The units after which its unit starts.
    pub depends_on: Vec<String>,
    /// The keys that become files in `/run/secrets` instead of variables.
    pub mount: Vec<String>,
    /// The directories; if two have the same key, the later one wins.
    pub sources: Vec<Source>,
}

impl Upstreams {
    /// The provider that a reference names.
    pub fn provider(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.providers.get(configured_name(name))
    }

    /// The references that `WORKLOAD--KEY` may mean, in the order of preference.
    pub fn by_name(&self, name: &str) -> Vec<Reference> {
        // A workload's name and a key may contain the separator, so every split is tried.
        name.match_indices(SEPARATOR)
            .filter_map(|(at, _)| {
                Some((self.workload_of(&name[..at])?, &name[at + SEPARATOR.len()..]))
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

    fn workload_of(&self, prefix: &str) -> Option<&Workload> {
        self.workloads.get(prefix).or_else(|| self.workloads.get(&format!("{prefix}@")))
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
            depends_on: Vec::new(),
            mount: Vec::new(),
            sources: paths.iter().map(|path| source(path)).collect(),
        };
        let upstreams = Upstreams {
            workloads: BTreeMap::from([
                ("app".to_owned(), workload(&["/a", "/b"])),
                ("app--two".to_owned(), workload(&["/c"])),
                ("job@".to_owned(), workload(&["/d"])),
            ]),
            ..Upstreams::default()
        };
        let paths = |name| {
            let found = upstreams.by_name(name);
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
    }
}
