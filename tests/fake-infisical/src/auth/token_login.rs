//! JWT, OIDC and SPIFFE auth: a token that an issuer signed, as `identity-jwt-auth-service.ts` (static public
//! keys), `identity-oidc-auth-service.ts` and `identity-spiffe-auth-service.ts` verify it. Its issuer is played here
//! and keeps the real time, as the cluster does.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::rs256::{Flaw, Issuer};
use crate::api::error::ApiError;
use crate::fake::FakeInfisical;
use crate::state::method::is_like;

/// What a token is to be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenOrder {
    issuer: TokenIssuer,
    /// Besides `iat` and `exp`, or in their place
    #[serde(default)]
    claims: Map<String, Value>,
    /// Negative: expired from the beginning
    #[serde(default = "an_hour")]
    lifetime_seconds: i64,
    #[serde(default)]
    forged: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum TokenIssuer {
    Jwt,
    Oidc,
    Spiffe,
}

fn an_hour() -> i64 {
    3600
}

pub fn mint(fake: &FakeInfisical, order: &TokenOrder) -> String {
    let now = fake.clock.real() / 1000;
    let mut claims = json!({"iat": now, "exp": now.saturating_add_signed(order.lifetime_seconds)});
    for (name, value) in &order.claims {
        claims[name] = value.clone();
    }
    let issuer = match order.issuer {
        TokenIssuer::Jwt => Issuer::Jwt,
        TokenIssuer::Oidc => Issuer::Oidc,
        TokenIssuer::Spiffe => Issuer::Spiffe,
    };
    issuer.sign(&claims, order.forged)
}

/// Any key of the identity may have signed it.
pub fn verify_jwt(fake: &FakeInfisical, identity: &str, jwt: &str) -> Result<(), ApiError> {
    let identity = fake.state.identity(identity);
    let bindings =
        identity.and_then(|identity| identity.methods.jwt.as_ref()).ok_or_else(|| {
            ApiError::not_found(
                "JWT auth method not found for identity, did you configure JWT auth?",
            )
        })?;
    let why = |what: &str| {
        let message =
            format!("Access denied: JWT verification failed with all keys. Errors - {what}");
        ApiError::unauthorized(message)
    };
    let claims = match Issuer::Jwt.verify(jwt) {
        Ok(claims) => claims,
        Err(Flaw::Malformed) => return Err(ApiError::unauthorized("Invalid JWT")),
        Err(_) => return Err(why("invalid signature")),
    };
    if let Some(what) = outside_validity(fake, &claims) {
        return Err(why(what));
    }
    let bound = |setting: &str| !setting.is_empty();
    if bound(&bindings.bound_issuer) && claims["iss"] != bindings.bound_issuer.as_str() {
        return Err(ApiError::forbidden("Access denied: issuer mismatch"));
    }
    for (setting, claim, lacking) in [
        (&bindings.bound_subject, "sub", "subject"),
        (&bindings.bound_audiences, "aud", "audience"),
    ] {
        if bound(setting) && claims[claim].is_null() {
            let message = format!("Access denied: token has no {lacking} field");
            return Err(ApiError::unauthorized(message));
        }
    }
    if bound(&bindings.bound_subject) && !matches(&claims["sub"], &bindings.bound_subject) {
        return Err(ApiError::forbidden("Access denied: subject not allowed"));
    }
    if bound(&bindings.bound_audiences) && !any_matches(&claims["aud"], &bindings.bound_audiences) {
        return Err(ApiError::unauthorized("Access denied: token audience not allowed"));
    }
    bound_claims(&bindings.bound_claims, &claims, |name| {
        format!("Access denied: claim mismatch for field {name}")
    })
}

