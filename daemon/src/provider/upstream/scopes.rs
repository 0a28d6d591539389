//! The state of single directories and identities of a provider. Pure: time and jitter are arguments.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::clock::Now;
use crate::model::reference::{CacheKey, ListingScope, Namespace};
use crate::provider::ProviderError;
use crate::provider::circuit_breaker::{BackoffPolicy, CallPermit, Caller, CircuitBreaker};

/// The most directories that are tracked; beyond it, the one that was called longest ago is dropped.
const MAX_DIRECTORIES: usize = 1_024;

/// The description of a call: what it asks for, and on whose behalf.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// On whose behalf it is made.
    pub caller: Caller,
    /// The identity that psid logs in as.
    pub identity: String,
    /// The rate limit that it counts against.
    pub route: Route,
    /// The directory that it asks for.
    pub directory: Directory,
    /// The key that it asks for; none: the whole directory.
    pub key: Option<Box<str>>,
}

/// A directory of a namespace.
pub(super) type Directory = (Namespace, Arc<str>);

/// The kind of a call: providers limit the rates of these separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// A whole directory.
    List,
    /// One value.
    Get,
    /// A write.
    Write,
}

/// The directories with unanswered calls or failures.
#[derive(Debug, Default)]
pub(super) struct Directories(HashMap<Directory, DirectoryState>);

#[derive(Debug)]
struct DirectoryState {
    breaker: CircuitBreaker,
    /// Whether its last call timed out: then a lookup without a cached value does not wait either.
    is_slow: bool,
    /// The one key whose request failed: the other keys may be readable until a second one fails.
    failed_key: Option<Box<str>>,
}

/// The directories that failed since the provider's last answer.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    failed: BTreeSet<Directory>,
    slow: BTreeSet<Directory>,
}

/// The rate limits that are used up, by identity and route.
#[derive(Debug, Default)]
pub(super) struct RateLimits(HashMap<(String, Route), RateLimit>);

#[derive(Clone, Debug)]
struct RateLimit {
    until: Instant,
    why: String,
}

/// A finished call.
#[derive(Clone, Copy)]
pub(super) struct Finished<'a> {
    pub(super) call: &'a Call,
    /// The error that it brought; none: it succeeded.
    pub(super) error: Option<&'a ProviderError>,
    pub(super) now: Now,
    /// A random number from 0 to 1.
    pub(super) jitter: f64,
}

impl Call {
    /// A lookup of one key.
    pub(crate) fn for_key(key: &CacheKey, identity: String) -> Self {
        Self {
            caller: Caller::Routine,
            identity,
            route: Route::Get,
            directory: (key.namespace.clone(), Arc::clone(&key.path)),
            key: Some(key.key.clone()),
        }
    }

    /// A call for a whole directory.
    pub(crate) fn for_directory(
        scope: &ListingScope,
        identity: String,
        route: Route,
        caller: Caller,
    ) -> Self {
        let directory = (scope.namespace.clone(), Arc::from(scope.path.as_str()));
        Self { caller, identity, route, directory, key: None }
    }
}

impl Directories {
    /// Begins a call for a directory.
    pub(super) fn begin(&mut self, call: &Call, now: Instant) -> Option<CallPermit> {
        self.make_room();
        let state = self.0.entry(call.directory.clone()).or_insert_with(|| DirectoryState {
            breaker: CircuitBreaker::new(BackoffPolicy::SERVER),
            is_slow: false,
            failed_key: None,
        });
        // The caller has checked whether the call is allowed.
        state.breaker.begin(Caller::Admin, now).ok()
    }

    /// A call ended without an answer that concerns its directory.
    pub(super) fn cancelled(&mut self, call: &Call, permit: &CallPermit) {
        if let Some(state) = self.0.get_mut(&call.directory) {
            state.breaker.cancelled(permit);
        }
        self.forget_if_healthy(&call.directory);
    }

    /// Records how a call ended.
    pub(super) fn finish(&mut self, finished: &Finished<'_>, permit: &CallPermit) {
        let &Finished { call, error, now, jitter } = finished;
        let Some(state) = self.0.get_mut(&call.directory) else { return };
        match error {
            Some(error @ (ProviderError::TimedOut(_) | ProviderError::Failed(_))) => {
                let is_slow = matches!(error, ProviderError::TimedOut(_));
                if !is_slow && state.is_first_key(call.key.as_deref()) {
                    state.breaker.cancelled(permit);
                } else {
                    state.is_slow = is_slow;
                    state.breaker.failed(permit, now, &error.to_string(), jitter);
                }
            }
            // The same token serves other directories: the refusal concerns this one.
            Some(ProviderError::Unauthenticated { why, wait: None }) => {
                state.breaker.failed(permit, now, why, jitter);
            }
            Some(error) if error.is_host_wide() || is_of_identity(error) => {
                state.breaker.cancelled(permit);
            }
            Some(_) | None => {
                state.breaker.answered(permit);
                (state.is_slow, state.failed_key) = (false, None);
            }
        }
        self.forget_if_healthy(&call.directory);
    }

