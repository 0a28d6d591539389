//! The common part of gcp, azure and the methods with a token file: a login by a signed token.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use psi_common::SecretString;
use serde_json::{Value, json};

use super::NoCredential;
use crate::model::clock::{self, Timestamp};
use crate::provider::Validity;
use crate::provider::infisical::client::LoginRequest;

/// What a login by a token needs.
pub(super) struct TokenLogin<'a> {
    /// The method, as the route names it.
    pub(super) route: &'static str,
    pub(super) identity_id: &'a str,
    pub(super) token: &'a [u8],
    /// Where the token is from, for messages.
    pub(super) origin: &'a str,
    pub(super) hint_at_500: Option<&'static str>,
}

/// A login by a JWT. Other text is not sent: something other than a metadata service may have answered.
pub(super) fn login_request(login: &TokenLogin<'_>) -> Result<LoginRequest, NoCredential> {
    let text = std::str::from_utf8(login.token.trim_ascii())
        .ok()
        .filter(|text| is_jwt(text))
        .ok_or_else(|| NoCredential::new(format!("{} is not a JSON web token", login.origin)))?;
    let body = json!({ "identityId": login.identity_id, "jwt": text });
    // An expired token is sent all the same: the server's clock decides.
    let expired = validity(text).is_some_and(|valid| valid.end <= clock::now().wall);
    let request = LoginRequest::new(login.route, body, SecretString::new(text.to_owned()));
    Ok(LoginRequest { expired, hint_at_500: login.hint_at_500, ..request })
}

/// The time that is left of a token's life by its own claims and this host's clock.
pub(super) fn time_left(token: &str) -> Option<Duration> {
    Some(clock::now().wall.until(validity(token)?.end))
}

/// How long a token is valid by its own claims; none if it does not state its end.
pub(super) fn validity(token: &str) -> Option<Validity> {
    let claims = claims_in(token.as_bytes())?;
    let time = |claim: &str| {
        let millis = claims[claim].as_u64()?.checked_mul(1_000)?;
        Some(Timestamp::from_millis(millis))
    };
    Some(Validity { start: time("iat"), end: time("exp")? })
}

/// A token's claims, unverified: only the server can verify them.
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

    fn login(token: &[u8]) -> TokenLogin<'_> {
        let (route, identity_id, origin) = ("gcp-auth", "i-1", "the file");
        TokenLogin { route, identity_id, token, origin, hint_at_500: None }
    }

    #[test]
    fn text_other_than_a_jwt_is_refused() {
        let made = |token: &[u8]| login_request(&login(token));
        let request = made(b" aGVhZA.Y2xhaW1z.c2ln-_\n").unwrap();
        assert_eq!(request.body, json!({"identityId": "i-1", "jwt": "aGVhZA.Y2xhaW1z.c2ln-_"}));
        assert_eq!(request.credential.expose_secret(), "aGVhZA.Y2xhaW1z.c2ln-_");
        for junk in ["", "a.b", "a.b.c.d", "a..c", "<html>a.b.c</html>", "a.b.c d", "a.b.\u{e9}"] {
            let error = made(junk.as_bytes()).err().unwrap().to_string();
            assert_eq!(error, "the file is not a JSON web token", "{junk}");
        }
        assert!(made(b"\xff.b.c").is_err());
    }

    #[test]
    fn expired_tokens_are_marked() {
        let expired = |claims: &str| {
            let token = format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims));
            login_request(&login(token.as_bytes())).unwrap().expired
        };
        let now = clock::now().wall.as_millis() / 1_000;
        assert!(expired(&format!(r#"{{"exp":{}}}"#, now - 1)));
        assert!(!expired(&format!(r#"{{"exp":{}}}"#, now + 60)));
        let token = |end: u64| {
            let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{end}}}"#));
            time_left(&format!("h.{claims}.s"))
        };
        assert_eq!(token(now - 9), Some(Duration::ZERO));
        assert!(token(now + 60).is_some_and(|left| left <= Duration::from_secs(60)));
        assert_eq!(time_left("opaque"), None);
        for unknown in ["{}", r#"{"exp":"1"}"#, r#"{"exp":18446744073709551615}"#, "no claims"] {
            assert!(!expired(unknown), "{unknown}");
        }
    }
}
