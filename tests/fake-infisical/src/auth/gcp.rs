//! GCP auth of the type `gce`: an ID token, as `identity-gcp-auth-fns.ts` verifies it.

use serde_json::json;

use super::renewal;
use super::rs256::Issuer;
use crate::api::error::ApiError;
use crate::fake::FakeInfisical;

const ISSUER: &str = "https://accounts.google.com";
/// The clock skew that Google's library accepts, in seconds.
const SKEW: u64 = 300;

/// A token of the metadata server for this audience.
pub fn mint(fake: &FakeInfisical, email: &str, audience: &str) -> String {
    let cloud = &fake.state.cloud;
    let now = fake.clock.now() / 1000;
    let claims = json!({
        "aud": audience,
        "azp": "113774264463038321964",
        "email": email,
        "email_verified": true,
        "exp": now.saturating_add_signed(cloud.tokens.lifetime_seconds),
        "google": {"compute_engine": {
            "instance_creation_timestamp": 1_700_000_000,
            "instance_id": "3802628075545820873",
            "instance_name": "host",
            "project_id": cloud.gcp.project,
            "project_number": 123_456_789,
            "zone": cloud.gcp.zone,
        }},
        "iat": now,
        "iss": ISSUER,
        "sub": "113774264463038321964",
    });
    Issuer::Google.sign(&claims, cloud.tokens.forged)
}

pub fn verify(fake: &FakeInfisical, identity: &str, jwt: &str) -> Result<(), ApiError> {
    let known = fake.state.identity(identity);
    let settings = known.and_then(|known| known.methods.gcp.as_ref()).ok_or_else(|| {
        ApiError::not_found("GCP auth method not found for identity, did you configure GCP auth?")
    })?;
    // Until 2026, an exception of the library ended in the server's catch-all.
    let refusal = || match fake.settings.gcp_refusal_500 {
        false => ApiError::unauthorized("Invalid GCP ID token"),
        true => ApiError::internal(),
    };
    let claims = Issuer::Google.verify(jwt).map_err(|_| refusal())?;
    let expires = claims["exp"].as_u64().unwrap_or(0);
    let expired = renewal::server_seconds(fake) > expires + SKEW;
    if expired || claims["aud"] != identity || claims["iss"] != ISSUER {
        return Err(refusal());
    }
    let is_bound =
        !settings.allowed_service_accounts.is_empty() || !settings.allowed_projects.is_empty();
    if fake.settings.require_trust_binding && !is_bound {
        return Err(ApiError::unauthorized(if settings.allowed_zones.is_empty() {
            "Access denied: GCP auth method has no allowlist configured."
        } else {
            "Access denied: GCP auth method restricts only by zone, which any GCP customer can match. \
             Add an allowed service account or project."
        }));
    }
    let engine = &claims["google"]["compute_engine"];
    for (list, value, what) in [
        (&settings.allowed_service_accounts, &claims["email"], "service account"),
        (&settings.allowed_projects, &engine["project_id"], "project"),
        (&settings.allowed_zones, &engine["zone"], "zone"),
    ] {
        if !list.allows(value.as_str().unwrap_or_default()) {
            return Err(ApiError::unauthorized(format!("Access denied: GCP {what} not allowed.")));
        }
    }
    Ok(())
}