    /// Why a lookup with a cached value need not call for the directory now.
    pub(super) fn known_failure(&self, directory: &Directory, now: Instant) -> Option<String> {
        let breaker = &self.0.get(directory)?.breaker;
        match breaker.check(Caller::Routine, now) {
            Err(why) => Some(why.to_owned()),
            Ok(()) => breaker.is_slow(now).then(|| "it does not answer".into()),
        }
    }

    /// Why a lookup without a cached value need not wait for the directory now: several calls timed out.
    pub(super) fn is_too_slow(&self, directory: &Directory, now: Instant) -> Option<&str> {
        let state = self.0.get(directory)?;
        if !state.is_slow || !state.breaker.is_open() {
            return None;
        }
        state.breaker.check(Caller::Routine, now).err()
    }

    /// The number of directories with a slow call.
    pub(super) fn slow(&self, now: Instant) -> usize {
        self.0.values().filter(|state| state.breaker.is_slow(now)).count()
    }

    fn forget_if_healthy(&mut self, directory: &Directory) {
        if self.0.get(directory).is_some_and(DirectoryState::is_healthy) {
            self.0.remove(directory);
        }
    }

    fn make_room(&mut self) {
        if self.0.len() < MAX_DIRECTORIES {
            return;
        }
        let next = |state: &DirectoryState| state.breaker.outage().map(|outage| outage.next_try);
        let oldest = self
            .0
            .iter()
            .filter(|(_, state)| state.breaker.is_idle())
            .min_by_key(|(_, state)| next(state))
            .map(|(directory, _)| directory.clone());
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}

impl DirectoryState {
    /// Whether this is the first key that failed, or the same one again.
    fn is_first_key(&mut self, key: Option<&str>) -> bool {
        let Some(key) = key else { return false };
        **self.failed_key.get_or_insert_with(|| key.into()) == *key
    }

    fn is_healthy(&self) -> bool {
        self.breaker.is_idle() && self.breaker.outage().is_none() && self.failed_key.is_none()
    }
}

fn is_of_identity(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Throttled { .. } | ProviderError::Unauthenticated { .. })
}

