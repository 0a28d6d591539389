//! How a provider fares: each call to it begins and ends here, whatever becomes of it. The circuit breaker
//! counts what concerns the host; `scopes` keeps what concerns one directory or one identity.

mod guard;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::ProviderCounters;
use super::scopes::{Call, Directories, Pauses, Route, Suspects};
use crate::model::clock::{BootInstant, Now};
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::circuit_breaker::{
    BackoffPolicy, CallPermit, Caller, CircuitBreaker, Outage, Permit,
};
use crate::provider::{Persistence, ProviderError, SecretProvider};
use guard::{CallGuard, is_of_directory, is_unclear};

/// How long the log need not be told of the same complaint again.
const TOLD_LASTS: Duration = Duration::from_secs(86_400);
/// How long the host's own status may take: a lookup may wait for it.
const STATUS_TAKES: Duration = Duration::from_secs(2);
/// How far apart the host is asked for its status, while it seems to be well and while it is out.
const STATUS_RESTS: Duration = Duration::from_secs(30);
const STATUS_RESTS_IN_OUTAGE: Duration = Duration::from_secs(1);
/// How long a failed login is no reason to read the secret again for whoever has a value to serve.
const LOGIN_RESTS: Duration = Duration::from_secs(10);

/// One provider and how it fares.
pub struct Upstream {
    /// Its name in the config.
    pub name: String,
    /// The provider.
    pub provider: Box<dyn SecretProvider>,
    health: Mutex<Health>,
    /// Grows with each answer, for those who wait for one.
    answers: watch::Sender<u64>,
    /// Notified when the provider, or one of its identities, is back.
    recovered: OnceLock<Arc<Notify>>,
}

/// How a provider fares.
pub struct Health {
    /// Whether its host may be asked.
    pub breaker: CircuitBreaker,
    /// What its answers were.
    pub tally: ProviderCounters,
    directories: Directories,
    suspects: Suspects,
    pauses: Pauses,
    /// Identities whose login failed since they were last served, and when it did last.
    unauthenticated: BTreeMap<String, Instant>,
    status_asked: Option<Instant>,
    complaint: Option<String>,
    /// The complaint that the log knows, and since when.
    told: Option<(String, BootInstant)>,
}

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// It did not go out: this was known before.
    NotAsked(ProviderError),
    /// The provider's answer.
    Answered(ProviderError),
}

impl Upstream {
    /// A provider that was never asked.
    pub fn new(name: &str, provider: Box<dyn SecretProvider>) -> Self {
        let pace = match provider.persistence() {
            Persistence::Persisted => BackoffPolicy::SERVER,
            Persistence::MemoryOnly => BackoffPolicy::DEVICE,
        };
        let health = Health {
            breaker: CircuitBreaker::new(pace),
            tally: ProviderCounters::default(),
            directories: Directories::default(),
            suspects: Suspects::default(),
            pauses: Pauses::default(),
            unauthenticated: BTreeMap::new(),
            status_asked: None,
            complaint: None,
            told: None,
        };
        let answers = watch::Sender::new(0);
        let (name, health) = (name.to_owned(), Mutex::new(health));
        Self { name, provider, health, answers, recovered: OnceLock::new() }
    }

    /// Whom to notify when the provider is back.
    pub fn notify_recovery(&self, recovered: &Arc<Notify>) {
        let _ = self.recovered.set(Arc::clone(recovered));
    }

    /// Takes over what outlives a reload: how long the provider asked its identities to wait.
    pub fn inherit(&self, before: &Self) {
        self.health().pauses.inherit(&before.health().pauses);
    }

    /// Its health.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lookup of one key.
    pub fn call_for_key(&self, at: &CacheKey) -> Call {
        Call::for_key(at, self.provider.identity(&at.realm))
    }

    /// A call about a whole directory.
    pub fn call_for_directory(&self, extent: &ListingScope, route: Route, caller: Caller) -> Call {
        Call::for_directory(extent, self.provider.identity(&extent.realm), route, caller)
    }

