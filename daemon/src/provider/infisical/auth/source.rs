//! The access token of a machine identity: kept in RAM only, renewed by one login at a time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::failure::{LoginBackoff, LoginError, LoginFailure, classify, span};
use super::memory::RefusalMemory;
use super::{AccessToken, LoginCredential, Method, NoCredential, jwt};
use crate::provider::ProviderError;
use crate::provider::infisical::client::Api;
use crate::provider::infisical::response::NO_LOGIN_WAIT;
use crate::storage::failed_logins::{FailedLogin, FailedLogins, RetryRule};
use crate::sys::jitter::jitter;

/// The timeout of a login while the present token is still valid.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a failed renewal of a token that is still valid.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(30);
/// How long an admin's request stays valid: the login that it is meant for follows at once if it is needed.
const REQUEST_TTL: Duration = Duration::from_secs(60);
/// The command that tries a refused login again at once.
const RETRY: &str = "`psictl cache refresh --retry`";

/// Provides the access token of one identity.
pub struct TokenSource {
    method: Box<dyn Method>,
    memory: RefusalMemory,
    state: Mutex<State>,
    fault: SyncMutex<Option<LoginFault>>,
    request: SyncMutex<Option<AdminRequest>>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<AccessToken>>,
    /// The pause after a transient failure.
    backoff: Option<LoginBackoff>,
    /// The last failed login and its time: calls that waited for it get its error.
    failed: Option<(Instant, ProviderError)>,
    /// The end of the pause after a failed renewal.
    renew_after: Option<Instant>,
    /// The pause after a login whose new token was refused.
    rejected: Option<LoginBackoff>,
}

/// Why the identity cannot read secrets.
struct LoginFault {
    why: String,
    until: Option<Instant>,
    /// Whether the login succeeded and its token was refused.
    is_token: bool,
}

/// A request of an admin to try the login now.
#[derive(Clone, Copy)]
struct AdminRequest {
    at: Instant,
    /// Whether to try it even after a refused login.
    retry: bool,
}

impl AdminRequest {
    fn is_recent(&self) -> bool {
        self.at.elapsed() < REQUEST_TTL
    }
}

impl TokenSource {
    /// A source without a token; the first call logs in.
    pub fn new(method: Box<dyn Method>, api_url: &str, failed_logins: FailedLogins) -> Self {
        let subject = format!("login at {api_url} as {}", method.identity());
        let memory = RefusalMemory::new(failed_logins, subject, method.is_local());
        Self {
            method,
            memory,
            state: Mutex::default(),
            fault: SyncMutex::default(),
            request: SyncMutex::default(),
        }
    }

    /// The identity's name, equal for equal identities.
    pub fn identity(&self) -> &str {
        self.memory.subject()
    }

    /// Ends pauses that only limit psid's own retries, for an admin's command; with `retry`, the pause after a
    /// refused login too.
    pub fn clear_backoff(&self, retry: bool) {
        let mut request = self.request.lock();
        let pending = request.is_some_and(|before| before.retry && before.is_recent());
        *request = Some(AdminRequest { at: Instant::now(), retry: retry || pending });
    }

    /// Why the identity cannot read secrets, and what fixes it.
    pub fn fault(&self) -> Option<String> {
        let fault = self.fault.lock();
        let LoginFault { why, until, .. } = fault.as_ref()?;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        Some(match left.filter(|left| *left > Duration::ZERO) {
            Some(left) => format!("{why}; psid tries again in {}, or with {RETRY}", span(left)),
            None => why.clone(),
        })
    }

