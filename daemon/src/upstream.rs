//! The configured providers, each with the state of its health; and the workloads that name sources.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::breaker::Breaker;
use crate::clock::Moment;
use crate::provider::{ProviderError, SecretProvider, Source};
use crate::reference::Reference;

/// Parts a workload's name from a key in the names that psi makes.
const SEPARATOR: &str = "--";

/// One provider and how it fares.
pub struct Upstream {
    /// Its name in the config.
    pub name: String,
    /// The provider.
    pub provider: Box<dyn SecretProvider>,
    health: Mutex<Health>,
}

/// How a provider fares.
#[derive(Default)]
pub struct Health {
    /// Whether it may be asked.
    pub breaker: Breaker,
    complaint: Option<String>,
}

/// What the config says of providers and workloads.
#[derive(Default)]
pub struct Upstreams {
    /// By name.
    pub providers: BTreeMap<String, Arc<Upstream>>,
    /// By name.
    pub workloads: BTreeMap<String, Workload>,
}

/// A quadlet unit, and the folders that its secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The provider's name.
    pub provider: String,
    /// Units that its unit is to start after.
    pub depends_on: Vec<String>,
    /// The folders; of two with one key, the later one wins.
    pub sources: Vec<Source>,
}

impl Upstream {
    /// A provider that was never asked.
    pub fn new(name: &str, provider: Box<dyn SecretProvider>) -> Self {
        Self { name: name.to_owned(), provider, health: Mutex::default() }
    }

    /// Its health.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the answer to a call that began at `began`. The log is told once when the provider
    /// goes out or comes back, and once of each new complaint.
    pub fn note<T>(&self, answer: &Result<T, ProviderError>, began: Moment, now: Moment) {
        let mut health = self.health();
        let was_out = health.breaker.outage().is_some();
        let why = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        match answer {
            Err(ProviderError::Throttled { wait, .. }) => {
                health.breaker.failed(began, now, &why, Some(*wait));
            }
            Err(ProviderError::Unreachable(_)) => health.breaker.failed(began, now, &why, None),
            Err(ProviderError::Unauthenticated(_)) => health.breaker.unasked(),
            Err(_) | Ok(_) => health.breaker.answered(),
        }
        let is_out = health.breaker.outage().is_some();
        if is_out && !was_out {
            tracing::warn!("{} is out, and what is cached is served: {why}", self.name);
        } else if was_out && !is_out {
            tracing::info!("{} is back", self.name);
        }
        let complaint = match answer {
            Ok(_) => None,
            Err(
                ProviderError::Denied(why)
                | ProviderError::Unauthenticated(why)
                | ProviderError::Misbehaved(why),
            ) => Some(why.clone()),
            Err(_) => return,
        };
        if complaint.is_some() && complaint != health.complaint {
            tracing::warn!("{} does not give what it is asked for: {why}", self.name);
        }
        health.complaint = complaint;
    }

    /// Its last answer, when that was a refusal that an admin must see to.
    pub fn complaint(&self) -> Option<String> {
        self.health().complaint.clone()
    }
}

impl Upstreams {
    /// The references that `WORKLOAD--KEY` may mean, best first.
    pub fn by_name(&self, name: &str) -> Vec<Reference> {
        // A workload's name may hold the separator, and so may a key: every split that fits counts.
        name.match_indices(SEPARATOR)
            .filter_map(|(at, _)| {
                Some((self.workloads.get(&name[..at])?, &name[at + SEPARATOR.len()..]))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_the_later_source_first() {
        let source =
            |path: &str| Source { project: "p".into(), path: path.into(), recursive: false };
        let workload = |paths: &[&str]| Workload {
            provider: "infisical".into(),
            depends_on: Vec::new(),
            sources: paths.iter().map(|path| source(path)).collect(),
        };
        let upstreams = Upstreams {
            workloads: BTreeMap::from([
                ("app".to_owned(), workload(&["/a", "/b"])),
                ("app--two".to_owned(), workload(&["/c"])),
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
        for name in ["app", "app--", "other--KEY", "--KEY", ""] {
            assert!(paths(name).is_empty(), "{name}");
        }
    }
}
