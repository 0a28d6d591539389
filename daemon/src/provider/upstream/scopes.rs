//! What belongs to one directory or to one identity of a provider, and to no other. Pure: time and chance
//! are arguments.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::clock::Now;
use crate::model::reference::{CacheKey, ListingScope, Namespace};
use crate::provider::ProviderError;
use crate::provider::circuit_breaker::{BackoffPolicy, CallPermit, Caller, CircuitBreaker, Outage};

/// More directories than this in trouble, and those that were tried longest ago are forgotten.
const MAX_DIRECTORIES: usize = 1_024;

/// What one call asks for, and on whose behalf.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who wants to know.
    pub caller: Caller,
    /// The identity that the provider is asked as.
    pub identity: String,
    /// Which of the provider's limits it counts against.
    pub route: Route,
    /// The directory that is asked.
    pub directory: Directory,
    /// The one key that is asked for; none: all of the directory.
    pub key: Option<Box<str>>,
}

/// A directory of a realm.
pub(super) type Directory = (Namespace, Arc<str>);

/// Providers count listings and single values apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// A whole directory.
    List,
    /// One value.
    Get,
    /// Something is written.
    Write,
}

/// The directories that are asked right now, or that failed.
#[derive(Debug, Default)]
pub(super) struct Directories(HashMap<Directory, State>);

#[derive(Debug)]
struct State {
    breaker: CircuitBreaker,
    /// Its last failure was no answer in time: then whoever has nothing to serve need not wait for
    /// another one.
    is_slow: bool,
    /// The one key that failed: that says nothing of the others until a second one fails.
    failed_key: Option<Box<str>>,
}

/// The directories that failed since the provider last gave an answer to anybody.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    failed: BTreeSet<Directory>,
    slow: BTreeSet<Directory>,
}

/// Identities that the provider asked to wait.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<(String, Route), Pause>);

#[derive(Clone, Debug)]
struct Pause {
    until: Instant,
    why: String,
}

impl Call {
    /// A lookup of one key.
    pub fn for_key(at: &CacheKey, identity: String) -> Self {
        Self {
            caller: Caller::Anybody,
            identity,
            route: Route::Get,
            directory: (at.realm.clone(), Arc::clone(&at.path)),
            key: Some(at.key.clone()),
        }
    }

    /// A call about a whole directory.
    pub fn for_directory(
        extent: &ListingScope,
        identity: String,
        route: Route,
        caller: Caller,
    ) -> Self {
        let directory = (extent.realm.clone(), Arc::from(extent.path.as_str()));
        Self { caller, identity, route, directory, key: None }
    }
}

impl Directories {
    /// A call to the directory goes out.
    pub(super) fn begin(&mut self, call: &Call, now: Instant) -> Option<CallPermit> {
        self.make_room();
        let state = self.0.entry(call.directory.clone()).or_insert_with(|| State {
            breaker: CircuitBreaker::new(BackoffPolicy::SERVER),
            is_slow: false,
            failed_key: None,
        });
        // Whether it may go out was asked before.
        state.breaker.begin(Caller::Admin, now).ok()
    }

    /// A call ended without the directory being asked.
    pub(super) fn unasked(&mut self, call: &Call, pass: &CallPermit) {
        if let Some(state) = self.0.get_mut(&call.directory) {
            state.breaker.unasked(pass);
        }
        self.forget_if_well(&call.directory);
    }

    /// A call to the directory ended with this answer.
    pub(super) fn end<T>(
        &mut self,
        call: &Call,
        pass: &CallPermit,
        answer: &Result<T, ProviderError>,
        now: Now,
        share: f64,
    ) {
        let Some(state) = self.0.get_mut(&call.directory) else { return };
        match answer {
            Err(error @ (ProviderError::TimedOut(_) | ProviderError::Failed(_))) => {
                let is_slow = matches!(error, ProviderError::TimedOut(_));
                if !is_slow && state.is_first_key(call.key.as_deref()) {
                    state.breaker.unasked(pass);
                } else {
                    state.is_slow = is_slow;
                    state.breaker.failed(pass, now, &error.to_string(), share);
                }
            }
            // With a token that others are served with: it is about this directory.
            Err(ProviderError::Unauthenticated { why, wait: None }) => {
                state.breaker.failed(pass, now, why, share);
            }
            Err(error) if error.is_host_wide() || is_of_identity(error) => {
                state.breaker.unasked(pass);
            }
            Ok(_) | Err(_) => {
                state.breaker.answered(pass);
                (state.is_slow, state.failed_key) = (false, None);
            }
        }
        self.forget_if_well(&call.directory);
    }

