//! Imports: the secrets of other folders in a folder's listing.

use std::collections::HashSet;

use super::expand::Nearby;
use super::{Access, Found};
use crate::state::permission::Action;
use crate::state::project::Place;

const DEEPEST: usize = 10;

/// An entry of `imports`. The imports of its folder are flattened into it.
pub struct Imported<'w> {
    pub place: Place,
    /// Missing for an import of a folder that does not exist
    pub folder_id: Option<String>,
    pub secrets: Vec<Found<'w>>,
}

/// The options of reading imports.
#[derive(Clone, Copy)]
pub struct ImportReading {
    /// The permissions without which an import is empty
    pub needs: &'static [Action],
    pub view_values: bool,
    /// By name: relative to each import itself
    pub expand: bool,
}

struct Level {
    places: Vec<Place>,
    depth: usize,
    /// The entry that collects this level; the first level makes its own entries
    into: Option<usize>,
}

impl<'w> Access<'w> {
    /// Follows imports to a depth of ten. A visited folder is not visited again, which also ends
    /// cycles.
    pub fn imported(&self, places: Vec<Place>, reading: ImportReading) -> Vec<Imported<'w>> {
        let mut entries: Vec<Imported<'w>> = Vec::new();
        let mut met = HashSet::new();
        let mut stack = vec![Level { places, depth: 0, into: None }];
        while let Some(level) = stack.pop() {
            if level.depth > DEEPEST {
                continue;
            }
            let fresh = self.fresh(level.places, &mut met);
            let exists = |place: &Place| self.exists(place);
            if !fresh.iter().any(exists) {
                continue;
            }
            for place in fresh {
                let secrets = self.secrets_at(&place, reading);
                let into = match level.into {
                    Some(entry) => {
                        entries[entry].secrets.extend(secrets);
                        entry
                    }
                    None => {
                        entries.push(self.entry(place.clone(), secrets));
                        entries.len() - 1
                    }
                };
                stack.push(Level {
                    places: self.project.imports_into(&place.environment, &place.path),
                    depth: level.depth + 1,
                    into: Some(into),
                });
            }
        }
        for entry in &mut entries {
            let mut keys = HashSet::new();
            entry.secrets.retain(|found| keys.insert(found.key));
            if reading.expand {
                self.expand_entry(entry);
            }
        }
        entries
    }

    fn fresh(&self, places: Vec<Place>, met: &mut HashSet<Place>) -> Vec<Place> {
        let mut fresh = Vec::new();
        for place in places {
            if met.insert(place.clone()) {
                fresh.push(place);
            }
        }
        fresh
    }

    fn exists(&self, place: &Place) -> bool {
        self.project.folder(&place.environment, &place.path).is_some()
    }

    /// `None` if the identity lacks a permission.
    fn secrets_at(&self, place: &Place, reading: ImportReading) -> Vec<Found<'w>> {
        let permitted =
            reading.needs.iter().all(|action| self.may(*action, &place.environment, &place.path));
        if !permitted {
            return Vec::new();
        }
        let folder = self.project.folder(&place.environment, &place.path);
        let secrets = folder.into_iter().flat_map(|folder| &folder.secrets);
        let hidden = !reading.view_values;
        secrets
            .map(|(key, secret)| Found::new(&place.environment, &place.path, key, secret, hidden))
            .collect()
    }

    fn entry(&self, place: Place, secrets: Vec<Found<'w>>) -> Imported<'w> {
        let folder_id =
            self.exists(&place).then(|| self.project.folder_id(&place.environment, &place.path));
        Imported { place, folder_id, secrets }
    }

    /// Relative to the entry; an unreadable reference is kept as text, without an error.
    fn expand_entry(&self, entry: &mut Imported<'w>) {
        for found in entry.secrets.iter_mut().filter(|found| !found.hidden) {
            let place = (entry.place.environment.as_str(), entry.place.path.as_str());
            if let Ok(value) = self.expand(place, found.key, found.secret, &Nearby::default()) {
                found.value = value;
            }
        }
    }

    /// Relative to the listed folder, whose imports these are.
    pub fn expand_near(&self, entry: &mut Imported<'w>, nearby: &Nearby<'w>) {
        for found in entry.secrets.iter_mut().filter(|found| !found.hidden) {
            let place = (found.environment.as_str(), found.path.as_str());
            if let Ok(value) = self.expand(place, found.key, found.secret, nearby) {
                found.value = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Unresolved;
    use crate::state::State;
    use crate::state::permission::{Permission, Rule};
    use crate::state::project::Project;
    use serde_json::{Value, json};

    const READ: &[Action] = &[Action::Describe, Action::ReadValue];

    fn project(imports: Value, secrets: Value) -> Project {
        let mut project: Project =
            serde_json::from_value(json!({"secrets": secrets, "imports": imports})).unwrap();
        project.settle(0);
        project
    }

    fn import(into: &str, from: &str) -> Value {
        json!({"environment": "prod", "path": into, "from": {"environment": "prod", "path": from}})
    }

    fn keys(project: &Project, permission: &Permission) -> Vec<(String, Vec<String>)> {
        let state = State::default();
        let access = Access {
            state: &state,
            project,
            permission,
            hidden_values: false,
            unresolved: Unresolved::Empty,
        };
        let reading = ImportReading { needs: READ, view_values: true, expand: true };
        access
            .imported(project.imports_into("prod", "/app"), reading)
            .into_iter()
            .map(|entry| {
                let keys = entry.secrets.iter().map(|found| found.key.to_owned());
                (entry.place.path, keys.collect())
            })
            .collect()
    }

    #[test]
    fn nested_imports_are_flattened_and_cycles_end() {
        let project = project(
            json!([
                import("/app", "/one"),
                import("/app", "/two"),
                import("/one", "/deep"),
                import("/deep", "/deeper"),
                import("/deeper", "/one"),
            ]),
            json!({"prod": {"/app": {}, "/one": {"A": "1"}, "/two": {"A": "2"},
                            "/deep": {"B": "3"}, "/deeper": {"C": "4"}}}),
        );
        assert_eq!(
            keys(&project, &Permission(None)),
            [
                ("/one".to_owned(), vec!["A".into(), "B".into(), "C".into()]),
                ("/two".to_owned(), vec!["A".into()]),
            ]
        );
    }

    #[test]
    fn import_chain_ends_at_depth_ten() {
        let chain: Vec<_> = (0..20)
            .map(|n| import(&format!("/f{n}"), &format!("/f{}", n + 1)))
            .chain([import("/app", "/f0")])
            .collect();
        let folders: serde_json::Map<_, _> =
            (0..=20).map(|n| (format!("/f{n}"), json!({format!("K{n}"): "v"}))).collect();
        let project = project(json!(chain), json!({"prod": folders}));
        let seen = keys(&project, &Permission(None));
        assert_eq!(seen[0].1.len(), 1 + DEEPEST);
    }

    #[test]
    fn unreadable_and_missing_imports_have_no_secrets() {
        let project = project(
            json!([import("/app", "/closed"), import("/app", "/open"), import("/app", "/missing")]),
            json!({"prod": {"/app": {}, "/closed": {"A": "1"}, "/open": {"B": "2"}}}),
        );
        let open_only =
            Permission(Some(vec![Rule { path_prefix: "/open".to_owned(), ..Rule::default() }]));
        assert_eq!(
            keys(&project, &open_only),
            [
                ("/closed".to_owned(), vec![]),
                ("/open".to_owned(), vec!["B".into()]),
                ("/missing".to_owned(), vec![]),
            ]
        );
        let everything = keys(&project, &Permission(None));
        assert_eq!(everything[2], ("/missing".to_owned(), vec![]));
    }
}