    /// The present token, or a new one if it is due for renewal.
    pub(in crate::provider::infisical) async fn token(
        &self,
        api: &Api,
    ) -> Result<Arc<AccessToken>, ProviderError> {
        let requested = Instant::now();
        // Held during the login, because every other call needs its token.
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) = &state.token
            && now < token.renew_at
        {
            return Ok(Arc::clone(token));
        }
        let Some(valid) = state.token.clone().filter(|token| now < token.expires_at) else {
            return self.login(api, &mut state, requested).await;
        };
        // The present token is valid: a failing renewal, as during Infisical's maintenance, must not delay
        // any call.
        if state.renew_after.is_none_or(|after| now >= after) {
            match tokio::time::timeout(RENEWAL_TIMEOUT, self.login(api, &mut state, requested))
                .await
            {
                Ok(Ok(token)) => return Ok(token),
                Ok(Err(error)) => tracing::debug!("no new access token yet: {error}"),
                Err(_) => tracing::debug!("no new access token yet: the login timed out"),
            }
            state.renew_after = Some(now + RENEWAL_INTERVAL);
        }
        Ok(valid)
    }

    /// A token in place of a refused one; `Err` if a login would not help.
    pub(in crate::provider::infisical) async fn replace_rejected(
        &self,
        refused: &Arc<AccessToken>,
        api: &Api,
        why: ProviderError,
    ) -> Result<Arc<AccessToken>, ProviderError> {
        let requested = Instant::now();
        let mut state = self.state.lock().await;
        match &state.token {
            Some(token) if !Arc::ptr_eq(token, refused) => return Ok(Arc::clone(token)),
            _ => {}
        }
        if refused.is_static() {
            self.remember_static(refused, &why).await;
            state.token = None;
            // The credential may have been replaced.
            return self.login(api, &mut state, requested).await;
        }
        if state.rejected.as_ref().is_some_and(|rejected| rejected.left().is_some()) {
            return Err(why);
        }
        if !refused.was_used() {
            // A new token was refused at once: so would the token of another login.
            self.note_rejected(&mut state, &why);
            return Err(why);
        }
        (state.token, state.rejected) = (None, None);
        self.login(api, &mut state, requested).await
    }

    /// Revokes the present token, if a login brought one.
    pub(in crate::provider::infisical) async fn revoke(
        &self,
        api: &Api,
    ) -> Result<(), ProviderError> {
        let token = self.state.lock().await.token.take();
        match token.filter(|token| !token.is_static()) {
            Some(token) => Ok(api.revoke(token.text()).await?),
            None => Ok(()),
        }
    }

    /// Records that a new token was refused.
    pub(in crate::provider::infisical) async fn new_token_rejected(&self, why: &ProviderError) {
        let mut state = self.state.lock().await;
        if let Some(token) = state.token.take_if(|token| token.is_static()) {
            self.remember_static(&token, why).await;
        } else if state.rejected.as_ref().is_none_or(|rejected| rejected.left().is_none()) {
            self.note_rejected(&mut state, why);
        }
    }

    /// Records that a static token was refused: it is not used again until it changes, or for some time.
    async fn remember_static(&self, token: &AccessToken, why: &ProviderError) {
        let ends = token.expires_at <= Instant::now();
        let expired = if ends { "; by this host's clock, it has expired" } else { "" };
        let why = format!("{why}{expired}");
        let refusal = self.memory.record(token.text(), why, RetryRule::Backoff).await;
        let _ = self.refused(&refusal);
    }

    /// Records that a request with the token was accepted.
    pub(in crate::provider::infisical) fn token_accepted(&self, token: &AccessToken) {
        let is_first = token.mark_used();
        let mut fault = self.fault.lock();
        if fault.as_ref().is_some_and(|fault| fault.is_token || token.is_static()) {
            *fault = None;
            tracing::info!("Infisical accepts {} again", self.method.identity());
        }
        if is_first && token.is_static() {
            self.memory.clear_later();
        }
    }

    fn note_rejected(&self, state: &mut State, why: &ProviderError) {
        let backoff = LoginBackoff::after_rejected_token(state.rejected.as_ref(), jitter());
        let what = format!(
            "the login as {} succeeds, but Infisical refuses its token ({why}); check the identity's \
             membership and trusted IP addresses",
            self.method.identity()
        );
        self.note_fault(what, Some(backoff.until), true);
        state.rejected = Some(backoff);
    }

    async fn login(
        &self,
        api: &Api,
        state: &mut State,
        requested: Instant,
    ) -> Result<Arc<AccessToken>, ProviderError> {
        if let Some((at, error)) = &state.failed
            && *at >= requested
        {
            return Err(error.clone());
        }
        let request = self.request.lock().take();
        let request = request.filter(AdminRequest::is_recent);
        let left = state.backoff.as_ref().and_then(LoginBackoff::left);
        if let (None, Some(wait), Some((_, error))) = (request, left, &state.failed) {
            return Err(login_error(error.to_string(), wait));
        }
        let retry = request.is_some_and(|request| request.retry);
        self.make_login(api, state, retry).await.map_err(|(error, _)| error)
    }

    /// Logs in now, whatever token there is, and keeps the new one: for an admin's command. A refused login is not
    /// repeated without `retry`.
    pub(in crate::provider::infisical) async fn log_in_now(
        &self,
        api: &Api,
        retry: bool,
    ) -> Result<(), LoginError> {
        let mut state = self.state.lock().await;
        self.make_login(api, &mut state, retry).await.map(drop).map_err(|(_, error)| error)
    }

    /// How the identity logs in.
    pub(in crate::provider::infisical) fn method(&self) -> &dyn Method {
        &*self.method
    }

    async fn make_login(
        &self,
        api: &Api,
        state: &mut State,
        retry: bool,
    ) -> Result<Arc<AccessToken>, (ProviderError, LoginError)> {
        match self.try_login(api, retry).await {
            Ok(token) => {
                // A static token proves itself when a request with it is accepted.
                if !token.is_static() && self.fault.lock().take().is_some() {
                    tracing::info!("logged in again as {}", self.method.identity());
                }
                let rejected = state.rejected.take();
                *state = State { token: Some(Arc::clone(&token)), rejected, ..State::default() };
                Ok(token)
            }
            Err(login_error) => {
                let error = self.note_failure(state, &login_error);
                state.failed = Some((Instant::now(), error.clone()));
                Err((error, login_error))
            }
        }
    }

    async fn try_login(&self, api: &Api, retry: bool) -> Result<Arc<AccessToken>, LoginError> {
        let credential = self.method.credential().await.map_err(LoginError::NoCredential)?;
        let refusal = self.memory.look_up(credential.secret()).await.filter(|_| !retry);
        if let Some(refusal) = refusal {
            return Err(LoginError::Refused { refusal, is_remembered: true });
        }
        let request = match credential {
            LoginCredential::Request(request) => request,
            LoginCredential::AccessToken(text) => {
                let left = jwt::time_left(text.expose_secret());
                return Ok(Arc::new(AccessToken::of_credential(text, left, Instant::now())));
            }
        };
        let error = match api.login(&request).await {
            Ok(login) => {
                self.memory.clear().await;
                return Ok(Arc::new(AccessToken::new(login, Instant::now())));
            }
            Err(error) => error,
        };
        Err(match classify(error, &request, jitter()) {
            LoginFailure::Refused { mut why, retry } => {
                if retry == RetryRule::Backoff
                    && let Some(binding) = self.method.binding(&request).await
                {
                    why = format!("{why}; {binding}");
                }
                let refusal = self.memory.record(&request.credential, why, retry).await;
                LoginError::Refused { refusal, is_remembered: false }
            }
            LoginFailure::Transient(why) => LoginError::Transient(why),
            LoginFailure::Other(error) => LoginError::Other(error),
        })
    }

    /// Records a failed login, and returns the error for those that wait for its token.
    fn note_failure(&self, state: &mut State, error: &LoginError) -> ProviderError {
        match error {
            LoginError::NoCredential(error) => self.no_credential(state, error),
            LoginError::Refused { refusal, .. } => self.refused(refusal),
            LoginError::Transient(why) => {
                let backoff = LoginBackoff::after_failure(state.backoff.as_ref(), None);
                let why = format!("the login as {} failed: {why}", self.method.identity());
                self.note_fault(why.clone(), None, false);
                let wait = backoff.left().unwrap_or_default();
                state.backoff = Some(backoff);
                login_error(why, wait)
            }
            LoginError::Other(error) => error.clone(),
        }
    }

    fn no_credential(&self, state: &mut State, error: &NoCredential) -> ProviderError {
        let NoCredential { why, wait } = error;
        let identity = self.method.identity();
        let mut why = format!("there is no credential to log in with as {identity}: {why}");
        if self.method.is_local() {
            why = format!("{why}; {}", self.method.missing_remedy());
        }
        self.note_fault(why.clone(), None, false);
        // Reading a credential of this host is free, and it may be supplied at any time.
        if !self.method.is_local() {
            state.backoff = Some(LoginBackoff::after_failure(state.backoff.as_ref(), *wait));
        }
        login_error(why, wait.unwrap_or(NO_LOGIN_WAIT))
    }

    /// The error of a login that was refused, now or before.
    fn refused(&self, refusal: &FailedLogin) -> ProviderError {
        let FailedLogin { why, wait_left, .. } = refusal;
        let why = self.method.refusal(why);
        let wait = wait_left.unwrap_or(RENEWAL_INTERVAL);
        self.note_fault(why.clone(), Some(Instant::now() + wait), false);
        let why = format!("{why}; psid tries again in {}, or with {RETRY}", span(wait));
        login_error(why, wait)
    }

    fn note_fault(&self, why: String, until: Option<Instant>, is_token: bool) {
        let mut fault = self.fault.lock();
        if fault.as_ref().is_none_or(|known| known.why != why) {
            tracing::error!("{why}; cached values are served meanwhile");
        }
        *fault = Some(LoginFault { why, until, is_token });
    }
}

/// The error of a login that is not tried again for some time.
fn login_error(why: String, wait: Duration) -> ProviderError {
    ProviderError::Unauthenticated { why, wait: Some(wait) }
}
