//! The list of a folder's secrets, the server's main read.

use std::collections::BTreeMap;

use serde::Serialize;

use super::expand::Nearby;
use super::imports::ImportReading;
use super::view::{SecretView, Shape};
use super::{Access, Found};
use crate::api::error::ApiError;
use crate::state::permission::Action;
use crate::state::project::{Folder, Place};
use crate::state::secret::Secret;

pub struct ListQuery {
    pub environment: String,
    pub path: String,
    /// The path as it was sent, which the answer repeats
    pub sent_path: String,
    pub recursive: bool,
    pub view_values: bool,
    pub expand: bool,
    /// References are resolved as in v4's listing: in the listed folder, through its imports.
    /// Otherwise as by name
    pub near: bool,
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

/// `key=a,value=b|key=c,value=d`: secrets with one of these.
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

impl ListQuery {
    /// The whole query, in either API: v3 and v4 have the same tag for the same payload.
    pub fn name(&self) -> String {
        let Self { environment, sent_path, recursive, view_values, expand, imports, .. } = self;
        format!(
            "{environment} {sent_path} {recursive} {view_values} {expand} {imports} {:?} {:?}",
            self.tags, self.metadata
        )
    }

    /// A path at or below the requested one, in the request's spelling.
    fn as_sent(&self, path: &str) -> String {
        match path.strip_prefix(self.path.trim_end_matches('/')) {
            Some("" | "/") | None => self.sent_path.clone(),
            Some(below) => format!("{}{below}", self.sent_path.trim_end_matches('/')),
        }
    }
}

/// Secrets that may not be described are silently left out.
pub fn list(access: &Access<'_>, query: &ListQuery) -> Result<Listing, ApiError> {
    if !access.permission.allows_somewhere(Action::Describe) {
        return Err(ApiError::permission_denied(Action::Describe, access.permission));
    }
    let folders = folders(access, query)?;
    let mut found = Vec::new();
    for (path, folder) in &folders {
        found.extend(visible(access, query, path, folder)?);
    }
    let near = match query.near {
        true => folders.iter().map(|(path, _)| (*path, nearby(access, query, path))).collect(),
        false => BTreeMap::new(),
    };
    if query.expand {
        expand(access, &mut found, &near)?;
    }
    for found in &mut found {
        found.path = query.as_sent(&found.path);
    }
    let view = |found: &Found<'_>| SecretView::new(&access.project.id, found, Shape::Read);
    let imports = if query.imports { imports(access, query, &near, &folders) } else { Vec::new() };
    Ok(Listing { secrets: found.iter().map(view).collect(), imports })
}

/// The meanings of `${KEY}` in this folder: its own secrets, then those of its imports, the last
/// one first.
fn nearby<'w>(access: &Access<'w>, query: &ListQuery, path: &str) -> Nearby<'w> {
    let mut nearby = Nearby::default();
    let own = access.project.folder(&query.environment, path);
    for (key, secret) in own.into_iter().flat_map(|folder| &folder.secrets) {
        nearby.add(&Found::new(&query.environment, path, key, secret, false));
    }
    let needs = &[Action::Describe, Action::ReadValue];
    let reading = ImportReading { needs, view_values: true, expand: false };
    let places = access.project.imports_into(&query.environment, path);
    for entry in access.imported(places, reading).iter().rev() {
        entry.secrets.iter().for_each(|found| nearby.add(found));
    }
    nearby
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

/// In the requested folder an unreadable value is an error, below it is left out.
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

fn expand(
    access: &Access<'_>,
    found: &mut [Found<'_>],
    near: &BTreeMap<&str, Nearby<'_>>,
) -> Result<(), ApiError> {
    let by_name = Nearby::default();
    let mut refused = Vec::new();
    for found in found.iter_mut().filter(|found| !found.hidden) {
        let nearby = near.get(found.path.as_str()).unwrap_or(&by_name);
        let place = (found.environment.as_str(), found.path.as_str());
        match access.expand(place, found.key, found.secret, nearby) {
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

fn imports<'w>(
    access: &Access<'w>,
    query: &ListQuery,
    near: &BTreeMap<&str, Nearby<'w>>,
    folders: &[(&str, &Folder)],
) -> Vec<ImportView> {
    let places: Vec<Place> = folders
        .iter()
        .flat_map(|(path, _)| access.project.imports_into(&query.environment, path))
        .collect();
    let needs: &[Action] = if query.view_values {
        &[Action::Describe, Action::ReadValue]
    } else {
        &[Action::Describe]
    };
    let by_name = query.expand && !query.near;
    let reading = ImportReading { needs, view_values: query.view_values, expand: by_name };
    let mut entries = access.imported(places, reading);
    if query.expand && query.near {
        for entry in &mut entries {
            let importing = |path: &&&str| {
                access.project.imports_into(&query.environment, path).contains(&entry.place)
            };
            if let Some(nearby) = near.keys().find(importing).and_then(|path| near.get(path)) {
                access.expand_near(entry, nearby);
            }
        }
    }
    entries
        .into_iter()
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
