//! References: `${KEY}` nearby, `${env.folder.KEY}` anywhere in the project,
//! `${@slug.env.folder.KEY}` in another project that grants its folder.

use std::collections::{HashMap, HashSet};

use super::{Access, Found};
use crate::settings::Unresolved;
use crate::state::permission::Action;
use crate::state::project::Project;
use crate::state::secret::Secret;

/// The depth to which references are followed, and the number of rescans of the result.
const DEEPEST: usize = 10;

/// A secret's place, by a reference.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    /// Another project's slug
    project: Option<String>,
    environment: String,
    path: String,
    key: String,
}

/// The meanings of `${KEY}` beyond the secrets of the same folder: the place of each key. In v4's
/// listing these are the listed folder and its imports; for a get by name there are none.
#[derive(Default)]
pub struct Nearby<'w> {
    keys: HashMap<&'w str, (String, String)>,
}

impl<'w> Nearby<'w> {
    /// An existing key is kept.
    pub fn add(&mut self, found: &Found<'w>) {
        let place = || (found.environment.clone(), found.path.clone());
        self.keys.entry(found.key).or_insert_with(place);
    }
}

struct Frame {
    value: String,
    at: Target,
    /// Whether `at` is the start of the expansion, or near it
    near: bool,
    depth: usize,
    visited: HashSet<Target>,
}

/// One expansion, with its start and the secrets near it.
struct Expansion<'a, 'w> {
    access: &'a Access<'w>,
    nearby: &'a Nearby<'w>,
    root: Target,
    expanded: String,
    stack: Vec<Frame>,
    /// A chain was longer than the server follows: its rest is kept as text
    cut: bool,
}

impl Access<'_> {
    /// The value with its references replaced; an unreadable one is the error.
    pub fn expand(
        &self,
        place: (&str, &str),
        key: &str,
        secret: &Secret,
        nearby: &Nearby<'_>,
    ) -> Result<String, String> {
        let value = secret.value.as_str();
        if references(value).is_empty() {
            return Ok(value.to_owned());
        }
        let root = Target {
            project: None,
            environment: place.0.to_owned(),
            path: place.1.to_owned(),
            key: key.to_owned(),
        };
        if !self.readable(&root) {
            return Err(format!("You do not have permission to read {root}."));
        }
        let expansion = Expansion {
            access: self,
            nearby,
            root,
            expanded: value.to_owned(),
            stack: Vec::new(),
            cut: false,
        };
        let expanded = expansion.run()?;
        Ok(if secret.skip_multiline_encoding { quote_lines(expanded) } else { expanded })
    }

    fn readable(&self, target: &Target) -> bool {
        target.project.is_some() || self.may(Action::ReadValue, &target.environment, &target.path)
    }

    fn secret_at(&self, target: &Target) -> Option<&Secret> {
        let Target { environment, path, key, .. } = target;
        let project = match &target.project {
            None => self.project,
            Some(slug) => self.granting(slug, environment, path)?,
        };
        project.folder(environment, path)?.secrets.get(key)
    }

    fn granting(&self, slug: &str, environment: &str, path: &str) -> Option<&Project> {
        let project = self.state.project_by_slug(slug)?;
        project.grants_to(&self.project.id, environment, path).then_some(project)
    }
}

impl Expansion<'_, '_> {
    fn run(mut self) -> Result<String, String> {
        let mut seen = references(&self.expanded);
        let mut passes = 0;
        self.begin();
        while let Some(current) = self.stack.pop() {
            self.substitute(&current)?;
            if self.stack.is_empty() && passes < DEEPEST && !self.cut {
                // A replacement may have composed a new reference: ${dev.${NAME}.KEY}
                let now = references(&self.expanded);
                if now.iter().any(|reference| !seen.contains(reference)) {
                    seen = now;
                    passes += 1;
                    self.begin();
                }
            }
        }
        Ok(self.expanded)
    }

    fn begin(&mut self) {
        self.stack.push(Frame {
            value: self.expanded.clone(),
            at: self.root.clone(),
            near: true,
            depth: 0,
            visited: HashSet::from([self.root.clone()]),
        });
    }

    fn substitute(&mut self, current: &Frame) -> Result<(), String> {
        if current.depth > DEEPEST {
            self.cut = true;
            return Ok(());
        }
        for reference in references(&current.value) {
            let (target, near) = self.locate(&reference, current);
            if !self.access.readable(&target) {
                return Err(format!(
                    "You do not have permission to read {target}, \
                     which is referenced by {}.",
                    self.root
                ));
            }
            let text = format!("${{{reference}}}");
            let secret = self.access.secret_at(&target);
            let Some(secret) = secret.filter(|secret| !secret.value.is_empty()) else {
                if self.access.unresolved == Unresolved::Empty {
                    self.expanded = self.expanded.replace(&text, "");
                }
                continue;
            };
            if !references(&secret.value).is_empty() && !current.visited.contains(&target) {
                let mut visited = current.visited.clone();
                visited.insert(target.clone());
                self.stack.push(Frame {
                    value: secret.value.clone(),
                    at: target,
                    near,
                    depth: current.depth + 1,
                    visited,
                });
            }
            self.expanded = self.expanded.replace(&text, &secret.value);
        }
        Ok(())
    }

