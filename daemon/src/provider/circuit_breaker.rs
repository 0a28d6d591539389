//! When to leave a provider alone: during an outage, an error must not be hotter than success. Pure.
//!
//! One failure is no outage: a packet may be lost, a connection that was kept may be dead. So after a
//! first failure the provider is asked again after a second, once, and whoever has nothing to serve may
//! wait for that. A second failure is an outage: one probe at a time, one in 30 s at most, later fewer,
//! however many lookups arrive. The first answer ends it.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::clock::{Now, Timestamp};

/// After one failure.
const AFTER_FIRST: Duration = Duration::from_secs(1);
/// A pause is longer by up to this part of itself: a fleet must not come back all at once.
const JITTER: f64 = 0.25;
/// A call that is out for longer tells that the provider may hang, before its timeout does.
const SLOW: Duration = Duration::from_secs(1);

/// How often a provider is probed in an outage.
#[derive(Clone, Copy, Debug)]
pub struct BackoffPolicy {
    /// After two failures in a row; then twice as long each time.
    shortest: Duration,
    /// What is not cached waits so long at most for a provider that is back.
    longest: Duration,
}

/// One provider's state, as its answers tell it.
#[derive(Debug)]
pub struct CircuitBreaker {
    pace: BackoffPolicy,
    trouble: Option<Outage>,
    /// Calls that are out to find out whether the provider is back: one, and those of admins.
    probes: u32,
    /// When the oldest call that is still out began; a success clears it.
    waiting_since: Option<Instant>,
    calls_out: u32,
}

/// The last answer was none.
#[derive(Clone, Debug)]
pub struct Outage {
    /// When that began.
    pub since: Timestamp,
    /// Why, in the words of the last error.
    pub why: String,
    /// When the provider may be asked again.
    pub next_try: Timestamp,
    /// Failures so far, with those that were out together.
    pub failed: u64,
    /// Failures in a row; those of calls that were out together are one.
    in_a_row: u32,
    /// The provider itself asked to be left alone.
    asked_to_wait: bool,
    began: Instant,
    next_try_mono: Instant,
    last_failure: Instant,
}

/// A call that is out. It ends in one of four ways, whatever becomes of it.
#[derive(Debug)]
pub struct CallPermit {
    began: Instant,
    is_probe: bool,
    caller: Caller,
}

/// Who wants to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A lookup, or the schedule.
    Anybody,
    /// An admin, who wants to know now. Only what the provider asked for itself keeps him back.
    Admin,
}

/// Whether the provider may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Now,
    /// Not before then.
    NotBefore(Instant),
    /// Somebody is about to find out, and it was but one failure so far.
    AwaitProbe,
    /// Somebody is about to find out, in an outage.
    Refused,
}

impl BackoffPolicy {
    /// For a server, which many ask, and which has a limit.
    pub const SERVER: Self =
        Self { shortest: Duration::from_secs(30), longest: Duration::from_secs(120) };
    /// For a device of this host, which nobody else asks, and which somebody is about to plug in.
    pub const DEVICE: Self =
        Self { shortest: Duration::from_secs(2), longest: Duration::from_secs(30) };
}

impl CircuitBreaker {
    /// The breaker of a provider that was never asked.
    pub fn new(pace: BackoffPolicy) -> Self {
        Self { pace, trouble: None, probes: 0, waiting_since: None, calls_out: 0 }
    }

    /// What keeps `caller` from asking now, in the words of the last error.
    pub fn forbids(&self, caller: Caller, now: Instant) -> Option<&str> {
        let trouble = self.trouble.as_ref()?;
        (self.permit(caller, now) != Permit::Now).then_some(trouble.why.as_str())
    }

