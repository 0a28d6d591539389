//! An access token: its text and how long it is good.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psi_common::SecretBytes;
use tokio::time::Instant;

use super::jwt;
use crate::provider::infisical::client::Login;

/// For a token that says nothing of its end.
const DEFAULT_LIFE: Duration = Duration::from_secs(3_600);

/// An access token.
pub struct Token {
    text: SecretBytes,
    pub(super) renew_at: Instant,
    pub(super) expires_at: Instant,
    /// A request with it was answered: if it is refused now, it ended, and a login may help.
    proven: AtomicBool,
}

impl Token {
    /// The token that a login at `now` brought.
    pub(super) fn new(login: Login, now: Instant) -> Self {
        let text = login.access_token.0;
        let life = match login.expires_in {
            0 => life_in_jwt(&text).unwrap_or(DEFAULT_LIFE),
            seconds => Duration::from_secs(seconds),
        };
        // A server may say 10 years; half of this is still far beyond any uptime that matters here.
        let life = life.min(Duration::from_secs(10 * 365 * 86_400));
        Self {
            text,
            renew_at: now + life * 2 / 3,
            expires_at: now + life,
            proven: AtomicBool::new(false),
        }
    }

    /// The token's text.
    pub fn text(&self) -> &SecretBytes {
        &self.text
    }

    /// Takes note that a request with it was answered.
    pub fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether a request with it was ever answered.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }
}

/// The life that a JWT's own claims give it.
fn life_in_jwt(token: &SecretBytes) -> Option<Duration> {
    let claims = jwt::claims_in(token.expose_secret())?;
    let life = claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)?;
    Some(Duration::from_secs(life))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;
    use crate::provider::infisical::client::SecretText;

    fn token(text: &str, expires_in: u64) -> (Token, Instant) {
        let now = Instant::now();
        let access_token = SecretText(SecretBytes::new(text.as_bytes().to_vec()));
        (Token::new(Login { access_token, expires_in }, now), now)
    }

    #[test]
    fn a_token_is_renewed_at_two_thirds_of_its_life() {
        let (token, now) = token("x", 900);
        assert_eq!(token.renew_at - now, Duration::from_secs(600));
        assert_eq!(token.expires_at - now, Duration::from_secs(900));
    }

    #[test]
    fn a_life_of_zero_is_no_life_that_is_over() {
        let (opaque, now) = token("opaque", 0);
        assert_eq!(opaque.expires_at - now, DEFAULT_LIFE);
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"iat":1000,"exp":1300}"#);
        let (jwt, now) = token(&format!("h.{claims}.s"), 0);
        assert_eq!(jwt.expires_at - now, Duration::from_secs(300));
        let (long, now) = token("x", u64::MAX);
        assert!(long.expires_at > now);
    }
}