    /// Why whoever has a value to serve need not ask the directory now.
    pub(super) fn rests(&self, directory: &Directory, now: Instant) -> Option<String> {
        let breaker = &self.0.get(directory)?.breaker;
        match breaker.forbids(Caller::Anybody, now) {
            Some(why) => Some(why.to_owned()),
            None => breaker.hangs(now).then(|| "it does not answer".into()),
        }
    }

    /// Why whoever has no value need not wait for the directory now: it was too slow, more than once.
    pub(super) fn is_too_slow(&self, directory: &Directory, now: Instant) -> Option<&str> {
        let state = self.0.get(directory)?;
        let is_outage = state.breaker.trouble().is_some_and(Outage::is_outage);
        if state.is_slow && is_outage { state.breaker.forbids(Caller::Anybody, now) } else { None }
    }

    /// In how many directories a call hangs.
    pub(super) fn hanging(&self, now: Instant) -> usize {
        self.0.values().filter(|state| state.breaker.hangs(now)).count()
    }

    fn forget_if_well(&mut self, directory: &Directory) {
        if self.0.get(directory).is_some_and(State::is_well) {
            self.0.remove(directory);
        }
    }

    fn make_room(&mut self) {
        if self.0.len() < MAX_DIRECTORIES {
            return;
        }
        let next = |state: &State| state.breaker.trouble().map(|trouble| trouble.next_try);
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

impl State {
    /// Whether the failure of this key is the first one, or that of the same key again.
    fn is_first_key(&mut self, key: Option<&str>) -> bool {
        let Some(key) = key else { return false };
        **self.failed_key.get_or_insert_with(|| key.into()) == *key
    }

    fn is_well(&self) -> bool {
        self.breaker.is_idle() && self.breaker.trouble().is_none() && self.failed_key.is_none()
    }
}

fn is_of_identity(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Throttled { .. } | ProviderError::Unauthenticated { .. })
}

impl Suspects {
    /// Whether the host may be out with this failure: it is not the first one since the last answer.
    pub(super) fn would_be_many(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Takes note of a failure; true when several directories have been too slow.
    pub(super) fn note(&mut self, directory: &Directory, is_slow: bool) -> bool {
        if self.failed.len() < MAX_DIRECTORIES {
            self.failed.insert(directory.clone());
        }
        if is_slow && self.slow.len() < 2 {
            self.slow.insert(directory.clone());
        }
        self.slow.len() > 1
    }

    /// The host says that it is well. What was too slow is so all the same.
    pub(super) fn clear_failed(&mut self) {
        self.failed.clear();
    }

    /// The provider answered somebody.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Pauses {
    /// The provider asked an identity to wait.
    pub(super) fn note(&mut self, call: &Call, why: &str, wait: Duration, now: Instant) {
        self.0.retain(|_, pause| pause.until > now);
        let pause = Pause { until: now + wait, why: why.to_owned() };
        self.0.insert((call.identity.clone(), call.route), pause);
    }

    /// Until when the identity is to wait, and why.
    pub(super) fn of(&self, call: &Call, now: Instant) -> Option<(Instant, &str)> {
        let pause = self.0.get(&(call.identity.clone(), call.route))?;
        (pause.until > now).then_some((pause.until, pause.why.as_str()))
    }

    /// Takes over what the provider asked for before a reload.
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
            tick: BootInstant::at(Duration::ZERO),
            mono: Instant::now(),
        }
    }

    fn later(now: Now, span: Duration) -> Now {
        Now { wall: now.wall.after(span), tick: now.tick.after(span), mono: now.mono + span }
    }

    fn get(path: &str, key: &str) -> Call {
        Call::for_key(&CacheKey::new(Namespace::new(&["r"]), path, key), "i".into())
    }

    fn end(all: &mut Directories, call: &Call, answer: &Result<(), ProviderError>, now: Now) {
        let pass = all.begin(call, now.mono).unwrap();
        all.end(call, &pass, answer, now, 0.0);
    }

    fn failed() -> Result<(), ProviderError> {
        Err(ProviderError::Failed("500".into()))
    }

