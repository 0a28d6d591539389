//! Azure's Instance Metadata Service: tokens of the machine's managed identities.

use serde_json::json;

use super::parameter;
use crate::auth::azure;
use crate::fake::FakeInfisical;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::state::cloud::ManagedIdentity;

pub(super) fn answer(fake: &FakeInfisical, request: &Request, path: &[&str]) -> Response {
    if path != ["identity", "oauth2", "token"] {
        return refusal(404, "not_found", "The requested resource was not found");
    }
    if request.header("metadata") != Some("true") {
        return refusal(400, "invalid_request", "Required metadata header not specified");
    }
    if request.header("x-forwarded-for").is_some() {
        return refusal(400, "invalid_request", "The request must not come through a proxy");
    }
    for name in ["api-version", "resource"] {
        if parameter(request, name).is_none() {
            let words = format!("Required query variable '{name}' is missing");
            return refusal(400, "invalid_request", &words);
        }
    }
    let resource = parameter(request, "resource").unwrap_or_default();
    match wanted(fake, parameter(request, "client_id").as_deref()) {
        Ok(identity) => token(fake, identity, &resource),
        Err(why) => refusal(400, "invalid_request", why),
    }
}

fn wanted<'d>(
    fake: &'d FakeInfisical,
    client_id: Option<&str>,
) -> Result<&'d ManagedIdentity, &'static str> {
    let all = &fake.state.cloud.azure.identities;
    match (client_id, all.as_slice()) {
        (Some(id), _) => all.iter().find(|one| one.client_id == id).ok_or("Identity not found"),
        (None, [only]) => Ok(only),
        (None, []) => Err("Identity not found"),
        (None, _) => Err("Multiple user assigned identities exist, please specify the clientId / \
                          resourceId of the identity in the token request"),
    }
}

/// Numbers are strings here.
fn token(fake: &FakeInfisical, identity: &ManagedIdentity, resource: &str) -> Response {
    let lifetime = fake.state.cloud.tokens.lifetime_seconds;
    let now = fake.clock.now() / 1000;
    let body = json!({
        "access_token": azure::mint(fake, identity, resource),
        "client_id": identity.client_id,
        "expires_in": lifetime.to_string(),
        "expires_on": now.saturating_add_signed(lifetime).to_string(),
        "ext_expires_in": lifetime.to_string(),
        "not_before": now.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    });
    Response::json(200, &body)
}

fn refusal(status: u16, error: &str, description: &str) -> Response {
    Response::json(status, &json!({"error": error, "error_description": description}))
}
