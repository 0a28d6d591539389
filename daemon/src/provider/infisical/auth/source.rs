//! The access token of a machine identity: in RAM only, got by login, one login at a time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::failure::{LoginFailure, Pause, chance, judge, span};
use super::{Method, Token};
use crate::provider::infisical::client::{Api, LoginRequest};
use crate::provider::infisical::response::ApiError;
use crate::storage::failed_logins::{FailedLogin, FailedLogins, RetryRule};

/// How long a login may take, and how often it is tried, while the present token is still good.
const RENEWAL_TAKES: Duration = Duration::from_secs(2);
const BETWEEN_RENEWALS: Duration = Duration::from_secs(30);
/// How long an admin's request counts: the login that it is meant for comes at once, if one is needed.
const REQUEST_COUNTS: Duration = Duration::from_secs(60);
/// The remedy that needs no change: what makes one try at once.
const RETRY: &str = "`psictl cache refresh --retry`";

/// Gives tokens out and gets new ones.
pub struct TokenSource {
    method: Box<dyn Method>,
    /// The identity, as the memory of refusals knows it: on which server, by which method, and its id.
    subject: String,
    failed_logins: FailedLogins,
    state: Mutex<State>,
    fault: SyncMutex<Option<Fault>>,
    request: SyncMutex<Option<Request>>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// After a login that failed for a reason that may pass.
    pause: Option<Pause>,
    /// The last login that failed, and when: whoever waited for it gets its error.
    failed: Option<(Instant, ApiError)>,
    /// After a renewal that failed while the present token is good.
    renew_after: Option<Instant>,
    /// After a login whose token was refused at once.
    futile: Option<Pause>,
}

/// Why the identity is not served.
struct Fault {
    why: String,
    until: Option<Instant>,
    /// The login is well, and its token was refused.
    is_token: bool,
}

/// An admin asks.
#[derive(Clone, Copy)]
struct Request {
    at: Instant,
    /// Also after a refused login.
    retry: bool,
}

impl Request {
    fn is_recent(&self) -> bool {
        self.at.elapsed() < REQUEST_COUNTS
    }
}

impl TokenSource {
    /// No token yet; the first one who needs it logs in.
    pub fn new(method: Box<dyn Method>, api_url: &str, failed_logins: FailedLogins) -> Self {
        let subject = format!("login at {api_url} as {}", method.identity());
        Self {
            method,
            subject,
            failed_logins,
            state: Mutex::default(),
            fault: SyncMutex::default(),
            request: SyncMutex::default(),
        }
    }

    /// The identity's name, the same for all who log in as it.
    pub fn identity(&self) -> &str {
        &self.subject
    }

    /// An admin asks: pauses that only spare the server end, and with `retry` that of a refused login.
    pub fn clear_backoff(&self, retry: bool) {
        let mut request = self.request.lock();
        let pending = request.is_some_and(|before| before.retry && before.is_recent());
        *request = Some(Request { at: Instant::now(), retry: retry || pending });
    }

    /// Why the identity is not served, and what to do about it.
    pub fn fault(&self) -> Option<String> {
        let fault = self.fault.lock();
        let Fault { why, until, .. } = fault.as_ref()?;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        Some(match left.filter(|left| *left > Duration::ZERO) {
            Some(left) => format!("{why}; psid tries again in {}, or with {RETRY}", span(left)),
            None => why.clone(),
        })
    }

