//! An access token: its text and its life.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psi_common::SecretString;
use tokio::time::Instant;

use super::jwt;
use crate::provider::infisical::client::Login;

/// The life of a token that does not state one.
const DEFAULT_LIFE: Duration = Duration::from_secs(3_600);

/// An access token.
pub(crate) struct AccessToken {
    text: SecretString,
    pub(super) renew_at: Instant,
    pub(super) expires_at: Instant,
    /// Whether a request with it was accepted: if it is refused later, it has ended, and a login may help.
    used: AtomicBool,
}

impl AccessToken {
    /// The token of a login at `now`.
    pub(super) fn new(login: Login, now: Instant) -> Self {
        let text = login.access_token;
        let life = match login.expires_in {
            0 => life_in_jwt(&text).unwrap_or(DEFAULT_LIFE),
            seconds => Duration::from_secs(seconds),
        };
        // Bounded, so that no sum overflows.
        let life = life.min(Duration::from_secs(10 * 365 * 86_400));
        Self {
            text,
            renew_at: now + life * 2 / 3,
            expires_at: now + life,
            used: AtomicBool::new(false),
        }
    }

    /// The token's text.
    pub(crate) fn text(&self) -> &SecretString {
        &self.text
    }

    /// Records that a request with it was accepted.
    pub(crate) fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether a request with it was ever accepted.
    pub(super) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

/// A JWT's life by its own claims.
fn life_in_jwt(token: &SecretString) -> Option<Duration> {
    let claims = jwt::claims_in(token.expose_secret().as_bytes())?;
    let life = claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)?;
    Some(Duration::from_secs(life))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn token(text: &str, expires_in: u64) -> (AccessToken, Instant) {
        let now = Instant::now();
        let access_token = SecretString::new(text.to_owned());
        (AccessToken::new(Login { access_token, expires_in }, now), now)
    }

    #[test]
    fn tokens_are_renewed_at_two_thirds_of_their_life() {
        let (token, now) = token("x", 900);
        assert_eq!(token.renew_at - now, Duration::from_secs(600));
        assert_eq!(token.expires_at - now, Duration::from_secs(900));
    }

    #[test]
    fn zero_life_means_the_default_or_the_claims() {
        let (opaque, now) = token("opaque", 0);
        assert_eq!(opaque.expires_at - now, DEFAULT_LIFE);
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"iat":1000,"exp":1300}"#);
        let (jwt, now) = token(&format!("h.{claims}.s"), 0);
        assert_eq!(jwt.expires_at - now, Duration::from_secs(300));
        let (long, now) = token("x", u64::MAX);
        assert!(long.expires_at > now);
    }
}
