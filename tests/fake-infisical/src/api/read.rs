//! Reads of secrets: the list, and one by name.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::call::{Call, ProjectReference, known_project, membership};
use super::error::ApiError;
use super::etag;
use super::fields::Fields;
use crate::dialect::{Api, Dialect};
use crate::http::response::Response;
use crate::secrets::Access;
use crate::secrets::get::{self, GetQuery};
use crate::secrets::list::{self, ListQuery, MetadataFilter};

pub fn list(mut call: Call<'_>, api: Api) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let spelling = call.fake.dialect.spelling(api);
    let mut fields = Fields::of_query(call.request);
    let reference = ProjectReference::of_query(&mut fields, api);
    let environment = fields.text("environment").unwrap_or_default();
    let query = ListQuery {
        environment,
        path: fields.folder("secretPath"),
        sent_path: fields.sent_folder("secretPath"),
        near: api == Api::V4 && call.fake.dialect == Dialect::V4Current,
        recursive: fields.flag("recursive", false),
        view_values: fields.flag("viewSecretValue", true),
        expand: fields.flag("expandSecretReferences", spelling.expand_by_default),
        imports: fields.flag(spelling.imports, spelling.imports_by_default),
        tags: comma_list(fields.text("tagSlugs")),
        metadata: MetadataFilter::parse(&fields.text("metadataFilter").unwrap_or_default()),
    };
    if spelling.native_etag {
        // Only users have personal overrides, so the parameter is validated and ignored
        fields.flag("includePersonalOverrides", false);
    }
    if query.metadata.is_too_long() {
        fields.refuse("metadataFilter", "You can only filter by up to 10 metadata fields");
    }
    fields.finish()?;
    plain_path(&query.path)?;

    let project = reference.resolve(&call.fake.state)?;
    let project = match api {
        Api::V3 => Some(project.ok_or_else(no_project)?),
        Api::V4 => project,
    };
    let missing = || ApiError::bad_request("Missing project id or environment");
    let project = project.filter(|_| !query.environment.is_empty()).ok_or_else(missing)?;
    let asked = format!("{} {project} {}", claims.identity_id, query.name());
    let now = call.fake.clock.now();
    // Before any permission is checked, with the present permissions
    let permission = known_project(&call.fake.state, &project)?.permission_of(&claims.identity_id);
    let key = format!("{asked} {api:?} {permission:?}");
    let kept = call.fake.etags.of(&project, &key, now).filter(|_| spelling.native_etag);
    if let Some(tag) = kept.filter(|tag| etag::matches(call.request, tag)) {
        return Ok(etag::not_modified(Response::json(200, &"")).with_header("etag", tag));
    }
    let (found, permission) = membership(call.fake, &project, &claims.identity_id)?;
    let access = Access::new(call.fake, found, &permission);
    let listing = list::list(&access, &query)?;
    let response = Response::json(200, &listing);
    if !spelling.native_etag {
        return Ok(response);
    }
    let tag = native_etag(&asked, &response.body);
    let keep = call.fake.settings.etag_seconds.saturating_mul(1000);
    call.fake.etags.keep(&project, key, tag.clone(), now, keep);
    Ok(response.with_header("etag", tag))
}

pub fn get(mut call: Call<'_>, api: Api, name: &str) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let spelling = call.fake.dialect.spelling(api);
    let mut fields = Fields::of_query(call.request);
    let reference = match api {
        Api::V3 => ProjectReference::of_query(&mut fields, api),
        Api::V4 => ProjectReference::Id(fields.required("projectId")),
    };
    let query = GetQuery {
        name: name.trim().to_owned(),
        environment: fields.text("environment").unwrap_or_default(),
        path: fields.folder("secretPath"),
        sent_path: fields.sent_folder("secretPath"),
        version: fields.number("version"),
        personal: fields.choice("type", &["shared", "personal"], "shared") == "personal",
        view_values: fields.flag("viewSecretValue", true),
        expand: fields.flag("expandSecretReferences", spelling.expand_by_default),
        imports: fields.flag(spelling.imports, spelling.imports_by_default),
    };
    fields.finish()?;
    plain_path(&query.path)?;

    let project = reference.resolve(&call.fake.state)?;
    if api == Api::V3 && project.is_none() {
        return Err(no_project());
    }
    if query.environment.is_empty() {
        return Err(ApiError::bad_request("Missing environment"));
    }
    let project = project.ok_or_else(no_project)?;
    let (project, permission) = membership(call.fake, &project, &claims.identity_id)?;
    let access = Access::new(call.fake, project, &permission);
    let secret = get::get(&access, &query)?;
    Ok(Response::json(200, &serde_json::json!({ "secret": secret })))
}

fn no_project() -> ApiError {
    ApiError::bad_request("You must provide projectSlug or workspaceId")
}

/// No folder name has a control character; the server checks that first.
pub fn plain_path(path: &str) -> Result<(), ApiError> {
    if path.chars().any(|c| c.is_ascii_control()) {
        return Err(ApiError::bad_request("Invalid secret path"));
    }
    Ok(())
}

fn comma_list(list: Option<String>) -> Vec<String> {
    let list = list.unwrap_or_default();
    let items = list.split(',').map(str::trim);
    items.filter(|i| !i.is_empty()).map(str::to_owned).collect()
}

/// Opaque, and different for each query and identity, like the server's cache key.
fn native_etag(asked: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [asked.as_bytes(), body] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    format!("\"{}\"", HEXLOWER.encode(&hash.finalize()))
}
