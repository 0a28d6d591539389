//! The properties of a request by which rules match.

use serde_json::Value;

use crate::api::route::{Endpoint, Route};
use crate::auth::jwt;
use crate::fake::FakeInfisical;
use crate::http::request::Request;
use crate::net::PublicPort;
use crate::state::project::normal_path;

pub struct Subject<'a> {
    pub request: &'a Request,
    pub face: PublicPort,
    pub route: Option<Route>,
    /// Of a read or write of secrets, or of their imports
    pub secret_path: Option<String>,
    /// The secret that is requested by name
    pub key: Option<String>,
    /// The identity that logs in, or that of the token
    pub identity: Option<String>,
}

impl<'a> Subject<'a> {
    pub fn of(
        fake: &FakeInfisical,
        request: &'a Request,
        endpoint: Option<&Endpoint>,
        face: PublicPort,
    ) -> Self {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let route = endpoint.map(Endpoint::route);
        Self {
            request,
            face,
            route,
            secret_path: route.and_then(|route| secret_path(route, request, &body)),
            key: endpoint.and_then(Endpoint::key).map(str::to_owned),
            identity: identity(fake, request, &body),
        }
    }
}

fn secret_path(route: Route, request: &Request, body: &Value) -> Option<String> {
    let name = match route {
        Route::List | Route::Get | Route::Write | Route::Batch => "secretPath",
        Route::Imports | Route::Folders => "path",
        _ => return None,
    };
    let query = request.query_map();
    let path = query.get(name).or(body.get(name)).and_then(Value::as_str);
    Some(normal_path(path.unwrap_or_default()))
}

fn identity(fake: &FakeInfisical, request: &Request, body: &Value) -> Option<String> {
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    if let Some(client) = text("clientId") {
        let mut identities = fake.state.identities.iter();
        return Some(identities.find(|identity| identity.client_id == client)?.id.clone());
    }
    if let Some(id) = text("identityId") {
        return Some(id.to_owned());
    }
    let (_, token) = request.header("authorization")?.split_once(' ')?;
    // Validity is checked by the server, not by the rule
    let claims = jwt::verify(token.trim(), &fake.settings.auth_secret, 0).ok()?;
    Some(claims.identity_id)
}
