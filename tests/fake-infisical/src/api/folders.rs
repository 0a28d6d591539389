//! Folders: list and create.

use serde_json::{Map, Value, json};

use super::call::{Call, membership};
use super::error::ApiError;
use super::fields::Fields;
use super::route::FolderApi;
use crate::calendar::iso8601;
use crate::http::response::Response;
use crate::state::permission::Action;
use crate::state::project::{Folder, Project, normal_path};

pub fn list(mut call: Call<'_>, api: FolderApi) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let mut fields = Fields::of_query(call.request);
    let project = fields.required(project_key(api));
    let environment = fields.required("environment");
    let path = match api {
        FolderApi::V1 => fields.folder("path"),
        FolderApi::V2 => normal_path(&fields.required("path")),
    };
    let recursive = api == FolderApi::V2 && is_truthy(fields.text("recursive"));
    fields.finish()?;
    let (project, _) = membership(call.fake, &project, &claims.identity_id)?;
    known_environment(project, &environment)?;

    let below = project.folders_within(&environment, &path);
    let folders: Vec<_> = below
        .filter(|(candidate, _)| *candidate != path)
        .filter(|(candidate, _)| recursive || parent_of(candidate) == path)
        .map(|(candidate, folder)| {
            let mut shown = show(project, &environment, candidate, folder);
            if recursive {
                let relative = candidate[path.len()..].trim_start_matches('/');
                shown.insert("relativePath".to_owned(), json!(relative));
            }
            shown
        })
        .collect();
    Ok(Response::json(200, &json!({ "folders": folders })))
}

pub fn create(mut call: Call<'_>, api: FolderApi) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let mut fields = Fields::of_body(call.request)?;
    let project = fields.required(project_key(api));
    let environment = fields.required("environment");
    let name = fields.required("name");
    let path = fields.folder("path");
    let description: Option<String> = fields.typed("description", "string");
    if !is_folder_name(&name) {
        fields.refuse(
            "name",
            "Invalid folder name. Only alphanumeric characters, dashes, and underscores are allowed.",
        );
    }
    fields.finish()?;
    let (stored, permission) = membership(call.fake, &project, &claims.identity_id)?;
    let full_path = normal_path(&format!("{path}/{name}"));
    if !permission.allows(Action::Create, &environment, &full_path) {
        return Err(ApiError::permission_denied(Action::Create, &permission));
    }
    known_environment(stored, &environment)?;
    if stored.folder(&environment, &full_path).is_some() {
        return Err(ApiError::bad_request(format!(
            "Folder with name '{name}' already exists in path '{path}'"
        )));
    }

    let now = call.fake.clock.now();
    call.fake.etags.forget(&project);
    let stored = call.fake.state.project_mut(&project).ok_or_else(ApiError::internal)?;
    stored.make_folder(&environment, &full_path, now).description = description;
    let folder = stored.folder(&environment, &full_path).ok_or_else(ApiError::internal)?;
    let mut shown = show(stored, &environment, &full_path, folder);
    if api == FolderApi::V2 {
        shown.insert("path".to_owned(), json!(full_path));
    }
    Ok(Response::json(200, &json!({ "folder": shown })))
}

pub fn project_key(api: FolderApi) -> &'static str {
    match api {
        FolderApi::V1 => "workspaceId",
        FolderApi::V2 => "projectId",
    }
}

/// Unlike the secrets API, folders accept `1`, `True` and `yes` as true.
fn is_truthy(word: Option<String>) -> bool {
    word.is_some_and(|word| {
        let is_zero = word.parse::<f64>().is_ok_and(|number| number == 0.0);
        !word.is_empty() && !is_zero && !word.eq_ignore_ascii_case("false")
    })
}

fn known_environment(project: &Project, environment: &str) -> Result<(), ApiError> {
    if project.has_environment(environment) {
        return Ok(());
    }
    Err(ApiError::not_found(format!(
        "Environment with slug '{environment}' in project with ID '{}' not found",
        project.id
    )))
}

fn is_folder_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.chars().all(allowed)
}

fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

fn show(project: &Project, environment: &str, path: &str, folder: &Folder) -> Map<String, Value> {
    let shown = json!({
        "id": project.folder_id(environment, path),
        "name": path.rsplit('/').next(),
        "version": 1,
        "createdAt": iso8601(folder.created_at),
        "updatedAt": iso8601(folder.touched_at),
        "envId": project.environment_id(environment),
        "parentId": project.folder_id(environment, parent_of(path)),
        "isReserved": false,
        "description": folder.description,
        "lastSecretModified": iso8601(folder.touched_at),
    });
    match shown {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