/// The key with the id in the token's header must have signed it.
pub fn verify_oidc(fake: &FakeInfisical, identity: &str, jwt: &str) -> Result<(), ApiError> {
    let identity = fake.state.identity(identity);
    let settings =
        identity.and_then(|identity| identity.methods.oidc.as_ref()).ok_or_else(|| {
            ApiError::not_found(
                "OIDC auth method not found for identity, did you configure OIDC auth?",
            )
        })?;
    if !settings.reachable {
        return Err(ApiError::unauthorized(format!(
            "Access denied: Failed to fetch OIDC discovery document from {}. \
             Request failed with status code 404",
            settings.oidc_discovery_url
        )));
    }
    let claims = Issuer::Oidc.verify(jwt).map_err(|flaw| match flaw {
        Flaw::Malformed => ApiError::unauthorized("Invalid JWT"),
        Flaw::UnknownKey => ApiError::unauthorized(
            "Access denied: Unable to verify JWT signature. The signing key 'unknown' was not found in the \
             OIDC provider's JWKS endpoint. This may indicate an invalid token or misconfigured OIDC provider.",
        ),
        Flaw::WrongSignature => ApiError::unauthorized("Access denied: invalid signature"),
    })?;
    if let Some(what) = outside_validity(fake, &claims) {
        return Err(ApiError::unauthorized(format!("Access denied: {what}")));
    }
    if claims["iss"] != settings.bound_issuer.as_str() {
        return Err(ApiError::unauthorized(format!(
            "Access denied: jwt issuer invalid. expected: {}",
            settings.bound_issuer
        )));
    }
    if !settings.bound_subject.is_empty() && !matches(&claims["sub"], &settings.bound_subject) {
        return Err(ApiError::forbidden("Access denied: OIDC subject not allowed."));
    }
    if !settings.bound_audiences.is_empty()
        && !any_matches(&claims["aud"], &settings.bound_audiences)
    {
        return Err(ApiError::unauthorized("Access denied: OIDC audience not allowed."));
    }
    bound_claims(&settings.bound_claims, &claims, |_| {
        "Access denied: OIDC claim not allowed.".to_owned()
    })
}

/// A JWT-SVID. The audience is looked at before the expiry, as `jose` does.
pub fn verify_spiffe(fake: &FakeInfisical, identity: &str, jwt: &str) -> Result<(), ApiError> {
    let identity = fake.state.identity(identity);
    let settings =
        identity.and_then(|identity| identity.methods.spiffe.as_ref()).ok_or_else(|| {
            ApiError::not_found(
                "SPIFFE auth method not found for identity, did you configure SPIFFE auth?",
            )
        })?;
    let claims = Issuer::Spiffe.verify(jwt).map_err(|flaw| match flaw {
        Flaw::WrongSignature => ApiError::unauthorized("JWT-SVID signature verification failed"),
        Flaw::Malformed | Flaw::UnknownKey => {
            ApiError::unauthorized("JWT-SVID verification failed")
        }
    })?;
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let allowed = settings.allowed_audiences.split(',').map(str::trim);
    if !allowed.filter(|one| !one.is_empty()).any(|one| audiences.contains(&one)) {
        return Err(ApiError::unauthorized("JWT-SVID audience validation failed"));
    }
    if is_expired(fake, &claims) {
        return Err(ApiError::unauthorized("JWT-SVID has expired"));
    }
    let id = claims["sub"].as_str().unwrap_or_default();
    let domain = id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
    let is_allowed = settings.allowed_spiffe_ids.split(',').any(|one| is_like(id, one.trim()));
    if domain != Some(&settings.trust_domain) || !is_allowed {
        return Err(ApiError::unauthorized("Access denied"));
    }
    Ok(())
}

/// As `jsonwebtoken` says it; it allows for no difference of the clocks.
fn outside_validity(fake: &FakeInfisical, claims: &Value) -> Option<&'static str> {
    let now = fake.clock.real() / 1000;
    match claims["nbf"].as_u64() {
        Some(start) if start > now => Some("jwt not active"),
        _ => is_expired(fake, claims).then_some("jwt expired"),
    }
}

fn is_expired(fake: &FakeInfisical, claims: &Value) -> bool {
    fake.clock.real() / 1000 >= claims["exp"].as_u64().unwrap_or(u64::MAX)
}

fn bound_claims(
    bound: &BTreeMap<String, String>,
    claims: &Value,
    mismatch: impl Fn(&str) -> String,
) -> Result<(), ApiError> {
    for (name, policy) in bound {
        let value = name.split('.').fold(claims, |value, part| &value[part]);
        if value.is_null() {
            let message = format!("Access denied: token has no {name} field");
            return Err(ApiError::unauthorized(message));
        }
        if !any_matches(value, policy) {
            return Err(ApiError::unauthorized(mismatch(name)));
        }
    }
    Ok(())
}

/// Whether a claim is one of a policy's values, which a comma and a blank part.
fn any_matches(value: &Value, policy: &str) -> bool {
    policy.split(", ").any(|one| matches(value, one))
}

fn matches(value: &Value, policy: &str) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|one| matches(one, policy)),
        Value::String(text) => is_like(text, policy),
        Value::Null => false,
        // As JSON text: `Value == str` compares only strings.
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => format!("{value}") == policy,
    }
}
