//! A workload of the config: the sources of its secrets, and what it takes of each.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;

use super::on_change::OnChange;
use super::workload_user::WorkloadUser;
use crate::model::principal::Principal;
use crate::model::reference::{CacheKey, ListingScope, Reference};
use crate::provider::Source;

/// A quadlet unit, and the sources of its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The provider's name.
    pub provider: String,
    /// The user whose podman runs it; none: root.
    pub user: Option<WorkloadUser>,
    /// The units after which its unit starts.
    pub depends_on: Vec<String>,
    /// What is done when a value changed.
    pub on_change: OnChange,
    /// The keys that become files instead of variables.
    pub mount: Vec<Mount>,
    /// The directories; if two have the same variable, the later one wins.
    pub sources: Vec<WorkloadSource>,
    /// Whether it has one secret more, named like it, which holds all of it for `podman kube play`.
    pub kube: bool,
}

/// A key that becomes a file of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// The key, which also names its podman secret.
    pub key: String,
    /// The file's owner; none: root.
    pub uid: Option<u32>,
    /// The file's group; none: root.
    pub gid: Option<u32>,
    /// The file's permissions; none: podman's, 0444.
    pub mode: Option<u32>,
    /// The file, absolute or below `/run/secrets`; none: the key.
    pub target: Option<String>,
}

/// A source, and the keys that the workload takes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadSource {
    /// The directory.
    pub source: Source,
    /// The keys by variable; none: each key, as the variable of its name.
    pub selected: Option<BTreeMap<String, String>>,
}

impl From<Source> for WorkloadSource {
    fn from(source: Source) -> Self {
        Self { source, selected: None }
    }
}

impl Deref for WorkloadSource {
    type Target = Source;

    fn deref(&self) -> &Source {
        &self.source
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

    /// The file that a variable or key becomes; none: a variable of the container.
    pub fn mount_of(&self, variable: &str) -> Option<&Mount> {
        self.mount.iter().find(|mount| mount.key == variable)
    }

    /// The references that a variable may mean, in the order of preference. A source that selects the variable is
    /// certain to have it, so that no earlier one is asked in its place.
    pub fn references(&self, variable: &str) -> Vec<Reference> {
        let mut references = Vec::new();
        for source in self.sources.iter().rev() {
            let Some(key) = source.key_of(variable) else { continue };
            references.push(self.reference(source, &source.path, key));
            if source.selected.is_some() {
                break;
            }
        }
        references
    }

    /// The reference to a key in a directory of a source.
    pub fn reference(&self, source: &Source, path: &str, key: &str) -> Reference {
        let members = [("project", source.project.as_str()), ("path", path), ("key", key)];
        Reference::new(&self.provider, members)
    }
}

impl WorkloadSource {
    /// The key that a variable means here; none: the workload has no such variable from here.
    pub fn key_of<'a>(&'a self, variable: &'a str) -> Option<&'a str> {
        match &self.selected {
            Some(selected) => selected.get(variable).map(String::as_str),
            None => Some(variable),
        }
    }

    /// The variables that a key becomes.
    pub fn variables_of<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        match &self.selected {
            Some(selected) => {
                let all = selected.iter().filter(|(_, selected)| selected.as_str() == key);
                all.map(|(variable, _)| variable.as_str()).collect()
            }
            None => vec![key],
        }
    }

    /// The selected keys in its scope; none: each key.
    pub fn selected_in(&self, scope: &ListingScope) -> Option<HashSet<CacheKey>> {
        let keys = self.selected.as_ref()?.values();
        Some(
            keys.map(|key| CacheKey::new(scope.namespace.clone(), &*scope.path, key.as_str()))
                .collect(),
        )
    }

    /// Whether the workload takes a key.
    pub fn takes(&self, key: &str) -> bool {
        !self.variables_of(key).is_empty()
    }
}
