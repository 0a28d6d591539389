//! What gcp, azure and kubernetes have in common: a token that others signed is all of the proof.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use psi_common::SecretBytes;
use serde_json::{Value, json};

use crate::model::clock::{self, Timestamp};
use crate::provider::infisical::client::LoginRequest;
use crate::provider::infisical::response::ApiError;

/// A login by a JWT. What is none is not sent: whatever answered may be no metadata service.
pub(super) fn proof(
    route: &'static str,
    identity_id: &str,
    token: &[u8],
    origin: &str,
    hint_at_500: Option<&'static str>,
) -> Result<LoginRequest, ApiError> {
    let token = token.trim_ascii();
    let text = std::str::from_utf8(token).ok().filter(|text| is_jwt(text)).ok_or_else(|| {
        ApiError::no_credential(format!("{origin} holds no token: it must be a JSON web token"))
    })?;
    let body = json!({ "identityId": identity_id, "jwt": text });
    let secrets = vec![SecretBytes::new(token.to_vec())];
    // It is sent all the same: the clock that counts is another one.
    let expired = end_in(text).is_some_and(|end| end <= clock::now().wall);
    Ok(LoginRequest { route, body, secrets, expired, hint_at_500 })
}

/// When a token's own claims say that it ends.
fn end_in(token: &str) -> Option<Timestamp> {
    let claims = claims_in(token.as_bytes())?;
    Some(Timestamp::from_millis(claims["exp"].as_u64()?.checked_mul(1_000)?))
}

/// A token's claims: unverified, for only the server can refuse them.
pub(super) fn claims_in(token: &[u8]) -> Option<Value> {
    let claims = token.split(|byte| *byte == b'.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// Three parts of base64url (RFC 7515, 7.1).
fn is_jwt(text: &str) -> bool {
    let is_base64url = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.split('.').count() == 3 && text.split('.').all(is_base64url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jwt_is_sent() {
        let made = |token: &[u8]| proof("gcp-auth", "i-1", token, "the file", None);
        let proof = made(b" aGVhZA.Y2xhaW1z.c2ln-_\n").unwrap();
        assert_eq!(proof.body, json!({"identityId": "i-1", "jwt": "aGVhZA.Y2xhaW1z.c2ln-_"}));
        assert_eq!(proof.secrets[0].expose_secret(), b"aGVhZA.Y2xhaW1z.c2ln-_");
        for junk in ["", "a.b", "a.b.c.d", "a..c", "<html>a.b.c</html>", "a.b.c d", "a.b.\u{e9}"] {
            let error = made(junk.as_bytes()).err().unwrap().to_string();
            assert_eq!(error, "the file holds no token: it must be a JSON web token", "{junk}");
        }
        assert!(made(b"\xff.b.c").is_err());
    }

    #[test]
    fn a_token_that_has_ended_is_known() {
        let expired = |claims: &str| {
            let token = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims));
            proof("gcp-auth", "i-1", token.as_bytes(), "the file", None).unwrap().expired
        };
        let now = clock::now().wall.as_millis() / 1_000;
        assert!(expired(&format!(r#"{{"exp":{}}}"#, now - 1)));
        assert!(!expired(&format!(r#"{{"exp":{}}}"#, now + 60)));
        for unknown in ["{}", r#"{"exp":"1"}"#, r#"{"exp":18446744073709551615}"#, "no claims"] {
            assert!(!expired(unknown), "{unknown}");
        }
    }
}