    /// Makes a call, unless that is forbidden now, and takes note of its answer.
    pub async fn call<T>(
        &self,
        call: &Call,
        began: Now,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, CallError> {
        self.call_in_part(call, began, work, |_| None).await
    }

    /// Makes a call that may bring a part: `incomplete` says why the rest is missing, which is what the
    /// call says of the provider.
    pub async fn call_in_part<T>(
        &self,
        call: &Call,
        began: Now,
        work: impl Future<Output = Result<T, ProviderError>>,
        incomplete: impl Fn(&T) -> Option<ProviderError>,
    ) -> Result<T, CallError> {
        let guard = self.begin(call, began).map_err(CallError::NotAsked)?;
        let brought = work.await;
        let answer = match &brought {
            Ok(value) => incomplete(value).map_or(Ok(()), Err),
            Err(error) => Err(error.clone()),
        };
        let status = if guard.wants_status(&answer, began.lately().mono) {
            let status = tokio::time::timeout(STATUS_TAKES, self.provider.status()).await;
            Some(status.unwrap_or_else(|_| Err(ProviderError::TimedOut("it hangs".into()))))
        } else {
            None
        };
        guard.end(&answer, status, began.lately());
        brought.map_err(CallError::Answered)
    }

    /// Whether its host is out, and it was more than one failure.
    pub fn is_out(&self) -> bool {
        self.health().breaker.trouble().is_some_and(Outage::is_outage)
    }

    /// Begins a call, unless that is forbidden now.
    fn begin<'a>(&'a self, call: &'a Call, began: Now) -> Result<CallGuard<'a>, ProviderError> {
        let mut health = self.health();
        if let Some((until, why)) = health.pauses.of(call, began.mono) {
            let wait = until.saturating_duration_since(began.mono);
            let why = format!("the rate limit is used up for another {} s ({why})", wait.as_secs());
            return Err(ProviderError::Throttled { why, wait });
        }
        if (call.route, call.caller) == (Route::Get, Caller::Anybody)
            && let Some(why) = health.directories.is_too_slow(&call.directory, began.mono)
        {
            return Err(ProviderError::TimedOut(why.to_owned()));
        }
        let pass = health.breaker.begin(call.caller, began.mono);
        let pass = pass.map_err(ProviderError::Unreachable)?;
        let passes = Some((pass, health.directories.begin(call, began.mono)));
        Ok(CallGuard { upstream: self, call, passes })
    }

    /// Why whoever has something to serve need not ask.
    pub fn out_of_reach(&self, call: &Call, now: Instant) -> Option<ProviderError> {
        let health = self.health();
        if let Some(why) = health.breaker.forbids(call.caller, now) {
            return Some(ProviderError::Unreachable(why.to_owned()));
        }
        if let Some((until, why)) = health.pauses.of(call, now) {
            let wait = until.saturating_duration_since(now);
            return Some(ProviderError::Throttled { why: why.to_owned(), wait });
        }
        let login = health.unauthenticated.get(&call.identity);
        if login.is_some_and(|failed| now.saturating_duration_since(*failed) < LOGIN_RESTS) {
            let why = "its login failed a moment ago".into();
            return Some(ProviderError::Unauthenticated { why, wait: Some(LOGIN_RESTS) });
        }
        if health.directories.hanging(now) > 1 {
            return Some(ProviderError::Unreachable("it does not answer".into()));
        }
        health.directories.rests(&call.directory, now).map(ProviderError::Failed)
    }

    /// Waits until it may be asked; false when that will not be before `limit`, or in an outage. For those
    /// who have nothing to serve: one lost packet need not be their end, and podman holds a lock meanwhile.
    pub async fn admits(&self, call: &Call, limit: Instant) -> bool {
        loop {
            let mut answers = self.answers.subscribe();
            let (permit, is_outage) = {
                let health = self.health();
                let is_outage = health.breaker.trouble().is_some_and(Outage::is_outage);
                let now = Instant::now();
                let permit = match health.breaker.permit(Caller::Anybody, now) {
                    Permit::Now => health
                        .pauses
                        .of(call, now)
                        .map_or(Permit::Now, |(until, _)| Permit::NotBefore(until)),
                    other => other,
                };
                (permit, is_outage)
            };
            let until = match permit {
                Permit::Now => return true,
                _ if is_outage => return false,
                Permit::Refused => return false,
                Permit::NotBefore(time) if time > limit => return false,
                Permit::NotBefore(time) => time,
                Permit::AwaitProbe => limit,
            };
            let news = tokio::time::timeout_at(until, answers.changed()).await;
            if news.is_err() && until >= limit {
                return false;
            }
        }
    }

    /// Its last answer, when that was a refusal that an admin must see to.
    pub fn complaint(&self) -> Option<String> {
        self.health().complaint.clone()
    }

    fn tell_recovered(&self) {
        if let Some(recovered) = self.recovered.get() {
            recovered.notify_one();
        }
    }
}

impl CallError {
    /// What is wrong, asked or not.
    pub fn error(self) -> ProviderError {
        match self {
            Self::NotAsked(error) | Self::Answered(error) => error,
        }
    }
}

impl Health {
    /// Its last answer, when that was a refusal that an admin must see to.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// What the answer says of the host; the trouble that it ended, if any.
    fn note_host<T>(
        &mut self,
        call: &Call,
        pass: &CallPermit,
        answer: &Result<T, ProviderError>,
        status: Option<Result<(), ProviderError>>,
        now: Now,
    ) -> Option<Outage> {
        let error = match answer {
            Err(error) if error.is_host_wide() || is_unclear(error) => error,
            Ok(_) | Err(_) => {
                self.suspects.clear();
                return self.breaker.answered(pass);
            }
        };
        let is_out = self.breaker.trouble().is_some();
        let is_slow = matches!(error, ProviderError::TimedOut(_));
        let are_slow = is_of_directory(error) && self.suspects.note(&call.directory, is_slow);
        match (error, status) {
            (ProviderError::Unavailable { why, wait }, _) => {
                self.breaker.throttled(pass, now, why, *wait);
            }
            (ProviderError::Unreachable(why), _) => self.breaker.failed(pass, now, why, chance()),
            (error, Some(Err(status))) => {
                let why = format!("its status: {status}; and a request: {error}");
                self.breaker.failed(pass, now, &why, chance());
            }
            (error, _) if are_slow => {
                let why = format!("several directories are too slow: {error}");
                self.breaker.failed(pass, now, &why, chance());
            }
            (_, Some(Ok(()))) => {
                self.suspects.clear_failed();
                return self.breaker.answered(pass);
            }
            (error, None) if is_out => {
                self.breaker.failed(pass, now, &error.to_string(), chance());
            }
            (_, None) => self.breaker.unasked(pass),
        }
        None
    }

