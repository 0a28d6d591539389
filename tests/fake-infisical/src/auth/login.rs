//! Universal-auth login, in the server's order of checks; and the token of every login.

use std::net::IpAddr;

use uuid::Uuid;

use super::address::is_trusted;
use super::jwt::{self, Claims};
use super::{Grant, renewal};
use crate::api::error::ApiError;
use crate::fake::FakeInfisical;
use crate::settings::TokenDesign;
use crate::state::ORGANISATION;
use crate::state::identity::Identity;

/// The maximum that a periodic token reports: 30 years, for no limit.
const FOR_EVER: u64 = 1_000_000_000;

pub struct Credentials {
    pub client_id: String,
    pub client_secret: String,
    pub sub_organisation: Option<String>,
}

/// The lockout is checked before the secret: a locked identity fails with the right secret too.
pub fn login(
    fake: &mut FakeInfisical,
    credentials: &Credentials,
    from: IpAddr,
) -> Result<Grant, ApiError> {
    let now = fake.clock.now();
    let identity =
        fake.state.identity_by_client(&credentials.client_id).ok_or_else(invalid_credentials)?;
    if !is_trusted(from, &identity.client_secret_trusted_ips) {
        return Err(ApiError::untrusted_address());
    }
    if identity.attempts.is_locked(now) {
        return Err(ApiError::unauthorized(
            "This identity auth method is temporarily locked, please try again later",
        ));
    }
    let matching = identity
        .client_secrets
        .iter_mut()
        .find(|secret| !secret.revoked && secret.secret == credentials.client_secret);
    let Some(secret) = matching else {
        identity.attempts.fail(identity.lockout, now);
        return Err(invalid_credentials());
    };
    identity.attempts.clear();
    if secret.is_expired(now) {
        secret.revoked = true;
        return Err(ApiError::unauthorized("Access denied due to expired client secret"));
    }
    if secret.is_used_up() {
        secret.revoked = true;
        return Err(ApiError::unauthorized(
            "Access denied due to client secret usage limit reached",
        ));
    }
    if let Some(name) = &credentials.sub_organisation {
        return Err(ApiError::not_found(format!("Sub organization with name {name} not found")));
    }
    secret.uses += 1;
    let secret_id = secret.id.clone();
    let identity = identity.clone();
    Ok(issue(fake, &identity, "universal-auth", secret_id))
}

/// The end of a login by another method, whose proof was verified.
pub fn admit(
    fake: &mut FakeInfisical,
    identity: &str,
    method: &'static str,
) -> Result<Grant, ApiError> {
    let identity = fake.state.identity(identity).cloned();
    let identity = identity.ok_or_else(|| ApiError::unauthorized("Identity not found"))?;
    Ok(issue(fake, &identity, method, String::new()))
}

fn issue(
    fake: &mut FakeInfisical,
    identity: &Identity,
    method: &'static str,
    client_secret_id: String,
) -> Grant {
    let now = renewal::server_seconds(fake);
    let design = fake.settings.token_design;
    let (ttl, max_ttl) = match identity.access_token_period {
        0 => (identity.access_token_ttl, identity.access_token_max_ttl),
        period => (period, FOR_EVER),
    };
    let granted = match design {
        TokenDesign::New => renewal::clamped_ttl(ttl, max_ttl, now, now),
        TokenDesign::Old => ttl,
    };
    let granted = if fake.settings.expires_in_zero { 0 } else { granted };
    let id = Uuid::new_v4().to_string();
    let claims = Claims {
        identity_id: identity.id.clone(),
        identity_name: identity.name.clone(),
        auth_method: method.to_owned(),
        org_id: ORGANISATION.to_owned(),
        root_org_id: ORGANISATION.to_owned(),
        parent_org_id: ORGANISATION.to_owned(),
        client_secret_id,
        identity_access_token_id: id.clone(),
        jti: id,
        ip_restriction_enabled: identity
            .access_token_trusted_ips
            .iter()
            .any(|network| !network.ends_with("/0")),
        access_token_ttl: ttl,
        access_token_max_ttl: max_ttl,
        access_token_period: identity.access_token_period,
        creation_epoch: now,
        num_uses_limit: Some(identity.access_token_num_uses_limit).filter(|limit| *limit > 0),
        auth_token_type: "identityAccessToken".to_owned(),
        iat: now,
        exp: (granted > 0).then_some(now + granted),
    };
    fake.tokens.issue(&claims);
    Grant {
        access_token: jwt::sign(&claims, &fake.settings.auth_secret),
        expires_in: granted,
        access_token_max_ttl: max_ttl,
        token_type: "Bearer",
    }
}

fn invalid_credentials() -> ApiError {
    ApiError::unauthorized("Invalid credentials")
}
