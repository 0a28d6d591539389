//! Calls to a provider: each begins and ends here, so that the circuit breaker, the counters and the recovery
//! notification see every call. The circuit breaker counts what concerns the host; `scopes` keeps what
//! concerns one directory or one identity.

mod guard;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::ProviderCounters;
use super::scopes::{Call, Directories, Finished, RateLimits, Route, Suspects};
use crate::model::clock::{BootInstant, Now};
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::circuit_breaker::{
    BackoffPolicy, BreakerState, CallPermit, Caller, CircuitBreaker, Outage, Permit,
};
use crate::provider::{Persistence, ProviderError, SecretProvider};
use guard::{CallGuard, is_of_directory, is_unclear};

/// How long the same refusal is not logged again.
const LOGGED_AGAIN_AFTER: Duration = Duration::from_secs(86_400);
/// The timeout of the request for the host's status: a lookup may wait for it.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time between two requests for the host's status, while it is reachable.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);
/// The same during an outage.
const STATUS_INTERVAL_IN_OUTAGE: Duration = Duration::from_secs(1);
/// How long after a failed login a lookup with a cached value makes no call.
const LOGIN_BACKOFF: Duration = Duration::from_secs(10);

/// One provider with its circuit breaker and counters.
pub struct Upstream {
    /// Its name in the config.
    pub name: String,
    /// The provider.
    pub provider: Box<dyn SecretProvider>,
    health: Mutex<Health>,
    /// The number of answers; waiting calls watch it.
    answers: watch::Sender<u64>,
    /// Notified when the provider, or one of its identities, has recovered.
    recovered: OnceLock<Arc<Notify>>,
}

/// The state of a provider.
pub(crate) struct Health {
    /// Whether its host may be called.
    pub breaker: CircuitBreaker,
    /// Its answers by kind.
    pub counters: ProviderCounters,
    directories: Directories,
    suspects: Suspects,
    rate_limits: RateLimits,
    /// Identities whose login failed since their last success, with the time of the last failure.
    unauthenticated: BTreeMap<String, Instant>,
    status_asked: Option<Instant>,
    last_refusal: Option<String>,
    /// The refusal that was logged last, and when.
    logged_refusal: Option<(String, BootInstant)>,
}

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The call was not made: this was known before.
    NotAsked(ProviderError),
    /// The provider's answer.
    Answered(ProviderError),
}

impl Upstream {
    /// A provider that has not been called yet.
    pub fn new(name: &str, provider: Box<dyn SecretProvider>) -> Self {
        let policy = match provider.persistence() {
            Persistence::Persisted => BackoffPolicy::SERVER,
            Persistence::MemoryOnly => BackoffPolicy::DEVICE,
        };
        let health = Health {
            breaker: CircuitBreaker::new(policy),
            counters: ProviderCounters::default(),
            directories: Directories::default(),
            suspects: Suspects::default(),
            rate_limits: RateLimits::default(),
            unauthenticated: BTreeMap::new(),
            status_asked: None,
            last_refusal: None,
            logged_refusal: None,
        };
        let answers = watch::Sender::new(0);
        let (name, health) = (name.to_owned(), Mutex::new(health));
        Self { name, provider, health, answers, recovered: OnceLock::new() }
    }

    /// Sets what to notify when the provider has recovered.
    pub(crate) fn notify_recovery(&self, recovered: &Arc<Notify>) {
        let _ = self.recovered.set(Arc::clone(recovered));
    }

    /// Takes over what outlives a reload: the rate limits.
    pub(crate) fn inherit(&self, before: &Self) {
        self.health().rate_limits.inherit(&before.health().rate_limits);
    }

