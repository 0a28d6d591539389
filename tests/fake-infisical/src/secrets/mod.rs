//! An identity's view of the stored secrets, and its changes.

pub mod expand;
pub mod get;
pub mod imports;
pub mod list;
pub mod view;
pub mod write;

use crate::dialect::Dialect;
use crate::fake::FakeInfisical;
use crate::settings::Unresolved;
use crate::state::State;
use crate::state::permission::{Action, Permission};
use crate::state::project::Project;
use crate::state::secret::Secret;

/// The server's placeholder for an unreadable value.
pub const PLACEHOLDER: &str = "<hidden-by-infisical>";

/// A project with one identity's permissions.
pub struct Access<'w> {
    state: &'w State,
    pub project: &'w Project,
    pub permission: &'w Permission,
    /// Unreadable values are a placeholder instead of a 403
    hidden_values: bool,
    unresolved: Unresolved,
}

impl<'w> Access<'w> {
    pub fn new(fake: &'w FakeInfisical, project: &'w Project, permission: &'w Permission) -> Self {
        let by_dialect = match fake.dialect {
            Dialect::V4Current => Unresolved::Empty,
            Dialect::V3Only | Dialect::V4First => Unresolved::Text,
        };
        Self {
            state: &fake.state,
            project,
            permission,
            hidden_values: fake.settings.hidden_values,
            unresolved: fake.settings.unresolved_references.unwrap_or(by_dialect),
        }
    }

    fn may(&self, action: Action, environment: &str, path: &str) -> bool {
        self.permission.allows(action, environment, path)
    }
}

/// A secret for an answer: its place, and the displayed value.
#[derive(Clone)]
pub struct Found<'w> {
    pub environment: String,
    pub path: String,
    pub key: &'w str,
    pub secret: &'w Secret,
    pub value: String,
    pub hidden: bool,
}

impl<'w> Found<'w> {
    fn new(environment: &str, path: &str, key: &'w str, secret: &'w Secret, hidden: bool) -> Self {
        Self {
            environment: environment.to_owned(),
            path: path.to_owned(),
            key,
            secret,
            value: if hidden { PLACEHOLDER.to_owned() } else { secret.value.clone() },
            hidden,
        }
    }
}
