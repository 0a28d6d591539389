//! When each source is due. Time and randomness are arguments. The time is the boot clock's, which counts a
//! suspend and does not jump with the wall clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::RefreshInterval;
use crate::model::clock::BootInstant;
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::ProviderError;

/// The time from a start without a cache to the first pull.
const FIRST_PULL: Duration = Duration::from_secs(30);
/// The time from a failed pull to the next one. It doubles with each failure, up to the interval: a source that does
/// not exist must not be pulled more often than one that exists. A refusal can be confirmed by then.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// The key of a source: its provider and its scope.
pub(super) type TargetKey = (String, ListingScope);

/// When each source is due.
pub(super) struct RefreshSchedule {
    schedule: RefreshInterval,
    sources: HashMap<TargetKey, State>,
}

struct State {
    /// For messages.
    name: String,
    due: BootInstant,
    /// Failures in a row; an outage does not count.
    failures: u32,
    failed: Option<PullFailure>,
    /// The secrets that were wanted at the last plan.
    wanted: Option<HashSet<CacheKey>>,
}

/// Why a source was not pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PullFailure {
    pub(super) why: String,
    pub(super) kind: FailureKind,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The source itself, or a key in it.
    Own,
    /// The provider is out for everybody.
    Host,
    /// The identity is asked to wait for so long.
    Throttled(Duration),
    /// The identity cannot log in; it tries again after so long.
    Login(Duration),
}

impl PullFailure {
    pub(super) fn of(error: &ProviderError) -> Self {
        let kind = match error {
            error if error.is_host_wide() => FailureKind::Host,
            ProviderError::Throttled { wait, .. } => FailureKind::Throttled(*wait),
            ProviderError::Unauthenticated { wait: Some(wait), .. } => FailureKind::Login(*wait),
            _ => FailureKind::Own,
        };
        Self { why: error.to_string(), kind }
    }
}

/// A source to be scheduled.
pub(super) struct PlannedTarget<'a> {
    pub(super) key: &'a TargetKey,
    pub(super) name: &'a str,
    /// The wanted secrets; `None`: all.
    pub(super) wanted: Option<&'a HashSet<CacheKey>>,
}

impl RefreshSchedule {
    pub(super) fn new(schedule: RefreshInterval) -> Self {
        Self { schedule, sources: HashMap::new() }
    }

    pub(super) fn interval(&self) -> Duration {
        self.schedule.interval
    }

