//! The access token of a machine identity: in RAM only, got by login, one login at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use psi_common::SecretBytes;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::answer::ApiError;
use super::api::{Api, Login};
use crate::credential::Credential;

/// For a token that says nothing of its end.
const DEFAULT_LIFE: Duration = Duration::from_secs(3_600);
/// After a refused login: three bad tries within 30 s lock the identity for every host that shares it.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// A lockout's default length.
const AFTER_LOCKOUT: Duration = Duration::from_secs(300);
/// How long a login may take, and how often it is tried, while the present token is still good.
const RENEWAL_TAKES: Duration = Duration::from_secs(2);
const BETWEEN_RENEWALS: Duration = Duration::from_secs(30);
/// After a login that did not get through: those who waited for it need not all try again.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

/// How a machine identity proves itself.
pub struct UniversalAuth {
    /// The identity's client id.
    pub client_id: String,
    /// Where its secret is.
    pub client_secret: SecretSource,
}

/// Where the client secret is. It is read at each login, for it may be rotated.
pub enum SecretSource {
    /// A systemd credential.
    Credential(Credential),
    /// A file of the admin's.
    File(PathBuf),
    /// The config itself.
    Config(SecretBytes),
}

/// An access token.
pub struct Token {
    text: SecretBytes,
    renew_at: Instant,
    expires_at: Instant,
    /// A request with it was answered: if it is refused now, it ended, and a login may help.
    proven: AtomicBool,
}

/// Gives tokens out and gets new ones.
pub struct TokenSource {
    auth: UniversalAuth,
    state: Mutex<State>,
}

struct State {
    token: Option<Arc<Token>>,
    failure: Option<Failure>,
    /// After a renewal that failed while the present token is good.
    renew_after: Instant,
}

/// The last login, which failed.
struct Failure {
    error: ApiError,
    until: Instant,
    /// What was refused: another secret need not wait.
    secret: Option<SecretBytes>,
}

impl TokenSource {
    /// No token yet; the first one who needs it logs in.
    pub fn new(auth: UniversalAuth) -> Self {
        let state = State { token: None, failure: None, renew_after: Instant::now() };
        Self { auth, state: Mutex::new(state) }
    }

    /// A token that is good as far as we know.
    pub async fn token(&self, api: &Api) -> Result<Arc<Token>, ApiError> {
        // Held across the login on purpose: everybody else wants what that login brings.
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) = &state.token
            && now < token.renew_at
        {
            return Ok(Arc::clone(token));
        }
        let Some(live) = state.token.clone().filter(|token| now < token.expires_at) else {
            return self.login(api, &mut state).await;
        };
        // The present token is good: its renewal may fail, as all logins do while Infisical is in
        // maintenance, and must not keep anybody waiting.
        if now >= state.renew_after {
            match tokio::time::timeout(RENEWAL_TAKES, self.login(api, &mut state)).await {
                Ok(Ok(token)) => return Ok(token),
                Ok(Err(error)) => tracing::debug!("no new access token yet: {error}"),
                Err(_) => tracing::debug!("no new access token yet: the login takes too long"),
            }
            state.renew_after = now + BETWEEN_RENEWALS;
        }
        Ok(live)
    }

    /// A token in place of one that was refused; `Err` when a login cannot help.
    pub async fn instead_of(
        &self,
        refused: &Arc<Token>,
        api: &Api,
        why: ApiError,
    ) -> Result<Arc<Token>, ApiError> {
        let mut state = self.state.lock().await;
        match &state.token {
            Some(token) if !Arc::ptr_eq(token, refused) => return Ok(Arc::clone(token)),
            _ => state.token = None,
        }
        if !refused.proven.load(Ordering::Relaxed) {
            // Fresh from a login and refused at once: the next one would end the same.
            let ApiError::Token(why) = why else { return Err(why) };
            return Err(ApiError::Denied(why));
        }
        self.login(api, &mut state).await
    }

    async fn login(&self, api: &Api, state: &mut State) -> Result<Arc<Token>, ApiError> {
        let secret = self.auth.client_secret.read().await.map_err(ApiError::NoCredential)?;
        if let Some(failure) = &state.failure
            && Instant::now() < failure.until
            && failure.secret.as_ref().is_none_or(|refused| refused.same_as(&secret))
        {
            return Err(failure.error.clone());
        }
        match api.universal_auth(&self.auth.client_id, &secret).await {
            Ok(login) => {
                let token = Arc::new(Token::new(login, Instant::now()));
                *state = State {
                    token: Some(Arc::clone(&token)),
                    failure: None,
                    renew_after: Instant::now(),
                };
                Ok(token)
            }
            Err(error) => {
                // A 401 at login is about the credentials, not about a token.
                let (error, pause) = match error {
                    ApiError::Token(why) | ApiError::Denied(why) => {
                        (ApiError::Denied(why), AFTER_REFUSAL)
                    }
                    ApiError::Locked(_) => (error, AFTER_LOCKOUT),
                    // The word of a login is no word about a secret.
                    ApiError::Gone(why) => (ApiError::ClientBug(why), AFTER_REFUSAL),
                    ApiError::Throttled { wait, .. } => (error, wait),
                    _ => (error, AFTER_OUTAGE),
                };
                let about_secret = matches!(error, ApiError::Denied(_));
                state.failure = Some(Failure {
                    error: error.clone(),
                    until: Instant::now() + pause,
                    secret: about_secret.then_some(secret),
                });
                Err(error)
            }
        }
    }
}

impl Token {
    fn new(login: Login, now: Instant) -> Self {
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
}

impl SecretSource {
    async fn read(&self) -> Result<SecretBytes, String> {
        match self {
            Self::Config(secret) => Ok(trimmed(secret)),
            Self::File(path) => {
                std::fs::read(path).map(|bytes| trimmed(&SecretBytes::new(bytes))).map_err(
                    |error| format!("the client secret in {} is missing: {error}", path.display()),
                )
            }
            Self::Credential(credential) => match credential.read().await {
                Ok(Some(secret)) => Ok(trimmed(&secret)),
                Ok(None) => Err(format!(
                    "the client secret is missing: no credential {}, no {}",
                    credential.name,
                    credential.sealed.display()
                )),
                Err(why) => Err(format!("the client secret in {why}")),
            },
        }
    }
}

/// A secret without the newline that editors and `echo` leave at its end.
fn trimmed(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose_secret().trim_ascii_end().to_vec())
}

/// The life that a JWT's own claims give it: unverified, for only the server can refuse it.
fn life_in_jwt(token: &SecretBytes) -> Option<Duration> {
    let claims = token.expose_secret().split(|byte| *byte == b'.').nth(1)?;
    let claims: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let life = claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)?;
    Some(Duration::from_secs(life))
}

#[cfg(test)]
mod tests {
    use super::super::api::SecretText;
    use super::*;

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
