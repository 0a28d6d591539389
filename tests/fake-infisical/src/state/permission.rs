//! The permissions of a member of a project.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::project::is_within;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Describe,
    ReadValue,
    ReadImports,
    Create,
    Edit,
    Delete,
}

impl Action {
    /// The last word of "You are not allowed to … on secrets".
    pub fn subject(self) -> &'static str {
        if self == Self::ReadImports { "secret-imports" } else { "secrets" }
    }

    /// The word in "You are not allowed to … on secrets".
    pub fn name(self) -> &'static str {
        match self {
            Self::Describe => "describeSecret",
            Self::ReadValue => "readValue",
            Self::ReadImports => "read",
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Delete => "delete",
        }
    }
}

/// Grants its actions below one folder; rules add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rule {
    /// A slug, or `*`
    pub environment: String,
    pub path_prefix: String,
    pub describe: bool,
    pub read: bool,
    pub write: bool,
    /// May list the imports of a folder
    pub imports: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            environment: "*".to_owned(),
            path_prefix: "/".to_owned(),
            describe: true,
            read: true,
            write: true,
            imports: true,
        }
    }
}

impl Rule {
    fn grants(&self, action: Action) -> bool {
        match action {
            Action::Describe => self.describe,
            Action::ReadValue => self.read,
            Action::ReadImports => self.imports,
            Action::Create | Action::Edit | Action::Delete => self.write,
        }
    }

    fn covers(&self, environment: &str, path: &str) -> bool {
        (self.environment == "*" || self.environment == environment)
            && is_within(path, &self.path_prefix)
    }
}

/// A member's rules; without a list it is the admin role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permission(pub Option<Vec<Rule>>);

impl Permission {
    pub fn allows(&self, action: Action, environment: &str, path: &str) -> bool {
        let Some(rules) = &self.0 else { return true };
        rules.iter().any(|rule| rule.grants(action) && rule.covers(environment, path))
    }

    /// The server's first check: whether any rule has the action.
    pub fn allows_somewhere(&self, action: Action) -> bool {
        let Some(rules) = &self.0 else { return true };
        rules.iter().any(|rule| rule.grants(action))
    }

    /// The `details` of a PermissionDenied: the rules that exist for the action.
    pub fn rules_for(&self, action: Action) -> Value {
        let rules = self.0.iter().flatten().filter(|rule| rule.grants(action));
        rules
            .map(|rule| {
                let glob = format!("{}/**", rule.path_prefix.trim_end_matches('/'));
                json!({
                    "action": [action.name()],
                    "inverted": false,
                    "subject": [action.subject()],
                    "conditions": {
                        "environment": rule.environment,
                        "secretPath": {"$glob": glob},
                    },
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_add_up_and_end_at_directory_borders() {
        let permission = Permission(Some(vec![
            Rule {
                environment: "prod".to_owned(),
                path_prefix: "/app".to_owned(),
                write: false,
                ..Rule::default()
            },
            Rule { describe: true, read: false, write: false, ..Rule::default() },
        ]));
        assert!(permission.allows(Action::ReadValue, "prod", "/app/db"));
        assert!(!permission.allows(Action::ReadValue, "prod", "/apple"));
        assert!(!permission.allows(Action::ReadValue, "dev", "/app"));
        assert!(permission.allows(Action::Describe, "dev", "/"));
        assert!(!permission.allows_somewhere(Action::Edit));
        assert!(Permission(None).allows(Action::Delete, "any", "/"));
        assert!(!Permission(Some(vec![])).allows_somewhere(Action::Describe));
    }
}