    /// Its state.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock()
    }

    /// The description of a call for one key.
    pub(crate) fn call_for_key(&self, key: &CacheKey) -> Call {
        Call::for_key(key, self.provider.identity(&key.namespace))
    }

    /// The description of a call for a whole directory.
    pub(crate) fn call_for_directory(
        &self,
        scope: &ListingScope,
        route: Route,
        caller: Caller,
    ) -> Call {
        Call::for_directory(scope, self.provider.identity(&scope.namespace), route, caller)
    }

    /// Makes a call, unless it is forbidden now, and records its answer.
    pub(crate) async fn call<T>(
        &self,
        call: &Call,
        began: Now,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, CallError> {
        self.call_in_part(call, began, work, |_| None).await
    }

    /// Makes a call whose result may be incomplete: `incomplete` returns the error that cut it short, which
    /// is recorded as the answer.
    pub(crate) async fn call_in_part<T>(
        &self,
        call: &Call,
        began: Now,
        work: impl Future<Output = Result<T, ProviderError>>,
        incomplete: impl Fn(&T) -> Option<ProviderError>,
    ) -> Result<T, CallError> {
        let guard = self.begin_call(call, began).map_err(CallError::NotAsked)?;
        let brought = work.await;
        let error = match &brought {
            Ok(value) => incomplete(value),
            Err(error) => Some(error.clone()),
        };
        let status = if guard.wants_status(error.as_ref(), began.advanced().mono) {
            let status = tokio::time::timeout(STATUS_TIMEOUT, self.provider.status()).await;
            let timed_out = || Err(ProviderError::TimedOut("no answer in time".into()));
            Some(status.unwrap_or_else(|_| timed_out()))
        } else {
            None
        };
        guard.finish(error.as_ref(), status, began.advanced());
        brought.map_err(CallError::Answered)
    }

    /// Whether its host is out, by more than a single failure.
    pub(crate) fn is_out(&self) -> bool {
        self.health().breaker.is_open()
    }

    /// Begins a call, unless it is forbidden now.
    fn begin_call<'a>(
        &'a self,
        call: &'a Call,
        began: Now,
    ) -> Result<CallGuard<'a>, ProviderError> {
        let mut health = self.health();
        if let Some((until, why)) = health.rate_limits.of(call, began.mono) {
            let wait = until.saturating_duration_since(began.mono);
            let why = format!("the rate limit is used up for another {} s ({why})", wait.as_secs());
            return Err(ProviderError::Throttled { why, wait });
        }
        if (call.route, call.caller) == (Route::Get, Caller::Routine)
            && let Some(why) = health.directories.is_too_slow(&call.directory, began.mono)
        {
            return Err(ProviderError::TimedOut(why.to_owned()));
        }
        let permit = health.breaker.begin(call.caller, began.mono);
        let permit = permit.map_err(|error| ProviderError::Unreachable(error.to_string()))?;
        let permits = Some((permit, health.directories.begin(call, began.mono)));
        Ok(CallGuard { upstream: self, call, permits })
    }

    /// The error that a call would meet, as far as it is known: a lookup with a cached value makes no call
    /// then.
    pub(crate) fn known_failure(&self, call: &Call, now: Instant) -> Option<ProviderError> {
        let health = self.health();
        if let Err(why) = health.breaker.check(call.caller, now) {
            return Some(ProviderError::Unreachable(why.to_owned()));
        }
        if let Some((until, why)) = health.rate_limits.of(call, now) {
            let wait = until.saturating_duration_since(now);
            return Some(ProviderError::Throttled { why: why.to_owned(), wait });
        }
        let login = health.unauthenticated.get(&call.identity);
        if login.is_some_and(|failed| now.saturating_duration_since(*failed) < LOGIN_BACKOFF) {
            let why = "its login failed a moment ago".into();
            return Some(ProviderError::Unauthenticated { why, wait: Some(LOGIN_BACKOFF) });
        }
        if health.directories.slow(now) > 1 {
            return Some(ProviderError::Unreachable("it does not answer".into()));
        }
        health.directories.known_failure(&call.directory, now).map(ProviderError::Failed)
    }

    /// Waits until a call is allowed; false when that is not before `limit`, or in an outage. It serves
    /// lookups without a cached value, which must survive a single failure, and during which podman holds
    /// a lock.
    pub(crate) async fn wait_until_allowed(&self, call: &Call, limit: Instant) -> bool {
        loop {
            let mut answers = self.answers.subscribe();
            let until = match self.permit(call, Instant::now()) {
                (Permit::Now, _) => return true,
                (_, true) | (Permit::Refused, _) => return false,
                (Permit::NotBefore(time), _) if time > limit => return false,
                (Permit::NotBefore(time), _) => time,
                (Permit::AwaitProbe, _) => limit,
            };
            let answered = tokio::time::timeout_at(until, answers.changed()).await;
            if answered.is_err() && until >= limit {
                return false;
            }
        }
    }

    /// Whether a lookup may call now, and whether the provider is in a confirmed outage.
    fn permit(&self, call: &Call, now: Instant) -> (Permit, bool) {
        let health = self.health();
        let permit = match health.breaker.permit(Caller::Routine, now) {
            Permit::Now => health
                .rate_limits
                .of(call, now)
                .map_or(Permit::Now, |(until, _)| Permit::NotBefore(until)),
            other => other,
        };
        (permit, health.breaker.is_open())
    }

    /// Its last answer, if that was a refusal that an admin must correct.
    pub(crate) fn last_refusal(&self) -> Option<String> {
        self.health().last_refusal.clone()
    }

    fn notify_recovered(&self) {
        if let Some(recovered) = self.recovered.get() {
            recovered.notify_one();
        }
    }
}