    /// The reference's target, and whether that is still near the start.
    fn locate(&self, reference: &str, from: &Frame) -> (Target, bool) {
        let (project, rest) = match reference.strip_prefix('@') {
            Some(rest) => match rest.split_once('.') {
                Some((slug, rest)) => (Some(slug.to_owned()), rest),
                None => (Some(rest.to_owned()), ""),
            },
            None => (from.at.project.clone(), reference),
        };
        if let Some((environment, rest)) = rest.split_once('.') {
            let (folders, key) = rest.rsplit_once('.').unwrap_or(("", rest));
            let target = Target {
                project,
                environment: environment.to_owned(),
                path: format!("/{}", folders.replace('.', "/")),
                key: key.to_owned(),
            };
            return (target, false);
        }
        let own = Target { key: rest.to_owned(), project, ..from.at.clone() };
        match self.nearby.keys.get(rest).filter(|_| from.near) {
            Some((environment, path)) => {
                let (environment, path) = (environment.clone(), path.clone());
                (Target { environment, path, ..own }, true)
            }
            None => (own, from.near),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "secret '{}' in environment '{}' at path '{}'",
            self.key, self.environment, self.path
        )
    }
}

/// The texts between `${` and `}`, in order, if they have only characters of a reference.
fn references(value: &str) -> Vec<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    value
        .match_indices("${")
        .filter_map(|(at, _)| {
            let (inner, _) = value[at + 2..].split_once('}')?;
            let letters = inner.strip_prefix('@').unwrap_or(inner);
            (!letters.is_empty() && letters.chars().all(allowed)).then(|| inner.to_owned())
        })
        .collect()
}

/// The effect of `skipMultilineEncoding`, despite its name, on an expanded value of several lines.
fn quote_lines(value: String) -> String {
    if value.contains('\n') { format!("\"{}\"", value.replace('\n', "\\n")) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use crate::state::permission::{Permission, Rule};
    use serde_json::json;

    fn project(secrets: &serde_json::Value) -> Project {
        let mut project: Project = serde_json::from_value(json!({"secrets": secrets})).unwrap();
        project.settle(0);
        project
    }

    fn expand_in(
        project: &Project,
        permission: &Permission,
        unresolved: Unresolved,
        value: &str,
    ) -> Result<String, String> {
        let state = State::default();
        let access =
            Access { state: &state, project, permission, hidden_values: false, unresolved };
        access.expand(("prod", "/"), "X", &Secret::new(value, 0), &Nearby::default())
    }

    fn expand_as(permission: &Permission, value: &str) -> Result<String, String> {
        let project = project(&json!({
            "prod": {
                "/": {"A": "a", "B": "<${A}>", "EMPTY": "", "LOOP": "${POOL}", "POOL": "${LOOP}",
                      "dev.b.K": "local", "WHERE": "b"},
                "/deep": {"A": "deep", "UP": "${A}+${prod.A}"},
            },
            "dev": {"/b": {"K": "remote"}},
        }));
        expand_in(&project, permission, Unresolved::Empty, value)
    }

    fn expand(value: &str) -> String {
        expand_as(&Permission(None), value).unwrap()
    }

    #[test]
    fn references_resolve_locally_absolutely_and_nested() {
        assert_eq!(expand("x${A}y${B}"), "xay<a>");
        assert_eq!(expand("${dev.b.K}"), "remote");
        assert_eq!(expand("${dev.${WHERE}.K}"), "remote");
        assert_eq!(expand("$A {A} ${} ${a b}"), "$A {A} ${} ${a b}");
    }

    #[test]
    fn unresolved_reference_becomes_empty_or_stays_as_text() {
        let value = "${NONE}-[${EMPTY}]-${no.such.KEY}-${@other.prod.K}";
        assert_eq!(expand(value), "-[]--");
        let project = project(&json!({"prod": {"/": {"EMPTY": ""}}}));
        let kept = expand_in(&project, &Permission(None), Unresolved::Text, value);
        assert_eq!(kept.unwrap(), value);
    }

    #[test]
    fn expansion_of_a_cycle_ends_with_a_reference_of_it() {
        assert!(["${LOOP}", "${POOL}"].contains(&expand("${LOOP}").as_str()));
    }

    #[test]
    fn expansion_follows_twelve_references_and_stops_at_thirteen() {
        let chain = |length: usize| {
            let mut chain: serde_json::Map<_, _> =
                (1..length).map(|n| (format!("K{n}"), json!(format!("${{K{}}}", n + 1)))).collect();
            chain.insert(format!("K{length}"), json!("end"));
            project(&json!({"prod": {"/": chain}}))
        };
        let expand = |length| {
            expand_in(&chain(length), &Permission(None), Unresolved::Empty, "${K2}").unwrap()
        };
        assert_eq!(expand(12), "end");
        assert_eq!(expand(13), "${K13}");
        assert_eq!(expand(40), "${K13}");
    }

    #[test]
    fn unreadable_reference_is_an_error() {
        let only_prod =
            Permission(Some(vec![Rule { environment: "prod".to_owned(), ..Rule::default() }]));
        assert_eq!(
            expand_as(&only_prod, "${dev.b.K}").unwrap_err(),
            "You do not have permission to read secret 'K' in environment 'dev' at path '/b', \
             which is referenced by secret 'X' in environment 'prod' at path '/'."
        );
    }
}
