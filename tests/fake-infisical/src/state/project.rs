//! A project: environments, folders, secrets, imports and members.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::permission::Permission;
use super::secret::Secret;
use crate::clock::Millis;

/// The type of projects with secrets; the secrets API rejects others.
const SECRET_MANAGER: &str = "secret-manager";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Project {
    pub id: String,
    pub slug: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub environments: Vec<String>,
    /// By identity id. Absent: every identity is a member with all permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<BTreeMap<String, Permission>>,
    /// Environment, then folder, then key. A folder exists if it is named here.
    pub secrets: BTreeMap<String, BTreeMap<String, Folder>>,
    pub imports: Vec<Import>,
    /// Folders that other projects may refer to
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Folder {
    #[serde(flatten)]
    pub secrets: BTreeMap<String, Secret>,
    #[serde(skip)]
    pub description: Option<String>,
    #[serde(skip)]
    pub created_at: Millis,
    #[serde(skip)]
    pub touched_at: Millis,
}

/// Adds the secrets of one folder to another. The order in the list is the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    pub environment: String,
    #[serde(default = "root")]
    pub path: String,
    pub from: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub environment: String,
    #[serde(default = "root")]
    pub path: String,
}

/// Allows a project to refer to one folder of this one, as `${@slug.environment.folder.KEY}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The other project's id
    pub to: String,
    pub folder: Place,
}

impl Import {
    pub fn settled(self) -> Self {
        let from = Place { path: normal_path(&self.from.path), ..self.from };
        Self { path: normal_path(&self.path), from, ..self }
    }
}

impl Default for Project {
    fn default() -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            slug: "project".to_owned(),
            name: "Project".to_owned(),
            kind: SECRET_MANAGER.to_owned(),
            environments: Vec::new(),
            members: None,
            secrets: BTreeMap::new(),
            imports: Vec::new(),
            grants: Vec::new(),
        }
    }
}

impl Project {
    pub fn settle(&mut self, now: Millis) {
        let mentioned = self.secrets.keys().chain(
            self.imports.iter().flat_map(|import| [&import.environment, &import.from.environment]),
        );
        for environment in mentioned.cloned().collect::<Vec<_>>() {
            if !self.environments.contains(&environment) {
                self.environments.push(environment);
            }
        }
        if self.environments.is_empty() {
            self.environments = ["dev", "staging", "prod"].map(str::to_owned).to_vec();
        }
        self.imports = std::mem::take(&mut self.imports).into_iter().map(Import::settled).collect();
        for (environment, folders) in std::mem::take(&mut self.secrets) {
            for (path, mut folder) in folders {
                for secret in folder.secrets.values_mut() {
                    secret.created_at = now;
                    secret.updated_at = now;
                }
                let settled = self.make_folder(&environment, &normal_path(&path), now);
                settled.secrets.extend(folder.secrets);
            }
        }
        for environment in self.environments.clone() {
            self.make_folder(&environment, "/", now);
        }
        for import in self.imports.clone() {
            self.make_folder(&import.environment, &import.path, now);
        }
    }

    pub fn holds_secrets(&self) -> bool {
        self.kind == SECRET_MANAGER
    }

    pub fn has_environment(&self, environment: &str) -> bool {
        self.environments.iter().any(|slug| slug == environment)
    }

    /// `None` for an identity that is no member.
    pub fn permission_of(&self, identity: &str) -> Option<Permission> {
        match &self.members {
            None => Some(Permission(None)),
            Some(members) => members.get(identity).cloned(),
        }
    }

    pub fn folder(&self, environment: &str, path: &str) -> Option<&Folder> {
        self.secrets.get(environment)?.get(path)
    }

    pub fn folder_mut(&mut self, environment: &str, path: &str) -> Option<&mut Folder> {
        self.secrets.get_mut(environment)?.get_mut(path)
    }

