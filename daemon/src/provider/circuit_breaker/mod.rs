//! The circuit breaker of a provider: it limits how often a provider that fails is called. Pure: time and
//! jitter are arguments.
//!
//! A single failure does not open the breaker, because a packet can be lost and a kept connection can be
//! dead: the provider is called again once, after a second, and a lookup without a cached value may wait
//! for that. A second failure opens it: one probe at a time, at most one every 30 s and later fewer, however
//! many lookups arrive. The first answer closes it.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::clock::{Now, Timestamp};

/// The pause after a single failure.
const AFTER_FIRST: Duration = Duration::from_secs(1);
/// The part of itself by which a pause is prolonged at most, so that hosts do not all call again at once.
const JITTER: f64 = 0.25;
/// The age from which an unanswered call counts as slow, long before its timeout.
const SLOW: Duration = Duration::from_secs(1);

/// How often an open breaker lets a probe through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackoffPolicy {
    /// The pause after two failures in a row; it doubles with each further failure.
    shortest: Duration,
    /// The longest pause: an uncached secret waits at most this long after the provider is back.
    longest: Duration,
}

/// The state of one provider, derived from its answers.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    policy: BackoffPolicy,
    outage: Option<Outage>,
    /// Unanswered calls that probe a failing provider: one, and those of admins.
    probes: u32,
    /// The start of the oldest unanswered call; an answer clears it.
    waiting_since: Option<Instant>,
    unanswered: u32,
}

/// The breaker's state in the terms of the pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// Calls go out: the last one was answered, or only one has failed.
    #[default]
    Closed,
    /// Several calls in a row failed; no probe is out.
    Open,
    /// Several calls in a row failed; one probe is out.
    HalfOpen,
    /// The provider asked to wait.
    RateLimited,
}

/// The failures since the last answer.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    /// The time of the first failure.
    pub since: Timestamp,
    /// The message of the last error.
    pub why: String,
    /// The time of the next probe.
    pub next_try: Timestamp,
    /// The number of failures, each of several concurrent calls counted.
    pub failed: u64,
    /// The number of failures in a row; those of concurrent calls count as one.
    in_a_row: u32,
    /// Whether the provider itself asked to wait.
    asked_to_wait: bool,
    began: Instant,
    next_try_mono: Instant,
    last_failure: Instant,
}

/// Permission for one call. It is returned to `cancelled`, `answered`, `throttled` or `failed`.
#[derive(Debug)]
pub(crate) struct CallPermit {
    began: Instant,
    is_probe: bool,
    caller: Caller,
}

/// No call is permitted now; with the message of the last error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotPermitted(String);

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A lookup, or the refresh schedule.
    Routine,
    /// An admin's command. Only a pause that the provider requested delays it.
    Admin,
}

/// Whether a call may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// It may.
    Now,
    /// Not before this time.
    NotBefore(Instant),
    /// After a single failure, another call probes the provider: its answer decides.
    AwaitProbe,
    /// The breaker is half-open: another call probes the provider.
    Refused,
}

impl BackoffPolicy {
    /// For a server, which has many clients and a rate limit.
    pub(crate) const SERVER: Self =
        Self { shortest: Duration::from_secs(30), longest: Duration::from_secs(120) };
    /// For a device of this host, which an admin may plug in at any time.
    pub(crate) const DEVICE: Self =
        Self { shortest: Duration::from_secs(2), longest: Duration::from_secs(30) };
}

impl CircuitBreaker {
    /// The breaker of a provider that has not been called yet.
    pub(crate) fn new(policy: BackoffPolicy) -> Self {
        Self { policy, outage: None, probes: 0, waiting_since: None, unanswered: 0 }
    }

    /// Whether `caller` may call now; if not, the message of the last error.
    pub(crate) fn check(&self, caller: Caller, now: Instant) -> Result<(), &str> {
        match &self.outage {
            Some(outage) if self.permit(caller, now) != Permit::Now => Err(&outage.why),
            _ => Ok(()),
        }
    }

    /// Whether `caller` may call now; if not, when.
    pub(crate) fn permit(&self, caller: Caller, now: Instant) -> Permit {
        let Some(outage) = &self.outage else { return Permit::Now };
        let must_wait = caller == Caller::Routine || outage.asked_to_wait;
        if must_wait && now < outage.next_try_mono {
            return Permit::NotBefore(outage.next_try_mono);
        }
        match caller {
            Caller::Routine if self.probes > 0 && outage.is_confirmed() => Permit::Refused,
            Caller::Routine if self.probes > 0 => Permit::AwaitProbe,
            _ => Permit::Now,
        }
    }

