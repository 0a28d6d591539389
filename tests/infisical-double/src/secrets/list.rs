//! The list of a folder's secrets, the server's main read.

use serde::Serialize;

use super::imports::ImportReading;
use super::view::{SecretView, Shape};
use super::{Access, Found};
use crate::api::error::ApiError;
use crate::world::permission::Action;
use crate::world::project::{Folder, Place};
use crate::world::secret::Secret;

#[derive(Debug)]
pub struct ListQuery {
    pub environment: String,
    pub path: String,
    pub recursive: bool,
    pub view_values: bool,
    pub expand: bool,
    pub imports: bool,
    pub tags: Vec<String>,
    pub metadata: MetadataFilter,
}

#[derive(Serialize)]
pub struct Listing {
    secrets: Vec<SecretView>,
    imports: Vec<ImportView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImportView {
    secret_path: String,
    environment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder_id: Option<String>,
    secrets: Vec<SecretView>,
}

/// `key=a,value=b|key=c,value=d`: secrets that have one of these.
#[derive(Debug)]
pub struct MetadataFilter(Vec<(String, String)>);

impl MetadataFilter {
    pub fn parse(filter: &str) -> Self {
        let pair = |text: &str| {
            let mut parts = text.split([',', '=']).map(str::trim);
            let (mut key, mut value) = (None, None);
            while let (Some(name), content) = (parts.next(), parts.next()) {
                match name.to_ascii_lowercase().as_str() {
                    "key" => key = content,
                    "value" => value = content,
                    _ => {}
                }
            }
            Some((key?.to_owned(), value?.to_owned()))
        };
        Self(filter.split('|').filter_map(pair).collect())
    }

    pub fn is_too_long(&self) -> bool {
        self.0.len() > 10
    }

    fn admits(&self, secret: &Secret) -> bool {
        let has = |(key, value): &(String, String)| {
            let mut metadata = secret.metadata.iter();
            metadata.any(|entry| entry.key == *key && entry.value == *value)
        };
        self.0.is_empty() || self.0.iter().any(has)
    }
}

/// Absence speaks: what may not be described is left out without a word.
pub fn list(access: &Access<'_>, query: &ListQuery) -> Result<Listing, ApiError> {
    if !access.permission.allows_somewhere(Action::Describe) {
        return Err(ApiError::permission_denied(Action::Describe, access.permission));
    }
    let folders = folders(access, query)?;
    let mut found = Vec::new();
    for (path, folder) in &folders {
        found.extend(visible(access, query, path, folder)?);
    }
    if query.expand {
        expand(access, &mut found)?;
    }
    let view = |found: &Found<'_>, shape| SecretView::new(&access.project.id, found, shape);
    let imports = if query.imports { imports(access, query, &folders) } else { Vec::new() };
    Ok(Listing { secrets: found.iter().map(|f| view(f, Shape::Read)).collect(), imports })
}

fn folders<'w>(
    access: &Access<'w>,
    query: &'w ListQuery,
) -> Result<Vec<(&'w str, &'w Folder)>, ApiError> {
    let ListQuery { environment, path, .. } = query;
    let not_found = || {
        let message = format!(
            "Folder with path '{path}' in environment '{environment}' was not found. \
             Please ensure the environment slug and secret path is correct."
        );
        ApiError::new(404, "SecretPathNotFound", message)
    };
    if !query.recursive {
        let folder = access.project.folder(environment, path);
        return Ok(vec![(path, folder.ok_or_else(not_found)?)]);
    }
    if !access.project.has_environment(environment) {
        return Err(ApiError::not_found(format!(
            "Environment with slug '{environment}' in project with ID {} not found",
            access.project.id
        )));
    }
    let folders: Vec<_> = access.project.folders_within(environment, path).collect();
    if folders.is_empty() {
        return Err(not_found());
    }
    Ok(folders)
}

/// In the folder that was asked for an unreadable value is an error, below it it is left out.
fn visible<'w>(
    access: &Access<'w>,
    query: &ListQuery,
    path: &str,
    folder: &'w Folder,
) -> Result<Vec<Found<'w>>, ApiError> {
    let environment = &query.environment;
    if !access.may(Action::Describe, environment, path) {
        return Ok(Vec::new());
    }
    let readable = access.may(Action::ReadValue, environment, path);
    let wanted = |secret: &Secret| {
        let has_tag = |slug: &String| secret.tags.iter().any(|tag| tag.slug == *slug);
        let tagged = query.tags.is_empty() || query.tags.iter().any(has_tag);
        tagged && query.metadata.admits(secret)
    };
    let wanted: Vec<_> = folder.secrets.iter().filter(|(_, s)| wanted(s)).collect();
    if query.view_values && !readable && !access.hidden_values {
        if path != query.path || wanted.is_empty() {
            return Ok(Vec::new());
        }
        return Err(ApiError::permission_denied(Action::ReadValue, access.permission));
    }
    let hidden = !query.view_values || !readable;
    let found =
        wanted.into_iter().map(|(key, secret)| Found::new(environment, path, key, secret, hidden));
    Ok(found.collect())
}

fn expand(access: &Access<'_>, found: &mut [Found<'_>]) -> Result<(), ApiError> {
    let mut refused = Vec::new();
    for found in found.iter_mut().filter(|found| !found.hidden) {
        match access.expand(&found.environment, &found.path, found.key, found.secret) {
            Ok(value) => found.value = value,
            Err(message) => refused.push(message),
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let error = ApiError::forbidden("Failed to expand one or more secret references");
    Err(error.with_details(refused.into()))
}

fn imports(access: &Access<'_>, query: &ListQuery, folders: &[(&str, &Folder)]) -> Vec<ImportView> {
    let places: Vec<Place> = folders
        .iter()
        .flat_map(|(path, _)| access.project.imports_into(&query.environment, path))
        .collect();
    let needs: &[Action] = if query.view_values {
        &[Action::Describe, Action::ReadValue]
    } else {
        &[Action::Describe]
    };
    let reading = ImportReading { needs, view_values: query.view_values, expand: query.expand };
    let entries = access.imported(places, reading).into_iter();
    entries
        .map(|entry| ImportView {
            secret_path: entry.place.path,
            environment: entry.place.environment,
            folder_id: entry.folder_id,
            secrets: entry
                .secrets
                .iter()
                .map(|found| SecretView::new(&access.project.id, found, Shape::Imported))
                .collect(),
        })
        .collect()
}