    #[test]
    fn one_failing_key_does_not_pause_its_directory() {
        let (mut all, now) = (Directories::default(), start());
        for _ in 0..3 {
            end(&mut all, &get("/a", "BAD"), &failed(), now);
        }
        assert_eq!(all.rests(&get("/a", "GOOD").directory, now.mono), None);
        end(&mut all, &get("/a", "BAD2"), &failed(), now);
        assert_eq!(all.rests(&get("/a", "GOOD").directory, now.mono).as_deref(), Some("500"));
        // A key that is not cached may still be asked for.
        assert_eq!(all.is_too_slow(&get("/a", "GOOD").directory, now.mono), None);
        assert_eq!(all.rests(&get("/b", "GOOD").directory, now.mono), None);
        end(&mut all, &get("/a", "GOOD"), &Ok(()), now);
        assert!(all.0.is_empty());
    }

    #[test]
    fn a_slow_directory_is_paused_even_for_uncached_keys_and_no_other_is() {
        let (mut all, mut now) = (Directories::default(), start());
        let slow = Err(ProviderError::TimedOut("slow".into()));
        end(&mut all, &get("/a", "K"), &slow, now);
        assert_eq!(all.is_too_slow(&get("/a", "K").directory, now.mono), None);
        now = later(now, SECOND);
        end(&mut all, &get("/a", "L"), &slow, now);
        assert_eq!(all.is_too_slow(&get("/a", "K").directory, now.mono), Some("slow"));
        assert_eq!(all.is_too_slow(&get("/b", "K").directory, now.mono), None);
        now = later(now, 30 * SECOND);
        assert_eq!(all.is_too_slow(&get("/a", "K").directory, now.mono), None);
    }

    #[test]
    fn a_hanging_call_counts_for_its_directory() {
        let (mut all, now) = (Directories::default(), start());
        let passes = ["/a", "/b"].map(|path| all.begin(&get(path, "K"), now.mono).unwrap());
        let then = later(now, SECOND);
        assert_eq!((all.hanging(now.mono), all.hanging(then.mono)), (0, 2));
        all.end(&get("/a", "K"), &passes[0], &Ok(()), then, 0.0);
        assert_eq!(all.hanging(then.mono), 1);
        assert_eq!(all.rests(&get("/a", "K").directory, then.mono), None);
        assert!(all.rests(&get("/b", "K").directory, then.mono).is_some());
    }

    #[test]
    fn failing_directories_are_remembered_up_to_a_limit() {
        let (mut all, now) = (Directories::default(), start());
        for number in 0..MAX_DIRECTORIES + 10 {
            let path = format!("/{number}");
            end(&mut all, &Call { key: None, ..get(&path, "K") }, &failed(), now);
        }
        assert!(all.0.len() <= MAX_DIRECTORIES);
    }

    #[test]
    fn the_host_is_suspected_when_requests_fail_in_a_row() {
        let mut suspects = Suspects::default();
        let [a, b] = ["/a", "/b"].map(|path| get(path, "K").directory);
        assert!(!suspects.would_be_many());
        assert!(!suspects.note(&a, true));
        assert!(suspects.would_be_many());
        assert!(!suspects.note(&b, false));
        assert!(suspects.note(&b, true), "two were too slow");
        suspects.clear_failed();
        assert!(!suspects.would_be_many());
        assert!(suspects.note(&a, false));
        suspects.clear();
        assert!(!suspects.note(&b, true));
    }

    #[test]
    fn a_rate_limit_pauses_one_identity_on_one_route() {
        let (mut pauses, now) = (Pauses::default(), Instant::now());
        let call = get("/a", "K");
        pauses.note(&call, "429", 9 * SECOND, now);
        assert_eq!(pauses.of(&call, now), Some((now + 9 * SECOND, "429")));
        assert_eq!(pauses.of(&get("/b", "L"), now), Some((now + 9 * SECOND, "429")));
        assert_eq!(pauses.of(&Call { route: Route::List, ..call.clone() }, now), None);
        assert_eq!(pauses.of(&Call { identity: "j".into(), ..call.clone() }, now), None);
        assert_eq!(pauses.of(&call, now + 9 * SECOND), None);
        let mut reloaded = Pauses::default();
        reloaded.inherit(&pauses);
        assert!(reloaded.of(&call, now).is_some());
    }
}