    /// The breaker's state.
    pub(crate) fn state(&self) -> BreakerState {
        match &self.outage {
            Some(outage) if outage.is_confirmed() && self.probes > 0 => BreakerState::HalfOpen,
            Some(outage) => outage.state(),
            None => BreakerState::Closed,
        }
    }

    /// Whether the breaker is open or half-open: more than a single call failed.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state(), BreakerState::Open | BreakerState::HalfOpen)
    }

    /// The failures since the last answer, whether or not a probe is due.
    pub(crate) fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }

    /// Whether a call has gone unanswered for so long that a lookup with a cached value need not make one.
    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) >= SLOW)
    }

    /// Whether no call is unanswered.
    pub(crate) fn is_idle(&self) -> bool {
        self.unanswered == 0
    }

    /// Permits a call, if `caller` may call now.
    pub(crate) fn begin(
        &mut self,
        caller: Caller,
        now: Instant,
    ) -> Result<CallPermit, NotPermitted> {
        self.check(caller, now).map_err(|why| NotPermitted(why.to_owned()))?;
        let is_probe = self.outage.is_some();
        self.probes += u32::from(is_probe);
        self.unanswered += 1;
        self.waiting_since.get_or_insert(now);
        Ok(CallPermit { began: now, is_probe, caller })
    }

    /// The call ended without an answer that concerns this breaker.
    pub(crate) fn cancelled(&mut self, permit: &CallPermit) {
        self.release(permit);
    }

    /// The call was answered, by a success or an error. Returns the outage that this ended.
    pub(crate) fn answered(&mut self, permit: &CallPermit) -> Option<Outage> {
        self.release(permit);
        self.waiting_since = None;
        self.outage.take()
    }

    /// The provider asked to wait, which does not confirm an outage.
    pub(crate) fn throttled(&mut self, permit: &CallPermit, now: Now, why: &str, wait: Duration) {
        self.release(permit);
        let outage = self.outage.get_or_insert_with(|| Outage::new(now));
        why.clone_into(&mut outage.why);
        outage.failed += 1;
        outage.asked_to_wait = true;
        outage.delay(now, wait.max(AFTER_FIRST));
    }

    /// The call failed. `jitter` is a random number from 0 to 1.
    pub(crate) fn failed(&mut self, permit: &CallPermit, now: Now, why: &str, jitter: f64) {
        self.release(permit);
        let outage = self.outage.get_or_insert_with(|| Outage::new(now));
        why.clone_into(&mut outage.why);
        outage.failed += 1;
        // Concurrent calls fail together: that is one failure, not many.
        if outage.in_a_row > 0 && permit.began < outage.last_failure {
            return;
        }
        // An admin may retry as often as needed: that does not prolong the pause of the others.
        let is_early = now.mono < outage.next_try_mono;
        if permit.caller == Caller::Admin && outage.is_confirmed() && is_early {
            return;
        }
        outage.in_a_row += 1;
        outage.last_failure = now.mono;
        outage.asked_to_wait = false;
        let pause = outage.pause(self.policy);
        outage.delay(now, pause + pause.mul_f64(JITTER * jitter.clamp(0.0, 1.0)));
    }

    fn release(&mut self, permit: &CallPermit) {
        self.probes = self.probes.saturating_sub(u32::from(permit.is_probe));
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.waiting_since = None;
        }
    }
}

impl Outage {
    fn new(now: Now) -> Self {
        Self {
            since: now.wall,
            why: String::new(),
            next_try: now.wall,
            failed: 0,
            in_a_row: 0,
            asked_to_wait: false,
            began: now.mono,
            next_try_mono: now.mono,
            last_failure: now.mono,
        }
    }

    /// Whether more than one call failed: a single failure may be a lost packet.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.in_a_row >= 2
    }

    /// The state of a breaker with this outage and without a probe.
    pub(crate) fn state(&self) -> BreakerState {
        match self {
            outage if outage.is_confirmed() => BreakerState::Open,
            outage if outage.asked_to_wait => BreakerState::RateLimited,
            _ => BreakerState::Closed,
        }
    }

    /// How long it has lasted.
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn pause(&self, policy: BackoffPolicy) -> Duration {
        match self.in_a_row {
            0 | 1 => AFTER_FIRST,
            more => policy.shortest.saturating_mul(1 << (more - 2).min(8)).min(policy.longest),
        }
    }

    fn delay(&mut self, now: Now, pause: Duration) {
        self.next_try_mono = now.mono + pause;
        self.next_try = now.wall.after(pause);
    }
}

#[cfg(test)]
mod tests;