    /// Schedules the planned sources, and forgets others. `oldest` returns when the oldest secret of a new source was
    /// fetched, if none is missing: after a restart with a young cache, the provider is not asked at once.
    pub(super) fn plan(
        &mut self,
        planned: &[PlannedTarget<'_>],
        now: BootInstant,
        oldest: impl Fn(&TargetKey) -> Option<BootInstant>,
        jitter: impl Fn() -> f64,
    ) {
        let present: HashSet<&TargetKey> = planned.iter().map(|planned| planned.key).collect();
        self.sources.retain(|key, _| present.contains(key));
        let RefreshInterval { interval, max_jitter } = self.schedule;
        // The jitter spreads the requests of a fleet that starts together.
        let soon = |jitter: f64| now.after(interval.min(FIRST_PULL + max_jitter.mul_f64(jitter)));
        for PlannedTarget { key, name, wanted } in planned {
            if let Some(state) = self.sources.get_mut(key) {
                if is_wider(state.wanted.as_ref(), *wanted) {
                    state.due = state.due.min(soon(jitter()));
                    state.wanted = wanted.cloned();
                }
                continue;
            }
            let due = match oldest(key) {
                Some(oldest) => oldest.after(interval).max(now).after(max_jitter.mul_f64(jitter())),
                None => soon(jitter()),
            };
            let wanted = wanted.cloned();
            let state = State { name: (*name).into(), due, failures: 0, failed: None, wanted };
            self.sources.insert((*key).clone(), state);
        }
    }

    /// When a source is due.
    pub(super) fn due(&self, key: &TargetKey) -> Option<BootInstant> {
        self.sources.get(key).map(|state| state.due)
    }

    /// Applies a new interval, which counts from now.
    pub(super) fn follow(
        &mut self,
        schedule: RefreshInterval,
        now: BootInstant,
        jitter: impl Fn() -> f64,
    ) {
        self.schedule = schedule;
        for state in self.sources.values_mut() {
            let next = now.after(schedule.interval + schedule.max_jitter.mul_f64(jitter()));
            state.due = state.due.min(next);
        }
    }

    /// Records that a source was pulled at `now`.
    pub(super) fn done(&mut self, key: &TargetKey, now: BootInstant, jitter: f64) {
        let RefreshInterval { interval, max_jitter } = self.schedule;
        if let Some(state) = self.sources.get_mut(key) {
            state.due = now.after(interval + max_jitter.mul_f64(jitter));
            state.failures = 0;
            state.failed = None;
        }
    }

    /// Records that the pull of a source failed in whole or in part. In an outage it stays due: the circuit breaker
    /// decides when to retry.
    pub(super) fn failed(
        &mut self,
        key: &TargetKey,
        failed: PullFailure,
        now: BootInstant,
        jitter: f64,
    ) {
        let interval = self.schedule.interval;
        let Some(state) = self.sources.get_mut(key) else { return };
        if failed.kind == FailureKind::Own {
            let pause = AFTER_FAILURE.saturating_mul(1 << state.failures.min(16)).min(interval);
            state.due = now.after(pause + pause.mul_f64(0.1 * jitter));
            state.failures += 1;
            state.failed = Some(failed);
        } else {
            self.not_asked(key, failed, now, jitter);
        }
    }

    /// Records that a source was not requested, which is not a failure of the source.
    pub(super) fn not_asked(
        &mut self,
        key: &TargetKey,
        failed: PullFailure,
        now: BootInstant,
        jitter: f64,
    ) {
        let Some(state) = self.sources.get_mut(key) else { return };
        match failed.kind {
            FailureKind::Host | FailureKind::Own => state.due = state.due.min(now),
            FailureKind::Throttled(wait) => {
                state.due = now.after(wait + wait.mul_f64(0.1 * jitter));
            }
            // To check for new credentials costs no login.
            FailureKind::Login(wait) => {
                let wait = wait.min(AFTER_FAILURE);
                state.due = now.after(wait + wait.mul_f64(0.1 * jitter));
            }
        }
        state.failed = Some(failed);
    }

    /// Makes the sources due that failed with a provider or an identity, which recovered.
    pub(super) fn recovered(&mut self, now: BootInstant) {
        for state in self.sources.values_mut() {
            let kind = state.failed.as_ref().map(|failed| failed.kind);
            if let Some(FailureKind::Host | FailureKind::Login(_)) = kind {
                state.due = state.due.min(now);
            }
        }
    }

    /// The order of requests: sources that a rate limit delayed, sources that succeeded, then sources that failed.
    pub(super) fn rank(&self, key: &TargetKey) -> u8 {
        match self.sources.get(key).and_then(|state| state.failed.as_ref()) {
            Some(PullFailure { kind: FailureKind::Throttled(_), .. }) => 0,
            None | Some(PullFailure { kind: FailureKind::Host, .. }) => 1,
            Some(_) => 2,
        }
    }

    /// The scopes of the sources whose last pull failed.
    pub(super) fn failing_scopes(&self) -> Vec<ListingScope> {
        let failing = self.sources.iter().filter(|(_, state)| state.failed.is_some());
        failing.map(|((_, scope), _)| scope.clone()).collect()
    }

    /// The sources whose last pull failed, by name.
    pub(super) fn failing(&self) -> BTreeMap<String, PullFailure> {
        let states = self.sources.values();
        states.filter_map(|state| Some((state.name.clone(), state.failed.clone()?))).collect()
    }
}

/// Whether more is wanted than before.
fn is_wider(before: Option<&HashSet<CacheKey>>, now: Option<&HashSet<CacheKey>>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => !now.is_subset(before),
        (before, now) => before.is_some() && now.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reference::Namespace;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn key(path: &str) -> TargetKey {
        let namespace = Namespace::new(&["p"]);
        ("infisical".into(), ListingScope { namespace, path: path.into(), recursive: false })
    }

    fn wanted(keys: &[&str]) -> HashSet<CacheKey> {
        let at = |key: &&str| CacheKey::new(Namespace::new(&["p"]), "/a", *key);
        keys.iter().map(at).collect()
    }

    fn schedule() -> RefreshSchedule {
        RefreshSchedule::new(RefreshInterval { interval: HOUR, max_jitter: 5 * MINUTE })
    }

    fn time(span: Duration) -> BootInstant {
        BootInstant::at(100 * HOUR + span)
    }

    fn plan(
        schedule: &mut RefreshSchedule,
        oldest: Option<BootInstant>,
        now: BootInstant,
        jitter: f64,
    ) -> BootInstant {
        let key = key("/a");
        let planned = PlannedTarget { key: &key, name: "p:/a", wanted: None };
        schedule.plan(&[planned], now, |_| oldest, || jitter);
        schedule.due(&key).unwrap()
    }

    #[test]
    fn first_pull_waits_for_a_young_cache_and_is_spread_for_an_old_one() {
        let now = time(Duration::ZERO);
        let young = now.before(20 * MINUTE);
        assert_eq!(plan(&mut schedule(), Some(young), now, 0.0), now.after(40 * MINUTE));
        let old = now.before(9 * HOUR);
        assert_eq!(plan(&mut schedule(), Some(old), now, 0.5), now.after(5 * MINUTE / 2));
        assert_eq!(plan(&mut schedule(), None, now, 0.0), now.after(FIRST_PULL));
        assert_eq!(plan(&mut schedule(), None, now, 1.0), now.after(FIRST_PULL + 5 * MINUTE));
    }

    /// The boot clock includes suspends: a pull that was due in one is due after it.
    #[test]
    fn missed_pull_is_due_after_a_suspend() {
        let mut schedule = schedule();
        let due = plan(&mut schedule, Some(time(Duration::ZERO)), time(Duration::ZERO), 0.0);
        let awake = time(8 * HOUR);
        assert_eq!(plan(&mut schedule, Some(time(Duration::ZERO)), awake, 0.0), due);
        assert!(due < awake);
    }

    #[test]
    fn interval_counts_from_the_end_of_a_pull_and_an_outage_leaves_it_due() {
        let mut schedule = schedule();
        plan(&mut schedule, None, time(Duration::ZERO), 0.0);
        schedule.done(&key("/a"), time(MINUTE), 1.0);
        assert_eq!(schedule.due(&key("/a")), Some(time(MINUTE + HOUR + 5 * MINUTE)));
        let out = PullFailure { why: "out".into(), kind: FailureKind::Host };
        schedule.failed(&key("/a"), out.clone(), time(2 * HOUR), 0.0);
        assert_eq!(schedule.due(&key("/a")), Some(time(HOUR + 6 * MINUTE)));
        assert_eq!(schedule.failing(), BTreeMap::from([("p:/a".into(), out)]));
    }

    #[test]
    fn failing_source_is_pulled_no_more_often_than_a_working_one() {
        let mut schedule = schedule();
        plan(&mut schedule, None, time(Duration::ZERO), 0.0);
        let mut now = time(Duration::ZERO);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let gone = PullFailure { why: "gone".into(), kind: FailureKind::Own };
            schedule.failed(&key("/a"), gone, now, 0.0);
            let due = schedule.due(&key("/a")).unwrap();
            assert_eq!(due, now.after(minutes * MINUTE));
            now = due;
        }
        schedule.done(&key("/a"), now, 0.0);
        assert!(schedule.failing().is_empty());
    }

