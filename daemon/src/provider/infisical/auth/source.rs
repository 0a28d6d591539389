//! The access token of a machine identity: in RAM only, got by login, one login at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::failure::Failure;
use super::{Method, Token};
use crate::provider::infisical::answer::ApiError;
use crate::provider::infisical::api::Api;

/// How long a login may take, and how often it is tried, while the present token is still good.
const RENEWAL_TAKES: Duration = Duration::from_secs(2);
const BETWEEN_RENEWALS: Duration = Duration::from_secs(30);

/// Gives tokens out and gets new ones.
pub struct TokenSource {
    method: Box<dyn Method>,
    state: Mutex<State>,
}

struct State {
    token: Option<Arc<Token>>,
    failure: Option<Failure>,
    /// After a renewal that failed while the present token is good.
    renew_after: Instant,
}

impl TokenSource {
    /// No token yet; the first one who needs it logs in.
    pub fn new(method: Box<dyn Method>) -> Self {
        let state = State { token: None, failure: None, renew_after: Instant::now() };
        Self { method, state: Mutex::new(state) }
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
        if !refused.is_proven() {
            // Fresh from a login and refused at once: the next one would end the same.
            let ApiError::Token(why) = why else { return Err(why) };
            return Err(ApiError::Denied(why));
        }
        self.login(api, &mut state).await
    }

    /// Ends the present token, if there is one.
    pub async fn revoke(&self, api: &Api) -> Result<(), ApiError> {
        let token = self.state.lock().await.token.take();
        match token {
            Some(token) => api.revoke(token.text()).await,
            None => Ok(()),
        }
    }

    async fn login(&self, api: &Api, state: &mut State) -> Result<Arc<Token>, ApiError> {
        let failure = state.failure.as_ref().filter(|failure| failure.lasts());
        if let Some(failure) = failure
            && !self.method.is_local()
        {
            return Err(failure.error.clone());
        }
        let proof = match self.method.proof(api.near()).await {
            Ok(proof) => proof,
            Err(error) if self.method.is_local() => return Err(error),
            Err(error) => {
                state.failure = Some(Failure::unproven(error.clone(), state.failure.as_ref()));
                return Err(error);
            }
        };
        if let Some(failure) = failure
            && failure.concerns(&proof)
        {
            return Err(failure.error.clone());
        }
        match api.login(&proof).await {
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
                let failure = Failure::of_login(error, proof, state.failure.as_ref());
                let error = failure.error.clone();
                state.failure = Some(failure);
                Err(error)
            }
        }
    }
}
