//! Changes of the state without the API.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Answer, Control, ControlError, done, shown};
use crate::state::State;
use crate::state::identity::Identity;
use crate::state::permission::{Permission, Rule};
use crate::state::project::{Import, Project, normal_path};
use crate::state::secret::Secret;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutSecret {
    project: String,
    environment: String,
    path: String,
    key: String,
    value: String,
    /// A listing overlapped the write, and stored the old payload's tag after it
    #[serde(default)]
    overlapped: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectImport {
    project: String,
    import: Import,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityId {
    pub(super) identity: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteSecret {
    project: String,
    environment: String,
    path: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutPermission {
    project: String,
    identity: String,
    /// Absent: the admin role; an empty list: a role without any permission
    #[serde(default)]
    rules: Option<Vec<Rule>>,
    /// False ends the membership
    #[serde(default = "yes")]
    member: bool,
}

fn yes() -> bool {
    true
}

impl Control {
    pub(super) fn state(&self) -> Answer {
        shown(&self.shared.lock().state)
    }

    pub(super) fn replace_state(&self, state: State) -> Answer {
        let mut fake = self.shared.lock();
        let now = fake.clock.now();
        let state = state.settle(now);
        if let Some(project) = state.projects.iter().find(|project| project.circles()) {
            return Err(ControlError::bad(format!("the imports of project {} circle", project.id)));
        }
        fake.state = state;
        fake.etags.clear();
        fake.permissions.clear();
        done()
    }

    /// Stores the value unchanged, without the trim of the public API.
    pub(super) fn put_secret(&self, put: PutSecret) -> Answer {
        let mut fake = self.shared.lock();
        let now = fake.clock.now();
        if !put.overlapped {
            fake.etags.forget(&put.project);
        }
        let project = find(&mut fake.state, &put.project)?;
        if !project.has_environment(&put.environment) {
            project.environments.push(put.environment.clone());
        }
        let folder = project.make_folder(&put.environment, &normal_path(&put.path), now);
        folder.touched_at = now;
        match folder.secrets.get_mut(&put.key) {
            Some(secret) => secret.revise(Some(put.value), now),
            None => {
                folder.secrets.insert(put.key, Secret::new(put.value, now));
            }
        }
        done()
    }

    pub(super) fn delete_secret(&self, delete: DeleteSecret) -> Answer {
        let mut fake = self.shared.lock();
        fake.etags.forget(&delete.project);
        let project = find(&mut fake.state, &delete.project)?;
        let folder = project.folder_mut(&delete.environment, &normal_path(&delete.path));
        folder
            .and_then(|folder| folder.secrets.remove(&delete.key))
            .ok_or_else(|| ControlError::not_found("no such secret"))?;
        done()
    }

    pub(super) fn put_import(&self, put: ProjectImport) -> Answer {
        let mut fake = self.shared.lock();
        let now = fake.clock.now();
        fake.etags.forget(&put.project);
        let project = find(&mut fake.state, &put.project)?;
        let import = put.import.settled();
        if project.would_circle(&import) {
            return Err(ControlError::bad("the imports would circle"));
        }
        project.make_folder(&import.environment, &import.path, now);
        project.imports.push(import);
        done()
    }

    pub(super) fn delete_import(&self, delete: ProjectImport) -> Answer {
        let mut fake = self.shared.lock();
        fake.etags.forget(&delete.project);
        let project = find(&mut fake.state, &delete.project)?;
        let wanted = delete.import.settled();
        let at = project.imports.iter().position(|import| *import == wanted);
        project.imports.remove(at.ok_or_else(|| ControlError::not_found("no such import"))?);
        done()
    }

    /// Adds or replaces an identity.
    pub(super) fn put_identity(&self, mut identity: Identity) -> Answer {
        let mut fake = self.shared.lock();
        identity.settle(fake.clock.now());
        let identities = &mut fake.state.identities;
        match identities.iter_mut().find(|known| known.id == identity.id) {
            Some(known) => *known = identity,
            None => identities.push(identity),
        }
        done()
    }

    /// Deletes the identity and its memberships.
    pub(super) fn delete_identity(&self, delete: IdentityId) -> Answer {
        let mut fake = self.shared.lock();
        let identities = &mut fake.state.identities;
        let at = identities.iter().position(|identity| identity.id == delete.identity);
        identities.remove(at.ok_or_else(|| ControlError::not_found("no such identity"))?);
        for members in fake.state.projects.iter_mut().filter_map(|p| p.members.as_mut()) {
            members.remove(&delete.identity);
        }
        done()
    }

    /// Without a list of members every identity is a member; the list is created first, so that
    /// only the named identity is affected.
    pub(super) fn put_permission(&self, put: PutPermission) -> Answer {
        let mut fake = self.shared.lock();
        let everybody: BTreeMap<_, _> = fake
            .state
            .identities
            .iter()
            .map(|identity| (identity.id.clone(), Permission(None)))
            .collect();
        let project = find(&mut fake.state, &put.project)?;
        let members = project.members.get_or_insert(everybody);
        if put.member {
            members.insert(put.identity, Permission(put.rules));
        } else {
            members.remove(&put.identity);
        }
        done()
    }
}

fn find<'w>(state: &'w mut State, id: &str) -> Result<&'w mut Project, ControlError> {
    state.project_mut(id).ok_or_else(|| ControlError::not_found(format!("no such project: {id}")))
}
