//! The common part of all writes: the body's fields, the permission and the folder.

use super::call::{Call, ProjectReference, membership};
use super::error::ApiError;
use super::fields::Fields;
use super::read::plain_path;
use crate::auth::jwt::Claims;
use crate::dialect::{Api, Dialect};
use crate::fake::FakeInfisical;
use crate::secrets::write::{Draft, Writer, trimmed};
use crate::state::permission::{Action, Permission};
use crate::state::project::{Folder, Project};
use crate::state::secret::{Author, Metadata, Tag};

/// The folder that a body names.
pub struct Place {
    project: ProjectReference,
    environment: String,
    path: String,
}

impl Place {
    /// For a batch, whose v3 form accepted only slugs at first.
    pub fn of_batch(body: &mut Fields, api: Api, by_slug: bool) -> Self {
        if api != Api::V3 || !by_slug {
            return Self::read(body, api);
        }
        Self {
            project: ProjectReference::Slug(body.required("projectSlug")),
            environment: body.required("environment"),
            path: body.folder("secretPath"),
        }
    }

    pub fn read(body: &mut Fields, api: Api) -> Self {
        Self {
            project: match api {
                Api::V3 => ProjectReference::of(body.text("workspaceId"), body.text("projectSlug")),
                Api::V4 => ProjectReference::Id(body.required("projectId")),
            },
            environment: body.required("environment"),
            path: body.folder("secretPath"),
        }
    }
}

/// The longest key in Postgres's index.
const LONGEST_KEY: usize = 2704;

/// A key that the schema allows and the database does not.
pub fn storable(key: &str) -> Result<(), ApiError> {
    if key.len() > LONGEST_KEY || key.contains('\0') {
        return Err(ApiError::database());
    }
    Ok(())
}

/// Whether a write needs a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    Value,
    Nothing,
}

/// One secret of a body, before its tags are looked up.
pub struct Write {
    pub key: String,
    pub draft: Draft,
    tag_ids: Option<Vec<String>>,
}

impl Write {
    pub fn read(
        body: &mut Fields,
        key: String,
        requirement: Requirement,
        dialect: Dialect,
    ) -> Self {
        let value = match requirement {
            Requirement::Value => Some(body.required_untrimmed("secretValue")),
            Requirement::Nothing => body.untrimmed("secretValue"),
        };
        let new_name = body.text("newSecretName");
        if let Some(name) = &new_name {
            check_name(body, "newSecretName", name, dialect);
        }
        Self {
            key,
            tag_ids: body.typed("tagIds", "array"),
            draft: Draft {
                value: value.as_deref().map(trimmed),
                comment: body.text("secretComment"),
                tags: None,
                metadata: body.typed::<Vec<Metadata>>("secretMetadata", "array"),
                skip_multiline_encoding: body.typed("skipMultilineEncoding", "boolean"),
                new_name,
            },
        }
    }
}

/// Names are checked if there is one; older servers allow fewer.
pub fn check_name(fields: &mut Fields, field: &str, name: &str, dialect: Dialect) {
    if name.is_empty() {
        fields.refuse(field, "Secret name cannot be empty.");
    } else if name.contains([':', '/']) {
        fields.refuse(field, "Secret name cannot contain colon or forward slash.");
    } else if name.contains(' ') && !dialect.allows_spaces_in_names() {
        fields.refuse(field, "Secret name cannot contain spaces.");
    }
}

/// A writer at a folder, who is a member of the project.
pub struct WriteSession<'a> {
    fake: &'a mut FakeInfisical,
    claims: &'a Claims,
    project: String,
    environment: String,
    path: String,
    permission: Permission,
    operation: &'static str,
}

impl<'a> WriteSession<'a> {
    pub fn open(
        call: &'a mut Call<'_>,
        claims: &'a Claims,
        place: Place,
        operation: &'static str,
    ) -> Result<Self, ApiError> {
        plain_path(&place.path)?;
        let project = place
            .project
            .resolve(&call.fake.state)?
            .ok_or_else(|| ApiError::bad_request("You must provide projectSlug or workspaceId"))?;
        let (_, permission) = membership(call.fake, &project, &claims.identity_id)?;
        Ok(Self {
            fake: call.fake,
            claims,
            project,
            environment: place.environment,
            path: place.path,
            permission,
            operation,
        })
    }

    pub fn permit(&self, action: Action) -> Result<(), ApiError> {
        if self.permission.allows(action, &self.environment, &self.path) {
            return Ok(());
        }
        Err(ApiError::permission_denied(action, &self.permission))
    }

    pub fn folder(&self) -> Result<&Folder, ApiError> {
        let project = self.fake.state.project(&self.project);
        project
            .and_then(|project| project.folder(&self.environment, &self.path))
            .ok_or_else(|| self.no_folder())
    }

    pub fn draft(&self, write: &Write) -> Result<Draft, ApiError> {
        storable(write.draft.new_name.as_deref().unwrap_or(&write.key))?;
        let project = self.fake.state.project(&self.project);
        let tags = match (&write.tag_ids, project) {
            (Some(ids), Some(project)) => Some(known_tags(project, ids)?),
            _ => None,
        };
        Ok(Draft { tags, ..write.draft.clone() })
    }

    /// Of two writes to one key the later one counts.
    pub fn drafts(&self, writes: &[Write]) -> Result<Vec<(String, Draft)>, ApiError> {
        let mut drafts: Vec<(String, Draft)> = Vec::new();
        for write in writes {
            let draft = self.draft(write)?;
            match drafts.iter_mut().find(|(key, _)| *key == write.key) {
                Some((_, earlier)) => *earlier = draft,
                None => drafts.push((write.key.clone(), draft)),
            }
        }
        Ok(drafts)
    }

    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&Writer<'_>, &mut Folder) -> T,
    ) -> Result<T, ApiError> {
        let writer = Writer {
            project: &self.project,
            environment: &self.environment,
            path: &self.path,
            author: Author {
                id: self.claims.identity_id.clone(),
                name: self.claims.identity_name.clone(),
            },
            now: self.fake.clock.now(),
            may_read: self.permission.allows(Action::ReadValue, &self.environment, &self.path),
        };
        self.fake.etags.forget(&self.project);
        let project = self.fake.state.project_mut(&self.project);
        match project.and_then(|p| p.folder_mut(&self.environment, &self.path)) {
            Some(folder) => Ok(change(&writer, folder)),
            None => Err(self.no_folder()),
        }
    }

    fn no_folder(&self) -> ApiError {
        ApiError::folder_not_found(self.operation, &self.environment, &self.path)
    }
}

/// A tag exists if some secret of the project has it.
fn known_tags(project: &Project, ids: &[String]) -> Result<Vec<Tag>, ApiError> {
    let folders = project.secrets.values().flat_map(|folders| folders.values());
    let secrets = folders.flat_map(|folder| folder.secrets.values());
    let mut tags: Vec<Tag> = Vec::new();
    for tag in secrets.flat_map(|secret| &secret.tags) {
        if ids.contains(&tag.id) && !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    if tags.len() == ids.len() {
        return Ok(tags);
    }
    let found: Vec<_> = tags.iter().map(|tag| tag.slug.as_str()).collect();
    Err(ApiError::not_found(format!("Tag not found. Found {}", found.join(","))))
}