    /// What the answer says of the identity; true when it is served again.
    fn note_identity<T>(
        &mut self,
        call: &Call,
        answer: &Result<T, ProviderError>,
        now: Instant,
    ) -> bool {
        match answer {
            Err(ProviderError::Throttled { why, wait }) => {
                tracing::warn!("a rate limit is used up, and what is cached is served: {why}");
                self.pauses.note(call, why, *wait, now);
                false
            }
            Err(ProviderError::Unauthenticated { wait: Some(_), .. }) => {
                self.unauthenticated.insert(call.identity.clone(), now);
                false
            }
            Ok(_) => self.unauthenticated.remove(&call.identity).is_some(),
            Err(_) => false,
        }
    }

    fn hear<T>(&mut self, name: &str, answer: &Result<T, ProviderError>, now: BootInstant) {
        let complaint = match answer {
            Ok(_) => None,
            Err(
                ProviderError::Denied(why)
                | ProviderError::Unauthenticated { why, .. }
                | ProviderError::Misbehaved(why),
            ) => Some(why.clone()),
            Err(_) => return,
        };
        // One source that is denied among others that are not must not be told each time.
        let known = |why: &String| {
            self.told.as_ref().is_some_and(|(told, at)| told == why && at.age(now) < TOLD_LASTS)
        };
        if let Some(why) = complaint.as_ref().filter(|why| !known(why)) {
            tracing::warn!("{name} does not give what it is asked for: {why}");
            self.told = Some((why.clone(), now));
        }
        self.complaint = complaint;
    }
}

/// What the log is told of, once.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum BreakerState {
    /// It answers, or failed but once.
    #[default]
    Well,
    /// It is out.
    Outage,
    /// It asked to be left alone.
    Asked,
}

impl BreakerState {
    fn of(trouble: &Outage) -> Self {
        match trouble {
            trouble if trouble.is_outage() => Self::Outage,
            trouble if trouble.asked_to_wait() => Self::Asked,
            _ => Self::Well,
        }
    }
}

fn tell_end(name: &str, trouble: &Outage, now: Instant) {
    let (failed, lasted) = (trouble.failed, trouble.lasted(now).as_secs());
    if BreakerState::of(trouble) == BreakerState::Well {
        return tracing::debug!("{name} is back after {failed} requests failed: {}", trouble.why);
    }
    tracing::info!(failed, lasted, "{name} is back after {lasted} s; {failed} requests failed");
}

/// A number from 0 to 1.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
