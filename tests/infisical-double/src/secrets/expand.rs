//! References: `${KEY}` in the same folder, `${env.folder.KEY}` anywhere in the project.

use std::collections::HashSet;

use super::Access;
use crate::world::permission::Action;
use crate::world::secret::Secret;

/// How deep references are followed, and how often the result is scanned anew.
const DEEPEST: usize = 10;

/// Where a secret lies, as the reference sees it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    environment: String,
    path: String,
    key: String,
}

struct Frame {
    value: String,
    at: Target,
    depth: usize,
    visited: HashSet<Target>,
}

impl Access<'_> {
    /// The value with its references replaced. One that leads nowhere, or to an empty value,
    /// stays as it is written; one that may not be read is the error.
    pub fn expand(
        &self,
        environment: &str,
        path: &str,
        key: &str,
        secret: &Secret,
    ) -> Result<String, String> {
        let value = secret.value.as_str();
        if references(value).is_empty() {
            return Ok(value.to_owned());
        }
        let root = Target {
            environment: environment.to_owned(),
            path: path.to_owned(),
            key: key.to_owned(),
        };
        if !self.readable(&root) {
            return Err(format!("You do not have permission to read {root}."));
        }
        let frame = |value: &str| Frame {
            value: value.to_owned(),
            at: root.clone(),
            depth: 0,
            visited: HashSet::from([root.clone()]),
        };
        let mut expanded = value.to_owned();
        let mut seen = references(value);
        let mut passes = 0;
        let mut stack = vec![frame(value)];
        while let Some(current) = stack.pop() {
            self.substitute(&current, &root, &mut expanded, &mut stack)?;
            if stack.is_empty() && passes < DEEPEST {
                // A replacement may have put a new reference together: ${dev.${NAME}.KEY}
                let now = references(&expanded);
                if now.iter().any(|reference| !seen.contains(reference)) {
                    seen = now;
                    passes += 1;
                    stack.push(frame(&expanded));
                }
            }
        }
        Ok(if secret.skip_multiline_encoding { quote_lines(expanded) } else { expanded })
    }

    fn substitute(
        &self,
        current: &Frame,
        root: &Target,
        expanded: &mut String,
        stack: &mut Vec<Frame>,
    ) -> Result<(), String> {
        if current.depth > DEEPEST {
            return Ok(());
        }
        for reference in references(&current.value) {
            let target = self.locate(&reference, &current.at);
            if !self.readable(&target) {
                return Err(format!(
                    "You do not have permission to read {target}, \
                     which is referenced by {root}."
                ));
            }
            let folder = self.project.folder(&target.environment, &target.path);
            let secret = folder.and_then(|folder| folder.secrets.get(&target.key));
            let Some(secret) = secret.filter(|secret| !secret.value.is_empty()) else {
                continue;
            };
            if !references(&secret.value).is_empty() && !current.visited.contains(&target) {
                let mut visited = current.visited.clone();
                visited.insert(target.clone());
                stack.push(Frame {
                    value: secret.value.clone(),
                    at: target,
                    depth: current.depth + 1,
                    visited,
                });
            }
            *expanded = expanded.replace(&format!("${{{reference}}}"), &secret.value);
        }
        Ok(())
    }

    fn locate(&self, reference: &str, at: &Target) -> Target {
        let local = || Target { key: reference.to_owned(), ..at.clone() };
        let Some((environment, rest)) = reference.split_once('.') else {
            return local();
        };
        let folder = self.project.folder(&at.environment, &at.path);
        if self.dotted_names && folder.is_some_and(|f| f.secrets.contains_key(reference)) {
            return local();
        }
        let (folders, key) = rest.rsplit_once('.').unwrap_or(("", rest));
        Target {
            environment: environment.to_owned(),
            path: format!("/{}", folders.replace('.', "/")),
            key: key.to_owned(),
        }
    }

    fn readable(&self, target: &Target) -> bool {
        self.may(Action::ReadValue, &target.environment, &target.path)
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

/// What is between `${` and `}`, in order, where it is made of the letters a reference may have.
fn references(value: &str) -> Vec<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    value
        .match_indices("${")
        .filter_map(|(at, _)| {
            let (inner, _) = value[at + 2..].split_once('}')?;
            (!inner.is_empty() && inner.chars().all(allowed)).then(|| inner.to_owned())
        })
        .collect()
}

/// What `skipMultilineEncoding`, despite its name, does to an expanded value of several lines.
fn quote_lines(value: String) -> String {
    if value.contains('\n') { format!("\"{}\"", value.replace('\n', "\\n")) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::permission::{Permission, Rule};
    use crate::world::project::Project;
    use serde_json::json;

    fn expand_as(permission: Permission, value: &str) -> Result<String, String> {
        let mut project: Project = serde_json::from_value(json!({"secrets": {
            "prod": {
                "/": {"A": "a", "B": "<${A}>", "EMPTY": "", "LOOP": "${POOL}", "POOL": "${LOOP}",
                      "dev.b.K": "local", "WHERE": "b"},
                "/deep": {"A": "deep", "UP": "${A}+${prod.A}"},
            },
            "dev": {"/b": {"K": "remote"}},
        }}))
        .unwrap();
        project.settle(0);
        let access = Access {
            project: &project,
            permission: &permission,
            hidden_values: false,
            dotted_names: false,
        };
        access.expand("prod", "/", "X", &Secret::new(value, 0))
    }

    fn expand(value: &str) -> String {
        expand_as(Permission(None), value).unwrap()
    }

    #[test]
    fn references_resolve_locally_absolutely_and_nested() {
        assert_eq!(expand("x${A}y${B}"), "xay<a>");
        assert_eq!(expand("${dev.b.K}"), "remote");
        assert_eq!(expand("${dev.${WHERE}.K}"), "remote");
        assert_eq!(expand("$A {A} ${} ${a b}"), "$A {A} ${} ${a b}");
    }

    #[test]
    fn what_leads_nowhere_stays_literal() {
        assert_eq!(expand("${NONE}-${EMPTY}-${no.such.KEY}"), "${NONE}-${EMPTY}-${no.such.KEY}");
    }

    #[test]
    fn a_cycle_ends_with_one_of_its_own_references() {
        assert!(["${LOOP}", "${POOL}"].contains(&expand("${LOOP}").as_str()));
    }

    #[test]
    fn a_chain_is_followed_ten_deep_and_no_further() {
        let chain: serde_json::Map<_, _> =
            (0..40).map(|n| (format!("K{n}"), json!(format!("${{K{}}}", n + 1)))).collect();
        let mut project: Project =
            serde_json::from_value(json!({"secrets": {"prod": {"/": chain}}})).unwrap();
        project.settle(0);
        let access = Access {
            project: &project,
            permission: &Permission(None),
            hidden_values: false,
            dotted_names: false,
        };
        let end = access.expand("prod", "/", "K0", &Secret::new("${K1}", 0)).unwrap();
        assert!(end.starts_with("${K"), "left over: {end}");
    }

    #[test]
    fn an_unreadable_reference_is_an_error() {
        let only_prod =
            Permission(Some(vec![Rule { environment: "prod".to_owned(), ..Rule::default() }]));
        assert_eq!(
            expand_as(only_prod, "${dev.b.K}").unwrap_err(),
            "You do not have permission to read secret 'K' in environment 'dev' at path '/b', \
             which is referenced by secret 'X' in environment 'prod' at path '/'."
        );
    }
}
