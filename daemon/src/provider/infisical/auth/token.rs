//! An access token: its text and its life.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psi_common::SecretString;
use tokio::time::Instant;

use super::jwt;
use crate::provider::Validity;
use crate::provider::infisical::client::Login;

/// The life of a token that does not state one.
const DEFAULT_LIFE: Duration = Duration::from_secs(3_600);
/// How often a static token is read again: a replaced one is used after this time at the latest.
const REREAD_INTERVAL: Duration = Duration::from_secs(3_600);
/// The longest life: no sum overflows.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// An access token.
pub(crate) struct AccessToken {
    text: SecretString,
    pub(super) renew_at: Instant,
    pub(super) expires_at: Instant,
    /// Whether a request with it was accepted: if it is refused later, it has ended, and a login may help.
    used: AtomicBool,
    /// Whether it is the credential itself, and no login brought it.
    is_static: bool,
}

impl AccessToken {
    /// The token of a login at `now`.
    pub(super) fn new(login: Login, now: Instant) -> Self {
        let text = login.access_token;
        let life = match login.expires_in {
            0 => life_in_jwt(&text).unwrap_or(DEFAULT_LIFE),
            seconds => Duration::from_secs(seconds),
        };
        let life = life.min(LONGEST_LIFE);
        let (renew_at, expires_at) = (now + life * 2 / 3, now + life);
        Self { text, renew_at, expires_at, used: AtomicBool::new(false), is_static: false }
    }

    /// A token that is the credential itself, with the time that is left of its life if it states one. An expired
    /// one is sent all the same: the server's clock decides.
    pub(super) fn of_credential(text: SecretString, left: Option<Duration>, now: Instant) -> Self {
        let life = left.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE);
        let (renew_at, expires_at) = (now + (life * 2 / 3).min(REREAD_INTERVAL), now + life);
        Self { text, renew_at, expires_at, used: AtomicBool::new(false), is_static: true }
    }

    /// Whether it is the credential itself: it is not psid's to revoke.
    pub(super) fn is_static(&self) -> bool {
        self.is_static
    }

    /// The token's text.
    pub(crate) fn text(&self) -> &SecretString {
        &self.text
    }

    /// Records that a request with it was accepted; true for the first one.
    pub(super) fn mark_used(&self) -> bool {
        !self.used.swap(true, Ordering::Relaxed)
    }

    /// Whether a request with it was ever accepted.
    pub(super) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

/// A JWT's life by its own claims.
fn life_in_jwt(token: &SecretString) -> Option<Duration> {
    let Validity { start, end } = jwt::validity(token.expose_secret())?;
    Some(start?.until(end))
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

    #[test]
    fn static_token_ends_by_its_own_claims_and_is_read_again_each_hour() {
        let now = Instant::now();
        let of = |left: Option<u64>| {
            let left = left.map(Duration::from_secs);
            AccessToken::of_credential(SecretString::new("t".into()), left, now)
        };
        let month = of(Some(2_592_000));
        assert_eq!(month.expires_at - now, Duration::from_secs(2_592_000));
        assert_eq!(month.renew_at - now, REREAD_INTERVAL);
        assert_eq!(of(Some(90)).renew_at - now, Duration::from_secs(60));
        assert_eq!(of(Some(0)).expires_at, now, "it has expired");
        assert_eq!(of(None).expires_at - now, DEFAULT_LIFE);
        assert!(month.is_static() && month.mark_used() && !month.mark_used());
    }
}
