//! The imports of one directory: list and create.

use serde_json::{Value, json};

use super::call::{Call, membership};
use super::error::ApiError;
use super::fields::Fields;
use super::folders::project_key;
use super::route::FolderApi;
use crate::calendar::iso8601;
use crate::http::response::Response;
use crate::state::permission::Action;
use crate::state::project::{Import, Place, Project, normal_path};

/// Needs its own permission: an identity may read secrets and not their imports.
pub fn list(mut call: Call<'_>, api: FolderApi) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let mut fields = Fields::of_query(call.request);
    let project = fields.required(project_key(api));
    let environment = fields.required("environment");
    let path = fields.folder("path");
    fields.finish()?;
    let (project, permission) = membership(call.fake, &project, &claims.identity_id)?;
    if !permission.allows(Action::ReadImports, &environment, &path) {
        return Err(ApiError::permission_denied(Action::ReadImports, &permission));
    }
    known_folder(project, &environment, &path)?;
    let places = project.imports_into(&environment, &path);
    let imports: Vec<_> = (1..)
        .zip(&places)
        .map(|(position, from)| show(project, (&environment, &path), from, position))
        .collect();
    let message = "Successfully fetched secret imports";
    Ok(Response::json(200, &json!({"message": message, "secretImports": imports})))
}

pub fn create(mut call: Call<'_>, api: FolderApi) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let mut body = Fields::of_body(call.request)?;
    let id = body.required(project_key(api));
    let environment = body.required("environment");
    let path = body.folder("path");
    let from: Option<Place> = body.typed("import", "object");
    if from.is_none() {
        body.refuse("import", "Required");
    }
    body.finish()?;
    let (project, permission) = membership(call.fake, &id, &claims.identity_id)?;
    if !permission.allows(Action::Create, &environment, &path) {
        return Err(ApiError::permission_denied(Action::Create, &permission));
    }
    known_folder(project, &environment, &path)?;
    let from = from.ok_or_else(ApiError::internal)?;
    let from = Place { path: normal_path(&from.path), environment: from.environment };
    known_folder(project, &from.environment, &from.path)?;
    let import = Import { environment, path, from };
    if project.imports.contains(&import) {
        return Err(ApiError::bad_request("Secret import already exists"));
    }
    if project.would_circle(&import) {
        return Err(ApiError::bad_request("Creating this import would make a cycle of imports"));
    }
    let position = project.imports_into(&import.environment, &import.path).len() + 1;
    let place = (import.environment.as_str(), import.path.as_str());
    let shown = show(project, place, &import.from, position);
    let project = call.fake.state.project_mut(&id).ok_or_else(ApiError::internal)?;
    project.imports.push(import);
    call.fake.etags.forget(&id);
    let message = "Successfully created secret import";
    Ok(Response::json(200, &json!({"message": message, "secretImport": shown})))
}

fn known_folder(project: &Project, environment: &str, path: &str) -> Result<(), ApiError> {
    if project.folder(environment, path).is_some() {
        return Ok(());
    }
    Err(ApiError::not_found(format!(
        "Folder with path '{path}' not found in environment with slug '{environment}'"
    )))
}

fn show(project: &Project, into: (&str, &str), from: &Place, position: usize) -> Value {
    let (environment, path) = into;
    let folder = project.folder_id(environment, path);
    json!({
        "id": project.folder_id(&format!("{environment}{path}"), &format!("/{}{}", from.environment, from.path)),
        "version": 1,
        "importPath": from.path,
        "importEnv": {
            "id": project.environment_id(&from.environment),
            "slug": from.environment,
            "name": from.environment,
        },
        "position": position,
        "folderId": folder,
        "isReplication": false,
        "isReserved": false,
        "createdAt": iso8601(0),
        "updatedAt": iso8601(0),
    })
}
