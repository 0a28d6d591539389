//! Azure auth: an access token, as `identity-azure-auth-fns.ts` verifies it.

use serde_json::json;

use super::renewal;
use super::rs256::{Flaw, Issuer};
use crate::api::error::ApiError;
use crate::fake::FakeInfisical;
use crate::state::cloud::ManagedIdentity;

/// A token of the metadata service for a managed identity; its audience has no trailing slash
/// unless the resource has one.
pub fn mint(fake: &FakeInfisical, identity: &ManagedIdentity, resource: &str) -> String {
    let cloud = &fake.state.cloud;
    let now = fake.clock.now() / 1000;
    let claims = json!({
        "aud": resource,
        "iss": issuer(&cloud.azure.tenant),
        "iat": now,
        "nbf": now,
        "exp": now.saturating_add_signed(cloud.tokens.lifetime_seconds),
        "appid": identity.client_id,
        "appidacr": "2",
        "idtyp": "app",
        "oid": identity.object_id,
        "sub": identity.object_id,
        "tid": cloud.azure.tenant,
        "ver": "1.0",
    });
    Issuer::Azure.sign(&claims, cloud.tokens.forged)
}

pub fn verify(fake: &FakeInfisical, identity: &str, jwt: &str) -> Result<(), ApiError> {
    let identity = fake.state.identity(identity);
    let settings =
        identity.and_then(|identity| identity.methods.azure.as_ref()).ok_or_else(|| {
            ApiError::not_found(
                "Azure auth method not found for identity, did you configure Azure Auth?",
            )
        })?;
    let claims = Issuer::Azure.verify(jwt).map_err(|flaw| match flaw {
        // The server reads from a token that it could not decode.
        Flaw::Malformed => ApiError::internal(),
        Flaw::UnknownKey => ApiError::unauthorized("Invalid signing key"),
        Flaw::WrongSignature => ApiError::token(403, "invalid signature"),
    })?;
    let text = |name: &str| claims[name].as_str().unwrap_or_default();
    if renewal::server_seconds(fake) >= claims["exp"].as_u64().unwrap_or(0) {
        return Err(ApiError::token(403, "Your token has expired. Please re-authenticate."));
    }
    let mut resource = settings.resource.as_str();
    if !text("aud").ends_with('/') {
        resource = resource.strip_suffix('/').unwrap_or(resource);
    }
    let issuer = issuer(&settings.tenant_id);
    for (name, value, expected) in
        [("audience", text("aud"), resource), ("issuer", text("iss"), &issuer)]
    {
        if value != expected {
            let message = format!("jwt {name} invalid. expected: {expected}");
            return Err(ApiError::token(403, &message));
        }
    }
    if text("tid") != settings.tenant_id {
        return Err(ApiError::unauthorized("Tenant ID mismatch"));
    }
    if !settings.allowed_service_principal_ids.allows(text("oid")) {
        let message = format!("Service principal '{}' not allowed", text("oid"));
        return Err(ApiError::unauthorized(message));
    }
    Ok(())
}

fn issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}