    #[test]
    fn rate_limit_and_refused_login_are_not_failures_of_the_source() {
        let mut schedule = schedule();
        let now = time(Duration::ZERO);
        plan(&mut schedule, None, now, 0.0);
        let failed = |kind| PullFailure { why: "no".into(), kind };
        for _ in 0..5 {
            schedule.failed(&key("/a"), failed(FailureKind::Throttled(5 * MINUTE)), now, 0.0);
            assert_eq!(schedule.due(&key("/a")), Some(now.after(5 * MINUTE)));
            assert_eq!(schedule.rank(&key("/a")), 0);
            schedule.failed(&key("/a"), failed(FailureKind::Login(HOUR)), now, 0.0);
            assert_eq!(schedule.due(&key("/a")), Some(now.after(MINUTE)));
            assert_eq!(schedule.rank(&key("/a")), 2);
        }
        schedule.recovered(now);
        assert_eq!(schedule.due(&key("/a")), Some(now));
        assert_eq!(schedule.failing_scopes(), [key("/a").1]);
        // A source's own failure keeps its own pause.
        schedule.failed(&key("/a"), failed(FailureKind::Own), now, 0.0);
        schedule.recovered(now);
        assert_eq!(schedule.due(&key("/a")), Some(now.after(MINUTE)));
    }

    #[test]
    fn newly_registered_secret_is_pulled_soon() {
        let mut schedule = schedule();
        let (key, now) = (key("/a"), time(Duration::ZERO));
        let mut plan = |keys: &[&str]| {
            let wanted = wanted(keys);
            let planned = PlannedTarget { key: &key, name: "p:/a", wanted: Some(&wanted) };
            schedule.plan(&[planned], now, |_| Some(now), || 0.0);
            schedule.due(&key).unwrap()
        };
        assert_eq!(plan(&["A", "B"]), now.after(HOUR));
        assert_eq!(plan(&["A"]), now.after(HOUR));
        assert_eq!(plan(&["A", "C"]), now.after(FIRST_PULL));
    }

    #[test]
    fn unplanned_source_is_forgotten() {
        let mut schedule = schedule();
        plan(&mut schedule, None, time(Duration::ZERO), 0.0);
        schedule.failed(
            &key("/a"),
            PullFailure { why: "gone".into(), kind: FailureKind::Own },
            time(MINUTE),
            0.0,
        );
        schedule.plan(&[], time(MINUTE), |_| None, || 0.0);
        assert_eq!(schedule.due(&key("/a")), None);
        assert!(schedule.failing().is_empty());
    }

    #[test]
    fn shorter_schedule_counts_from_now() {
        let mut schedule = schedule();
        plan(&mut schedule, Some(time(Duration::ZERO)), time(Duration::ZERO), 0.0);
        let shorter = RefreshInterval { interval: MINUTE, max_jitter: Duration::ZERO };
        schedule.follow(shorter, time(MINUTE), || 0.0);
        assert_eq!(schedule.due(&key("/a")), Some(time(2 * MINUTE)));
    }
}