    /// A token that is good as far as we know.
    pub async fn token(&self, api: &Api) -> Result<Arc<Token>, ApiError> {
        let asked = Instant::now();
        // Held across the login on purpose: everybody else wants what that login brings.
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) = &state.token
            && now < token.renew_at
        {
            return Ok(Arc::clone(token));
        }
        let Some(live) = state.token.clone().filter(|token| now < token.expires_at) else {
            return self.login(api, &mut state, asked).await;
        };
        // The present token is good: its renewal may fail, as all logins do while Infisical is in
        // maintenance, and must not keep anybody waiting.
        if state.renew_after.is_none_or(|after| now >= after) {
            match tokio::time::timeout(RENEWAL_TAKES, self.login(api, &mut state, asked)).await {
                Ok(Ok(token)) => return Ok(token),
                Ok(Err(error)) => tracing::debug!("no new access token yet: {error}"),
                Err(_) => tracing::debug!("no new access token yet: the login takes too long"),
            }
            state.renew_after = Some(now + BETWEEN_RENEWALS);
        }
        Ok(live)
    }

    /// A token in place of one that was refused; `Err` when a login cannot help.
    pub async fn replace_rejected(
        &self,
        refused: &Arc<Token>,
        api: &Api,
        why: ApiError,
    ) -> Result<Arc<Token>, ApiError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        match &state.token {
            Some(token) if !Arc::ptr_eq(token, refused) => return Ok(Arc::clone(token)),
            _ => {}
        }
        if state.futile.as_ref().is_some_and(|futile| futile.left().is_some()) {
            return Err(why);
        }
        if !refused.is_proven() {
            // Fresh from a login and refused at once: the next one would end the same.
            self.note_futile(&mut state, &why);
            return Err(why);
        }
        (state.token, state.futile) = (None, None);
        self.login(api, &mut state, asked).await
    }

    /// Ends the present token, if there is one.
    pub async fn revoke(&self, api: &Api) -> Result<(), ApiError> {
        let token = self.state.lock().await.token.take();
        match token {
            Some(token) => api.revoke(token.text()).await,
            None => Ok(()),
        }
    }

    /// A token that has just been got was refused.
    pub async fn refused_at_once(&self, why: &ApiError) {
        let mut state = self.state.lock().await;
        if state.futile.as_ref().is_none_or(|futile| futile.left().is_none()) {
            self.note_futile(&mut state, why);
        }
    }

    /// A request with the token was answered.
    pub fn served(&self, token: &Token) {
        token.prove();
        let mut fault = self.fault.lock();
        if fault.as_ref().is_some_and(|fault| fault.is_token) {
            *fault = None;
        }
    }

    fn note_futile(&self, state: &mut State, why: &ApiError) {
        let pause = Pause::futile(state.futile.as_ref(), chance());
        let what = format!(
            "the login as {} succeeds, but Infisical refuses its token ({why}); check the identity's \
             membership and trusted IP addresses",
            self.method.identity()
        );
        self.note_fault(what, Some(pause.until), true);
        state.futile = Some(pause);
    }

    async fn login(
        &self,
        api: &Api,
        state: &mut State,
        asked: Instant,
    ) -> Result<Arc<Token>, ApiError> {
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let request = self.request.lock().take();
        let request = request.filter(Request::is_recent);
        let pause = state.pause.as_ref().and_then(Pause::left);
        if let (None, Some(wait), Some((_, error))) = (request, pause, &state.failed) {
            return Err(ApiError::Login { why: error.to_string(), wait });
        }
        let retry = request.is_some_and(|request| request.retry);
        match self.try_login(api, state, retry).await {
            Ok(token) => {
                if self.fault.lock().take().is_some() {
                    tracing::info!("logged in again as {}", self.method.identity());
                }
                let futile = state.futile.take();
                *state = State { token: Some(Arc::clone(&token)), futile, ..State::default() };
                Ok(token)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn try_login(
        &self,
        api: &Api,
        state: &mut State,
        retry: bool,
    ) -> Result<Arc<Token>, ApiError> {
        let proof = match self.method.proof(api.metadata()).await {
            Ok(proof) => proof,
            Err(error) => return Err(self.no_proof(state, error)),
        };
        if !retry && let Some(refusal) = self.refusal_of(&proof).await {
            return Err(self.held(&refusal));
        }
        let error = match api.login(&proof).await {
            Ok(login) => {
                let (failed_logins, subject) = (self.failed_logins.clone(), self.subject.clone());
                blocking(move || failed_logins.clear(&subject)).await;
                return Ok(Arc::new(Token::new(login, Instant::now())));
            }
            Err(error) => error,
        };
        match judge(error, &proof, chance()) {
            LoginFailure::Refused { why, retry } => {
                Err(self.held(&self.remember(&proof, why, retry).await))
            }
            LoginFailure::Passing(why) => {
                let pause = Pause::passing(state.pause.as_ref(), None);
                let why = format!("the login as {} failed: {why}", self.method.identity());
                self.note_fault(why.clone(), None, false);
                let wait = pause.left().unwrap_or_default();
                state.pause = Some(pause);
                Err(ApiError::Login { why, wait })
            }
            LoginFailure::Other(error) => Err(error),
        }
    }

    fn no_proof(&self, state: &mut State, error: ApiError) -> ApiError {
        let ApiError::NoCredential { why, wait } = error else { return error };
        let identity = self.method.identity();
        let mut why = format!("there is nothing to log in with as {identity}: {why}");
        if self.method.is_local() {
            why = format!("{why}; {}", self.method.supply());
        }
        self.note_fault(why.clone(), None, false);
        // What lies on this host costs nothing to read, and may be there at any time.
        if !self.method.is_local() {
            state.pause = Some(Pause::passing(state.pause.as_ref(), wait));
        }
        ApiError::NoCredential { why, wait }
    }

    /// What is remembered of this proof.
    async fn refusal_of(&self, proof: &LoginRequest) -> Option<FailedLogin> {
        let (failed_logins, subject) = (self.failed_logins.clone(), self.subject.clone());
        let secret = self.remembered(proof);
        blocking(move || failed_logins.look_up(&subject, &secret)).await.flatten()
    }

    async fn remember(&self, proof: &LoginRequest, why: String, retry: RetryRule) -> FailedLogin {
        let (failed_logins, subject) = (self.failed_logins.clone(), self.subject.clone());
        let (secret, words) = (self.remembered(proof), why.clone());
        let remembered =
            blocking(move || failed_logins.record(&subject, &secret, &words, retry)).await;
        remembered.unwrap_or(FailedLogin { why, wait_left: Some(BETWEEN_RENEWALS), count: 1 })
    }

    /// What the memory hashes: another secret need not wait. A token that is made anew for each login is
    /// no other secret.
    fn remembered(&self, proof: &LoginRequest) -> zeroize::Zeroizing<Vec<u8>> {
        let secret = proof.secrets.first().filter(|_| self.method.is_local());
        zeroize::Zeroizing::new(secret.map_or_else(Vec::new, |one| one.expose_secret().to_vec()))
    }

    /// The error of a login that was refused, now or before.
    fn held(&self, refusal: &FailedLogin) -> ApiError {
        let FailedLogin { why, wait_left, .. } = refusal;
        let why = format!(
            "the login as {} was refused ({why}); {}",
            self.method.identity(),
            self.method.remedy()
        );
        let wait = wait_left.unwrap_or(BETWEEN_RENEWALS);
        self.note_fault(why.clone(), Some(Instant::now() + wait), false);
        let why = format!("{why}; psid tries again in {}, or with {RETRY}", span(wait));
        ApiError::Login { why, wait }
    }

    fn note_fault(&self, why: String, until: Option<Instant>, is_token: bool) {
        let mut fault = self.fault.lock();
        if fault.as_ref().is_none_or(|known| known.why != why) {
            tracing::error!("{why}; what is cached is served meanwhile");
        }
        *fault = Some(Fault { why, until, is_token });
    }
}

/// The memory is a file.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
