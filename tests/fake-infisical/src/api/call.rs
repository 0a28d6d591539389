//! A call: the server, the request, the caller and the project.

use std::net::IpAddr;

use super::error::ApiError;
use super::fields::Fields;
use crate::auth::jwt::Claims;
use crate::auth::renewal;
use crate::dialect::Api;
use crate::fake::FakeInfisical;
use crate::http::request::Request;
use crate::state::State;
use crate::state::permission::Permission;
use crate::state::project::Project;

pub struct Call<'a> {
    pub fake: &'a mut FakeInfisical,
    pub request: &'a Request,
    pub from: IpAddr,
}

impl<'a> Call<'a> {
    pub fn new(fake: &'a mut FakeInfisical, request: &'a Request, from: IpAddr) -> Self {
        Self { fake, request, from }
    }

    /// Runs before the query or body is read, as the server's `onRequest` does.
    pub fn authenticate(&mut self) -> Result<Claims, ApiError> {
        let header = self.request.header("authorization").unwrap_or_default();
        if header.is_empty() {
            return Err(ApiError::unauthorized("Token missing"));
        }
        // The server cuts off the length of "Bearer ", whatever the text is
        let token = header.get("Bearer ".len()..).unwrap_or_default().trim();
        if token.is_empty() {
            return Err(ApiError::token(403, "jwt must be provided"));
        }
        if let Some(service_token) = token.strip_prefix("st.") {
            let id = service_token.split('.').next().unwrap_or_default();
            return Err(ApiError::not_found(format!("Service token with ID '{id}' not found")));
        }
        renewal::authenticate(self.fake, token, self.from)
    }
}

/// The proxy's header is used, as by the server's `realIp`, so a test can have another address.
pub fn client_address(request: &Request, peer: IpAddr) -> IpAddr {
    request
        .header("x-forwarded-for")
        .and_then(|list| list.split(',').next())
        .and_then(|first| first.trim().parse().ok())
        .unwrap_or(peer)
}

/// The project and the identity's permissions in it: first 404, then 403.
pub fn membership<'w>(
    fake: &'w FakeInfisical,
    project: &str,
    identity: &str,
) -> Result<(&'w Project, Permission), ApiError> {
    let project = known_project(&fake.state, project)?;
    let keep = fake.settings.permission_cache_seconds.saturating_mul(1000);
    let permission = fake
        .permissions
        .of(project, identity, fake.clock.now(), keep)
        .ok_or_else(|| ApiError::not_a_member(&project.id))?;
    if !project.holds_secrets() {
        return Err(ApiError::bad_request(format!(
            "The project is of type {}. Operations of type secret-manager are not allowed.",
            project.kind
        )));
    }
    Ok((project, permission))
}

pub fn known_project<'w>(state: &'w State, project: &str) -> Result<&'w Project, ApiError> {
    state.project(project).ok_or_else(|| ApiError::project_not_found(project))
}

/// The project's name in a request; `v4` accepts no slugs.
pub enum ProjectReference {
    Id(String),
    Slug(String),
    None,
}

impl ProjectReference {
    pub fn of_query(fields: &mut Fields, api: Api) -> Self {
        match api {
            Api::V3 => Self::of(fields.text("workspaceId"), fields.text("workspaceSlug")),
            Api::V4 => Self::of(fields.text("projectId"), None),
        }
    }

    /// An empty string is no value, as in JavaScript.
    pub fn of(id: Option<String>, slug: Option<String>) -> Self {
        let given = |text: &String| !text.is_empty();
        match (id.filter(given), slug.filter(given)) {
            (Some(id), _) => Self::Id(id),
            (None, Some(slug)) => Self::Slug(slug),
            (None, None) => Self::None,
        }
    }

    pub fn resolve(self, state: &State) -> Result<Option<String>, ApiError> {
        match self {
            Self::None => Ok(None),
            Self::Id(id) => Ok(Some(id).filter(|id| !id.is_empty())),
            Self::Slug(slug) => match state.project_by_slug(&slug) {
                Some(project) => Ok(Some(project.id.clone())),
                None => Err(ApiError::not_found(format!("Project with slug '{slug}' not found"))),
            },
        }
    }
}
