//! Validation, renewal and revocation of access tokens, in both designs.

use std::net::IpAddr;

use super::Grant;
use super::address::is_trusted;
use super::jwt::{self, Claims, Flaw};
use super::tokens::Revoked;
use crate::api::error::ApiError;
use crate::fake::FakeInfisical;
use crate::settings::TokenDesign;

/// The longest life of a token in the new design: `MAX_MACHINE_IDENTITY_TOKEN_AGE`, 90 days.
const OLDEST_TOKEN: u64 = 7_776_000;

/// Seconds since 1970 by the server's wall clock, which a test may have skewed.
pub fn server_seconds(fake: &FakeInfisical) -> u64 {
    let seconds = fake.clock.now() / 1000;
    seconds.saturating_add_signed(fake.settings.clock_skew_seconds)
}

/// The new design's lifetime: the requested one, cut to the rest of the maximum. 0 requests the
/// longest one, and a maximum of 0 is no limit.
pub fn clamped_ttl(ttl: u64, max_ttl: u64, created: u64, now: u64) -> u64 {
    let wanted = if ttl == 0 { OLDEST_TOKEN } else { ttl };
    let left = if max_ttl == 0 { OLDEST_TOKEN } else { (created + max_ttl).saturating_sub(now) };
    wanted.min(left).min(OLDEST_TOKEN)
}

/// Counts one use of the token, and returns its identity.
pub fn authenticate(
    fake: &mut FakeInfisical,
    token: &str,
    from: IpAddr,
) -> Result<Claims, ApiError> {
    let claims = verify(fake, token)?;
    belongs(fake, &claims)?;
    if let Some(revoked) = fake.tokens.revocation(&claims) {
        return Err(refused(fake, revoked, "Failed to authorize"));
    }
    if fake.tokens.is_used_up(&claims) {
        return Err(ApiError::unauthorized(match fake.settings.token_design {
            TokenDesign::New => "Failed to authorize: token usage limit reached",
            TokenDesign::Old => "Unable to renew because access token number of uses limit reached",
        }));
    }
    fake.tokens.spend(&claims);
    let trusted = fake
        .state
        .identity(&claims.identity_id)
        .is_some_and(|identity| is_trusted(from, &identity.access_token_trusted_ips));
    if !trusted {
        return Err(ApiError::untrusted_address());
    }
    Ok(claims)
}

/// A new string for the same token: revoking one revokes the other.
pub fn renew(fake: &mut FakeInfisical, token: &str) -> Result<Grant, ApiError> {
    let claims = verify(fake, token)?;
    if let Some(revoked) = fake.tokens.revocation(&claims) {
        return Err(refused(fake, revoked, "Cannot renew"));
    }
    if fake.tokens.is_used_up(&claims) {
        return Err(ApiError::unauthorized("Cannot renew exhausted access token"));
    }
    let now = server_seconds(fake);
    let granted = match fake.settings.token_design {
        TokenDesign::New => {
            let (ttl, max_ttl) = (claims.access_token_ttl, claims.access_token_max_ttl);
            let left = clamped_ttl(ttl, max_ttl, claims.creation_epoch, now);
            if left == 0 {
                return Err(ApiError::unauthorized(
                    "Cannot renew: identity access token has reached its max TTL",
                ));
            }
            left
        }
        TokenDesign::Old => {
            if outlives_maximum(&claims, now) {
                fake.tokens.revoke_token(&claims.jti);
                return Err(ApiError::unauthorized(
                    "Failed to renew MI access token past its Max TTL expiration",
                ));
            }
            claims.access_token_ttl
        }
    };
    let renewed = Claims { iat: now, exp: (granted > 0).then_some(now + granted), ..claims };
    Ok(Grant {
        access_token: jwt::sign(&renewed, &fake.settings.auth_secret),
        expires_in: granted,
        access_token_max_ttl: renewed.access_token_max_ttl,
        token_type: "Bearer",
    })
}

pub fn revoke(fake: &mut FakeInfisical, token: &str) -> Result<(), ApiError> {
    let claims = verify(fake, token)?;
    fake.tokens.revoke_token(&claims.jti);
    Ok(())
}

/// The old design's rule: whether the *renewed* token would live past the maximum.
fn outlives_maximum(claims: &Claims, now: u64) -> bool {
    claims.access_token_max_ttl > 0
        && claims.access_token_period == 0
        && now + claims.access_token_ttl > claims.creation_epoch + claims.access_token_max_ttl
}

fn verify(fake: &FakeInfisical, token: &str) -> Result<Claims, ApiError> {
    let now = server_seconds(fake);
    jwt::verify(token, &fake.settings.auth_secret, now).map_err(|flaw| match flaw {
        Flaw::Malformed => ApiError::token(
            403,
            "The provided access token is malformed. \
             Please use a valid token or generate a new one and try again.",
        ),
        Flaw::ForeignAlgorithm => ApiError::token(
            403,
            "The access token is signed with an invalid algorithm. \
             Please provide a valid token and try again.",
        ),
        Flaw::WrongSignature => ApiError::token(403, "invalid signature"),
        Flaw::Expired => ApiError::token(
            if fake.settings.token_expired_401 { 401 } else { 403 },
            "Your token has expired. Please re-authenticate.",
        ),
    })
}

/// Checked at each use of a token, not at its renewal: the identity still belongs to the
/// organisation, and the token expires.
fn belongs(fake: &FakeInfisical, claims: &Claims) -> Result<(), ApiError> {
    if fake.settings.token_design == TokenDesign::Old {
        let known = fake.state.identity(&claims.identity_id).is_some();
        let gone = || ApiError::unauthorized("No identity access token found");
        return known.then_some(()).ok_or_else(gone);
    }
    if claims.exp.is_none() && server_seconds(fake) > claims.iat + OLDEST_TOKEN {
        return Err(ApiError::unauthorized(
            "Identity access token exceeded max age, please re-authenticate",
        ));
    }
    match fake.state.identity(&claims.identity_id) {
        None => Err(ApiError::unauthorized("Identity is not a member of the organization")),
        Some(identity) if !identity.active => {
            Err(ApiError::unauthorized("Identity organization membership is inactive"))
        }
        Some(_) => Ok(()),
    }
}

fn refused(fake: &FakeInfisical, revoked: Revoked, prefix: &str) -> ApiError {
    if fake.settings.token_design == TokenDesign::Old {
        return ApiError::unauthorized("No identity access token found");
    }
    let what = match revoked {
        Revoked::Token => "token has been revoked",
        Revoked::Identity => "identity tokens have been revoked",
        Revoked::ClientSecret => "client secret has been revoked",
    };
    ApiError::unauthorized(format!("{prefix}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_renewal_clamps_to_the_maximum() {
        assert_eq!(clamped_ttl(60, 100, 1000, 1000), 60);
        assert_eq!(clamped_ttl(60, 100, 1000, 1070), 30);
        assert_eq!(clamped_ttl(60, 100, 1000, 1100), 0);
        assert_eq!(clamped_ttl(60, 0, 1000, 9999), 60);
        assert_eq!(clamped_ttl(0, 0, 0, 0), OLDEST_TOKEN);
    }

    #[test]
    fn old_renewal_rejects_a_lifetime_beyond_the_maximum() {
        let claims = jwt::tests::claims();
        assert!(!outlives_maximum(&claims, 1040));
        assert!(outlives_maximum(&claims, 1041));
    }
}