impl CallError {
    /// The error, whether the call was made or not.
    pub(crate) fn error(self) -> ProviderError {
        match self {
            Self::NotAsked(error) | Self::Answered(error) => error,
        }
    }
}

impl Health {
    /// Its last answer, if that was a refusal that an admin must correct.
    pub(crate) fn last_refusal(&self) -> Option<&str> {
        self.last_refusal.as_deref()
    }

    /// The breaker's state as the log reports it: probes do not count.
    fn logged_state(&self) -> BreakerState {
        self.breaker.outage().map_or(BreakerState::Closed, Outage::state)
    }

    /// Records what the answer says of the host; returns the outage that it ended.
    fn note_host(
        &mut self,
        finished: &Finished<'_>,
        permit: &CallPermit,
        status: Option<Result<(), ProviderError>>,
    ) -> Option<Outage> {
        let &Finished { call, error, now, jitter } = finished;
        let Some(error) = error.filter(|error| error.is_host_wide() || is_unclear(error)) else {
            self.suspects.clear();
            return self.breaker.answered(permit);
        };
        let is_out = self.breaker.outage().is_some();
        let is_slow = matches!(error, ProviderError::TimedOut(_));
        let are_slow = is_of_directory(error) && self.suspects.note(&call.directory, is_slow);
        match (error, status) {
            (ProviderError::Unavailable { why, wait }, _) => {
                self.breaker.throttled(permit, now, why, *wait);
            }
            (ProviderError::Unreachable(why), _) => self.breaker.failed(permit, now, why, jitter),
            (error, Some(Err(status))) => {
                let why = format!("its status: {status}; and a request: {error}");
                self.breaker.failed(permit, now, &why, jitter);
            }
            (error, _) if are_slow => {
                let why = format!("several directories are too slow: {error}");
                self.breaker.failed(permit, now, &why, jitter);
            }
            (_, Some(Ok(()))) => {
                self.suspects.clear_failed();
                return self.breaker.answered(permit);
            }
            (error, None) if is_out => {
                self.breaker.failed(permit, now, &error.to_string(), jitter);
            }
            (_, None) => self.breaker.cancelled(permit),
        }
        None
    }

    /// Records what the answer says of the identity; true when the identity has recovered.
    fn note_identity(&mut self, finished: &Finished<'_>) -> bool {
        let &Finished { call, error, now, .. } = finished;
        match error {
            Some(ProviderError::Throttled { why, wait }) => {
                tracing::warn!("a rate limit is used up, and cached values are served: {why}");
                self.rate_limits.note(call, why, *wait, now.mono);
                false
            }
            Some(ProviderError::Unauthenticated { wait: Some(_), .. }) => {
                self.unauthenticated.insert(call.identity.clone(), now.mono);
                false
            }
            Some(_) => false,
            None => self.unauthenticated.remove(&call.identity).is_some(),
        }
    }

    /// Records and logs a refusal that an admin must correct; a success clears it.
    fn note_refusal(&mut self, name: &str, error: Option<&ProviderError>, now: BootInstant) {
        let refusal = match error {
            None => None,
            Some(
                ProviderError::Denied(why)
                | ProviderError::Unauthenticated { why, .. }
                | ProviderError::Misbehaved(why),
            ) => Some(why.clone()),
            Some(_) => return,
        };
        // A source that is denied among others that are not would be logged with each refresh.
        let is_logged = |why: &String| {
            self.logged_refusal
                .as_ref()
                .is_some_and(|(logged, at)| logged == why && at.age(now) < LOGGED_AGAIN_AFTER)
        };
        if let Some(why) = refusal.as_ref().filter(|why| !is_logged(why)) {
            tracing::warn!("requests to {name} fail: {why}");
            self.logged_refusal = Some((why.clone(), now));
        }
        self.last_refusal = refusal;
    }
}

fn log_recovery(name: &str, outage: &Outage, now: Instant) {
    let (failed, lasted) = (outage.failed, outage.lasted(now).as_secs());
    if outage.state() == BreakerState::Closed {
        let why = &outage.why;
        return tracing::debug!("{name} answers again after failures: {failed} ({why})");
    }
    tracing::info!(failed, lasted, "{name} is back after {lasted} s; failed requests: {failed}");
}

#[cfg(test)]
mod tests;