    /// The folder, created with its parents.
    pub fn make_folder(&mut self, environment: &str, path: &str, now: Millis) -> &mut Folder {
        let folders = self.secrets.entry(environment.to_owned()).or_default();
        let born = || Folder { created_at: now, touched_at: now, ..Folder::default() };
        for ancestor in ancestors(path) {
            folders.entry(ancestor).or_insert_with(born);
        }
        folders.entry(path.to_owned()).or_insert_with(born)
    }

    /// The folder and everything below it, in path order.
    pub fn folders_within<'p>(
        &'p self,
        environment: &str,
        path: &'p str,
    ) -> impl Iterator<Item = (&'p str, &'p Folder)> {
        self.secrets
            .get(environment)
            .into_iter()
            .flatten()
            .filter(move |(candidate, _)| is_within(candidate, path))
            .map(|(path, folder)| (path.as_str(), folder))
    }

    pub fn imports_into(&self, environment: &str, path: &str) -> Vec<Place> {
        let own = |import: &&Import| import.environment == environment && import.path == path;
        self.imports.iter().filter(own).map(|import| import.from.clone()).collect()
    }

    /// Whether the folder to import has the importing one among its own imports.
    pub fn would_circle(&self, import: &Import) -> bool {
        let into = Place { environment: import.environment.clone(), path: import.path.clone() };
        let mut met = HashSet::new();
        let mut stack = vec![import.from.clone()];
        while let Some(place) = stack.pop() {
            if place == into {
                return true;
            }
            if met.insert(place.clone()) {
                stack.extend(self.imports_into(&place.environment, &place.path));
            }
        }
        false
    }

    /// Whether a folder imports itself, which the server rejects.
    pub fn circles(&self) -> bool {
        self.imports.iter().any(|import| self.would_circle(import))
    }

    pub fn grants_to(&self, project: &str, environment: &str, path: &str) -> bool {
        self.grants.iter().any(|grant| {
            let folder = &grant.folder;
            grant.to == project
                && folder.environment == environment
                && normal_path(&folder.path) == path
        })
    }

    /// A folder's id is derived from its path.
    pub fn folder_id(&self, environment: &str, path: &str) -> String {
        let place = format!("{}/{environment}{path}", self.id);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes()).to_string()
    }

    pub fn environment_id(&self, environment: &str) -> String {
        let place = format!("{}/{environment}", self.id);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes()).to_string()
    }
}

/// Absolute, without a trailing slash; the root stays `/`.
pub fn normal_path(path: &str) -> String {
    let inner = path.trim().trim_matches('/');
    format!("/{inner}")
}

/// Whether `path` is the folder `root`, or below it.
pub fn is_within(path: &str, root: &str) -> bool {
    let root = root.trim_end_matches('/');
    match path.strip_prefix(root) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// `/a/b/c` is in `/`, `/a` and `/a/b`.
fn ancestors(path: &str) -> impl Iterator<Item = String> {
    let slashes = path.match_indices('/').map(|(at, _)| at);
    slashes.map(move |at| path[..at.max(1)].to_owned())
}

fn root() -> String {
    "/".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seed_creates_parents_of_named_directories() {
        let mut project: Project = serde_json::from_value(json!({
            "secrets": {"prod": {"/a/b/": {"K": "v", "L": {"value": "w", "version": 7}}}},
            "imports": [{"environment": "prod", "path": "/a/b", "from": {"environment": "dev"}}],
        }))
        .unwrap();
        project.settle(5);
        assert_eq!(project.environments, ["prod", "dev"]);
        let paths: Vec<_> = project.folders_within("prod", "/").map(|f| f.0).collect();
        assert_eq!(paths, ["/", "/a", "/a/b"]);
        let folder = project.folder("prod", "/a/b").unwrap();
        assert_eq!(folder.secrets["K"].created_at, 5);
        assert_eq!(folder.secrets["L"].version, 7);
        assert_eq!(project.imports_into("prod", "/a/b")[0].path, "/");
    }

    #[test]
    fn directory_prefix_ends_at_a_slash() {
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a/") && is_within("/x", "/"));
        assert!(!is_within("/ab", "/a"));
    }
}