    /// Whether `caller` may ask now.
    pub fn permit(&self, caller: Caller, now: Instant) -> Permit {
        let Some(trouble) = &self.trouble else { return Permit::Now };
        let patient = caller == Caller::Anybody || trouble.asked_to_wait;
        if patient && now < trouble.next_try_mono {
            return Permit::NotBefore(trouble.next_try_mono);
        }
        match caller {
            Caller::Anybody if self.probes > 0 && trouble.is_outage() => Permit::Refused,
            Caller::Anybody if self.probes > 0 => Permit::AwaitProbe,
            _ => Permit::Now,
        }
    }

    /// Why the last answer was none, whether or not it is time for a probe.
    pub fn trouble(&self) -> Option<&Outage> {
        self.trouble.as_ref()
    }

    /// Whether a call hangs, so that who holds a servable value need not wait for another one.
    pub fn hangs(&self, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) >= SLOW)
    }

    /// Whether no call is out.
    pub fn is_idle(&self) -> bool {
        self.calls_out == 0
    }

    /// A call goes out, unless that is forbidden: then the reason comes back.
    pub fn begin(&mut self, caller: Caller, now: Instant) -> Result<CallPermit, String> {
        if let Some(why) = self.forbids(caller, now) {
            return Err(why.to_owned());
        }
        let is_probe = self.trouble.is_some();
        self.probes += u32::from(is_probe);
        self.calls_out += 1;
        self.waiting_since.get_or_insert(now);
        Ok(CallPermit { began: now, is_probe, caller })
    }

    /// A call ended without the provider being asked.
    pub fn unasked(&mut self, pass: &CallPermit) {
        self.end(pass);
    }

    /// A call was answered, with whatever the provider had to say. The trouble that this ended, if any.
    pub fn answered(&mut self, pass: &CallPermit) -> Option<Outage> {
        self.end(pass);
        self.waiting_since = None;
        self.trouble.take()
    }

    /// A call was answered by asking us to wait. That is no evidence of an outage.
    pub fn throttled(&mut self, pass: &CallPermit, now: Now, why: &str, wait: Duration) {
        self.end(pass);
        let trouble = self.trouble.get_or_insert_with(|| Outage::new(now));
        why.clone_into(&mut trouble.why);
        trouble.failed += 1;
        trouble.asked_to_wait = true;
        trouble.delay(now, wait.max(AFTER_FIRST));
    }

    /// A call failed: the provider is out. `share`, from 0 to 1, is chance.
    pub fn failed(&mut self, pass: &CallPermit, now: Now, why: &str, share: f64) {
        self.end(pass);
        let trouble = self.trouble.get_or_insert_with(|| Outage::new(now));
        why.clone_into(&mut trouble.why);
        trouble.failed += 1;
        // Calls that were out together fail together: that is one failure, not many.
        if trouble.in_a_row > 0 && pass.began < trouble.last_failure {
            return;
        }
        // An admin may ask as often as he likes: that makes the pause of the others no longer.
        if pass.caller == Caller::Admin && trouble.is_outage() && now.mono < trouble.next_try_mono {
            return;
        }
        trouble.in_a_row += 1;
        trouble.last_failure = now.mono;
        trouble.asked_to_wait = false;
        let pause = trouble.pause(self.pace);
        trouble.delay(now, pause + pause.mul_f64(JITTER * share.clamp(0.0, 1.0)));
    }

    fn end(&mut self, pass: &CallPermit) {
        self.probes = self.probes.saturating_sub(u32::from(pass.is_probe));
        self.calls_out = self.calls_out.saturating_sub(1);
        if self.calls_out == 0 {
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

    /// Whether it is more than a lost packet.
    pub fn is_outage(&self) -> bool {
        self.in_a_row >= 2
    }

    /// Whether the provider itself asked to be left alone.
    pub fn asked_to_wait(&self) -> bool {
        self.asked_to_wait
    }

    /// How long it has lasted.
    pub fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn pause(&self, pace: BackoffPolicy) -> Duration {
        match self.in_a_row {
            0 | 1 => AFTER_FIRST,
            more => pace.shortest.saturating_mul(1 << (more - 2).min(8)).min(pace.longest),
        }
    }

    fn delay(&mut self, now: Now, pause: Duration) {
        self.next_try_mono = now.mono + pause;
        self.next_try = now.wall.after(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::BootInstant;
    use proptest::prelude::*;

    fn later(now: Now, span: Duration) -> Now {
        Now { wall: now.wall.after(span), tick: now.tick.after(span), mono: now.mono + span }
    }

    fn start() -> Now {
        Now {
            wall: Timestamp::from_millis(0),
            tick: BootInstant::at(Duration::ZERO),
            mono: Instant::now(),
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const MOMENT: Duration = Duration::from_millis(1);
    use Caller::{Admin, Anybody};

    fn fail(breaker: &mut CircuitBreaker, now: Now) {
        let pass = breaker.begin(Anybody, now.mono).unwrap();
        breaker.failed(&pass, now, "refused", 0.0);
    }

    #[test]
    fn a_lost_packet_costs_a_second_and_an_outage_is_probed_ever_less() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let mut now = start();
        for pause in [1, 30, 60, 120, 120] {
            assert_eq!(breaker.permit(Anybody, now.mono), Permit::Now);
            fail(&mut breaker, now);
            assert_eq!(breaker.trouble().unwrap().is_outage(), pause > 1);
            assert!(
                breaker.forbids(Anybody, later(now, pause * SECOND - MOMENT).mono).is_some(),
                "{pause}"
            );
            now = later(now, pause * SECOND);
        }
        assert_eq!(breaker.trouble().unwrap().since, start().wall);
        let pass = breaker.begin(Anybody, now.mono).unwrap();
        assert_eq!(breaker.answered(&pass).unwrap().failed, 5);
        assert!(breaker.trouble().is_none());
        assert_eq!(breaker.permit(Anybody, now.mono), Permit::Now);
    }

    #[test]
    fn a_device_is_looked_for_more_often() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::DEVICE);
        let mut now = start();
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            fail(&mut breaker, now);
            now = later(now, pause * SECOND);
            assert!(breaker.forbids(Anybody, now.mono).is_none(), "{pause}");
        }
    }

    #[test]
    fn there_is_one_probe_at_a_time_however_long_it_takes() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let mut now = start();
        fail(&mut breaker, now);
        now = later(now, SECOND);
        let probe = breaker.begin(Anybody, now.mono).unwrap();
        assert_eq!(breaker.permit(Anybody, later(now, 100 * SECOND).mono), Permit::AwaitProbe);
        breaker.failed(&probe, later(now, 100 * SECOND), "timeout", 0.0);
        now = later(now, 130 * SECOND);
        let probe = breaker.begin(Anybody, now.mono).unwrap();
        assert_eq!(breaker.permit(Anybody, later(now, 100 * SECOND).mono), Permit::Refused);
        // An admin's does not make room for another one.
        let admins = breaker.begin(Admin, now.mono).unwrap();
        breaker.unasked(&admins);
        assert_eq!(breaker.permit(Anybody, now.mono), Permit::Refused);
        // A probe that came to nothing is no probe any more.
        breaker.unasked(&probe);
        assert_eq!(breaker.permit(Anybody, now.mono), Permit::Now);
    }

    #[test]
    fn an_admin_need_not_wait_unless_the_provider_asked_for_it() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let now = start();
        fail(&mut breaker, now);
        assert_eq!(breaker.permit(Admin, now.mono), Permit::Now);
        let pass = breaker.begin(Admin, now.mono).unwrap();
        breaker.throttled(&pass, now, "slow down", 100 * SECOND);
        for caller in [Anybody, Admin] {
            assert!(breaker.forbids(caller, later(now, 99 * SECOND).mono).is_some());
            assert!(breaker.forbids(caller, later(now, 100 * SECOND).mono).is_none());
        }
    }

    #[test]
    fn refreshes_of_an_admin_do_not_prolong_the_pause_of_an_outage() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let mut now = start();
        for _ in 0..2 {
            fail(&mut breaker, now);
            now = later(now, SECOND);
        }
        let next_try = breaker.trouble().unwrap().next_try;
        for _ in 0..5 {
            let pass = breaker.begin(Admin, now.mono).unwrap();
            breaker.failed(&pass, now, "still out", 0.0);
            now = later(now, SECOND);
        }
        let trouble = breaker.trouble().unwrap();
        assert_eq!((trouble.next_try, trouble.failed), (next_try, 7));
        assert_eq!(trouble.why, "still out");
    }

    #[test]
    fn to_be_throttled_is_no_evidence_of_an_outage() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let mut now = start();
        for _ in 0..5 {
            let pass = breaker.begin(Anybody, now.mono).unwrap();
            breaker.throttled(&pass, now, "slow down", 5 * SECOND);
            now = later(now, 5 * SECOND);
        }
        fail(&mut breaker, now);
        assert!(!breaker.trouble().unwrap().is_outage());
        assert!(breaker.forbids(Anybody, later(now, SECOND).mono).is_none());
    }

    #[test]
    fn a_hanging_call_is_noticed_before_its_timeout() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let now = start();
        let pass = breaker.begin(Anybody, now.mono).unwrap();
        assert!(!breaker.hangs(now.mono));
        assert!(breaker.hangs(later(now, SLOW).mono));
        breaker.answered(&pass);
        assert!(!breaker.hangs(later(now, SLOW).mono));
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let now = start();
        let calls: Vec<_> = (0..7).map(|_| breaker.begin(Anybody, now.mono).unwrap()).collect();
        for (late, call) in (1..).zip(&calls) {
            breaker.failed(call, later(now, SECOND + late * MOMENT), "timeout", 0.0);
        }
        let trouble = breaker.trouble().unwrap();
        assert_eq!((trouble.is_outage(), trouble.failed), (false, 7));
        assert!(breaker.forbids(Anybody, later(now, 2 * SECOND + MOMENT).mono).is_none());
    }

    #[test]
    fn a_fleet_comes_back_at_different_times() {
        let pause = |share| {
            let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
            let now = start();
            fail(&mut breaker, now);
            let now = later(now, SECOND);
            let pass = breaker.begin(Anybody, now.mono).unwrap();
            breaker.failed(&pass, now, "refused", share);
            breaker.trouble().unwrap().next_try
        };
        let spread = pause(1.0).as_millis() - pause(0.0).as_millis();
        assert_eq!(spread, 7_500);
    }

    proptest! {
        /// However lookups arrive and however long the answers take: once it is an outage, one call is
        /// out at a time, and they begin 30 s apart at least.
        #[test]
        fn an_outage_is_never_hammered(steps in prop::collection::vec((0_u64..20_000, 0_u64..40_000, 0.0..1.0_f64), 1..200)) {
            let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
            let mut now = start();
            fail(&mut breaker, now);
            let mut out: Option<(CallPermit, Now, f64)> = None;
            let mut last_probe: Option<Instant> = None;
            for (pause, takes, share) in steps {
                now = later(now, Duration::from_millis(pause));
                if let Some((_, ends, _)) = &out && ends.mono <= now.mono {
                    let (pass, ends, share) = out.take().unwrap();
                    breaker.failed(&pass, ends, "out", share);
                }
                let was_outage = breaker.trouble().is_some_and(Outage::is_outage);
                let Ok(pass) = breaker.begin(Anybody, now.mono) else { continue };
                prop_assert!(out.is_none(), "two calls are out");
                out = Some((pass, later(now, Duration::from_millis(takes)), share));
                if was_outage {
                    let apart = last_probe.replace(now.mono).map(|before| now.mono - before);
                    prop_assert!(apart.is_none_or(|apart| apart >= BackoffPolicy::SERVER.shortest));
                }
            }
        }
    }
}