impl Suspects {
    /// Whether another failure makes several since the last answer, so that the host may be out.
    pub(super) fn would_be_many(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Records a failure; true when several directories have timed out.
    pub(super) fn note(&mut self, directory: &Directory, is_slow: bool) -> bool {
        if self.failed.len() < MAX_DIRECTORIES {
            self.failed.insert(directory.clone());
        }
        if is_slow && self.slow.len() < 2 {
            self.slow.insert(directory.clone());
        }
        self.slow.len() > 1
    }

    /// The host's status is good. Directories that timed out stay suspect.
    pub(super) fn clear_failed(&mut self) {
        self.failed.clear();
    }

    /// The provider answered a call.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl RateLimits {
    /// Records that the provider asked an identity to wait.
    pub(super) fn note(&mut self, call: &Call, why: &str, wait: Duration, now: Instant) {
        self.0.retain(|_, limit| limit.until > now);
        let limit = RateLimit { until: now + wait, why: why.to_owned() };
        self.0.insert((call.identity.clone(), call.route), limit);
    }

    /// Until when a call must wait, and why.
    pub(super) fn of(&self, call: &Call, now: Instant) -> Option<(Instant, &str)> {
        let limit = self.0.get(&(call.identity.clone(), call.route))?;
        (limit.until > now).then_some((limit.until, limit.why.as_str()))
    }

    /// Takes over the limits from before a reload.
    pub(super) fn inherit(&mut self, before: &Self) {
        self.0.extend(before.0.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::{BootInstant, Timestamp};

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Now {
        Now {
            wall: Timestamp::from_millis(0),
            boot: BootInstant::at(Duration::ZERO),
            mono: Instant::now(),
        }
    }

    fn later(now: Now, span: Duration) -> Now {
        Now { wall: now.wall.after(span), boot: now.boot.after(span), mono: now.mono + span }
    }

    fn get(path: &str, key: &str) -> Call {
        Call::for_key(&CacheKey::new(Namespace::new(&["r"]), path, key), "i".into())
    }

    fn end(all: &mut Directories, call: &Call, error: Option<&ProviderError>, now: Now) {
        let permit = all.begin(call, now.mono).unwrap();
        all.finish(&Finished { call, error, now, jitter: 0.0 }, &permit);
    }

    fn failed() -> ProviderError {
        ProviderError::Failed("500".into())
    }

    #[test]
    fn single_failing_key_does_not_pause_its_directory() {
        let (mut all, now) = (Directories::default(), start());
        for _ in 0..3 {
            end(&mut all, &get("/a", "BAD"), Some(&failed()), now);
        }
        assert_eq!(all.known_failure(&get("/a", "GOOD").directory, now.mono), None);
        end(&mut all, &get("/a", "BAD2"), Some(&failed()), now);
        assert_eq!(
            all.known_failure(&get("/a", "GOOD").directory, now.mono).as_deref(),
            Some("500")
        );
        // An uncached key may still be asked for.
        assert_eq!(all.is_too_slow(&get("/a", "GOOD").directory, now.mono), None);
        assert_eq!(all.known_failure(&get("/b", "GOOD").directory, now.mono), None);
        end(&mut all, &get("/a", "GOOD"), None, now);
        assert!(all.0.is_empty());
    }

    #[test]
    fn slow_directory_is_paused_for_uncached_keys_too() {
        let (mut all, mut now) = (Directories::default(), start());
        let slow = ProviderError::TimedOut("slow".into());
        end(&mut all, &get("/a", "K"), Some(&slow), now);
        assert_eq!(all.is_too_slow(&get("/a", "K").directory, now.mono), None);
        now = later(now, SECOND);
        end(&mut all, &get("/a", "L"), Some(&slow), now);
        assert_eq!(all.is_too_slow(&get("/a", "K").directory, now.mono), Some("slow"));
        assert_eq!(all.is_too_slow(&get("/b", "K").directory, now.mono), None);
        now = later(now, 30 * SECOND);
        assert_eq!(all.is_too_slow(&get("/a", "K").directory, now.mono), None);
    }

    #[test]
    fn slow_call_counts_for_its_directory() {
        let (mut all, now) = (Directories::default(), start());
        let permits = ["/a", "/b"].map(|path| all.begin(&get(path, "K"), now.mono).unwrap());
        let then = later(now, SECOND);
        assert_eq!((all.slow(now.mono), all.slow(then.mono)), (0, 2));
        let call = get("/a", "K");
        let finished = Finished { call: &call, error: None, now: then, jitter: 0.0 };
        all.finish(&finished, &permits[0]);
        assert_eq!(all.slow(then.mono), 1);
        assert_eq!(all.known_failure(&get("/a", "K").directory, then.mono), None);
        assert!(all.known_failure(&get("/b", "K").directory, then.mono).is_some());
    }

    #[test]
    fn tracked_directories_are_bounded() {
        let (mut all, now) = (Directories::default(), start());
        for number in 0..MAX_DIRECTORIES + 10 {
            let path = format!("/{number}");
            end(&mut all, &Call { key: None, ..get(&path, "K") }, Some(&failed()), now);
        }
        assert!(all.0.len() <= MAX_DIRECTORIES);
    }

    #[test]
    fn consecutive_failures_make_the_host_suspect() {
        let mut suspects = Suspects::default();
        let [a, b] = ["/a", "/b"].map(|path| get(path, "K").directory);
        assert!(!suspects.would_be_many());
        assert!(!suspects.note(&a, true));
        assert!(suspects.would_be_many());
        assert!(!suspects.note(&b, false));
        assert!(suspects.note(&b, true), "two timed out");
        suspects.clear_failed();
        assert!(!suspects.would_be_many());
        assert!(suspects.note(&a, false));
        suspects.clear();
        assert!(!suspects.note(&b, true));
    }

    #[test]
    fn rate_limit_holds_one_identity_on_one_route() {
        let (mut limits, now) = (RateLimits::default(), Instant::now());
        let call = get("/a", "K");
        limits.note(&call, "429", 9 * SECOND, now);
        assert_eq!(limits.of(&call, now), Some((now + 9 * SECOND, "429")));
        assert_eq!(limits.of(&get("/b", "L"), now), Some((now + 9 * SECOND, "429")));
        assert_eq!(limits.of(&Call { route: Route::List, ..call.clone() }, now), None);
        assert_eq!(limits.of(&Call { identity: "j".into(), ..call.clone() }, now), None);
        assert_eq!(limits.of(&call, now + 9 * SECOND), None);
        let mut reloaded = RateLimits::default();
        reloaded.inherit(&limits);
        assert!(reloaded.of(&call, now).is_some());
    }
}
