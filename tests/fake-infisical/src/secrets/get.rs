//! One secret by its name.

use super::expand::Nearby;
use super::imports::ImportReading;
use super::view::{SecretView, Shape};
use super::{Access, Found};
use crate::api::error::ApiError;
use crate::state::permission::Action;
use crate::state::secret::Secret;

pub struct GetQuery {
    pub name: String,
    pub environment: String,
    pub path: String,
    /// The path as it was sent, which the answer repeats
    pub sent_path: String,
    pub version: Option<u64>,
    /// Only users have personal secrets, so a machine finds none
    pub personal: bool,
    pub view_values: bool,
    pub expand: bool,
    pub imports: bool,
}

/// The folder's own secret has precedence, then its imports, the last of them first.
pub fn get(access: &Access<'_>, query: &GetQuery) -> Result<SecretView, ApiError> {
    let GetQuery { name, environment, path, .. } = query;
    if !access.may(Action::Describe, environment, path) {
        return Err(ApiError::permission_denied(Action::Describe, access.permission));
    }
    let Some(folder) = access.project.folder(environment, path) else {
        return Err(ApiError::folder_not_found("GetSecretByName", environment, path));
    };
    let own = folder.secrets.get(name).filter(|_| !query.personal);
    let own = match query.version {
        None => own.cloned(),
        Some(version) => own.and_then(|secret| secret.at_version(version)),
    };
    let found = match &own {
        Some(secret) => Found { path: query.sent_path.clone(), ..read(access, query, secret)? },
        None if query.imports => from_imports(access, query)?,
        None => return Err(not_found(name)),
    };
    let shape = if query.version.is_some() { Shape::Version } else { Shape::Read };
    Ok(SecretView::new(&access.project.id, &found, shape))
}

fn read<'w>(
    access: &Access<'_>,
    query: &'w GetQuery,
    secret: &'w Secret,
) -> Result<Found<'w>, ApiError> {
    let GetQuery { name, environment, path, .. } = query;
    let readable = access.may(Action::ReadValue, environment, path);
    let mask = !query.view_values || (access.hidden_values && !readable);
    let mut found = Found::new(environment, path, name, secret, mask);
    if mask {
        return Ok(found);
    }
    if query.expand {
        found.value = access
            .expand((environment, path), name, secret, &Nearby::default())
            .map_err(ApiError::forbidden)?;
    }
    if !readable {
        return Err(unreadable("secret value", name));
    }
    Ok(found)
}

fn from_imports<'w>(access: &Access<'w>, query: &GetQuery) -> Result<Found<'w>, ApiError> {
    let places = access.project.imports_into(&query.environment, &query.path);
    let reading = ImportReading {
        needs: &[Action::Describe],
        view_values: query.view_values,
        expand: query.expand && query.view_values,
    };
    for entry in access.imported(places, reading).into_iter().rev() {
        let Some(found) = entry.secrets.into_iter().find(|f| f.key == query.name) else {
            continue;
        };
        if query.view_values && !access.may(Action::ReadValue, &found.environment, &found.path) {
            return Err(unreadable("secret import value", &query.name));
        }
        // Reported as the import's, not as that of a nested import
        return Ok(Found { environment: entry.place.environment, path: entry.place.path, ..found });
    }
    Err(not_found(&query.name))
}

fn not_found(name: &str) -> ApiError {
    ApiError::not_found(format!("Secret with name '{name}' not found"))
}

fn unreadable(what: &str, name: &str) -> ApiError {
    let message = format!("You do not have permission to view {what} on secret with name '{name}'");
    ApiError::new(403, "ForbiddenReadSecretError", message)
}
