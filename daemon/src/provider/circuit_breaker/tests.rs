use super::*;
use crate::model::clock::BootInstant;
use proptest::prelude::*;

fn later(now: Now, span: Duration) -> Now {
    Now { wall: now.wall.after(span), boot: now.boot.after(span), mono: now.mono + span }
}

fn start() -> Now {
    Now {
        wall: Timestamp::from_millis(0),
        boot: BootInstant::at(Duration::ZERO),
        mono: Instant::now(),
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);
use Caller::{Admin, Routine};

fn fail(breaker: &mut CircuitBreaker, now: Now) {
    let permit = breaker.begin(Routine, now.mono).unwrap();
    breaker.failed(&permit, now, "refused", 0.0);
}

#[test]
fn single_failure_pauses_a_second_and_an_outage_backs_off() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
    let mut now = start();
    for pause in [1, 30, 60, 120, 120] {
        assert_eq!(breaker.permit(Routine, now.mono), Permit::Now);
        fail(&mut breaker, now);
        assert_eq!(breaker.outage().unwrap().is_confirmed(), pause > 1);
        assert!(
            breaker.check(Routine, later(now, pause * SECOND - MOMENT).mono).is_err(),
            "{pause}"
        );
        now = later(now, pause * SECOND);
    }
    assert_eq!(breaker.outage().unwrap().since, start().wall);
    let permit = breaker.begin(Routine, now.mono).unwrap();
    assert_eq!(breaker.answered(&permit).unwrap().failed, 5);
    assert!(breaker.outage().is_none());
    assert_eq!(breaker.permit(Routine, now.mono), Permit::Now);
}

#[test]
fn device_policy_probes_more_often() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::DEVICE);
    let mut now = start();
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        fail(&mut breaker, now);
        now = later(now, pause * SECOND);
        assert!(breaker.check(Routine, now.mono).is_ok(), "{pause}");
    }
}

#[test]
fn half_open_breaker_allows_one_probe() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
    let mut now = start();
    fail(&mut breaker, now);
    now = later(now, SECOND);
    let probe = breaker.begin(Routine, now.mono).unwrap();
    assert_eq!(breaker.permit(Routine, later(now, 100 * SECOND).mono), Permit::AwaitProbe);
    breaker.failed(&probe, later(now, 100 * SECOND), "timeout", 0.0);
    assert_eq!(breaker.state(), BreakerState::Open);
    now = later(now, 130 * SECOND);
    let probe = breaker.begin(Routine, now.mono).unwrap();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(breaker.permit(Routine, later(now, 100 * SECOND).mono), Permit::Refused);
    // The cancelled call of an admin does not make room for a probe.
    let admins = breaker.begin(Admin, now.mono).unwrap();
    breaker.cancelled(&admins);
    assert_eq!(breaker.permit(Routine, now.mono), Permit::Refused);
    // A cancelled probe makes room for the next one.
    breaker.cancelled(&probe);
    assert_eq!(breaker.permit(Routine, now.mono), Permit::Now);
}

#[test]
fn admin_waits_only_for_a_rate_limit() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
    let now = start();
    fail(&mut breaker, now);
    assert_eq!(breaker.permit(Admin, now.mono), Permit::Now);
    let permit = breaker.begin(Admin, now.mono).unwrap();
    breaker.throttled(&permit, now, "slow down", 100 * SECOND);
    for caller in [Routine, Admin] {
        assert!(breaker.check(caller, later(now, 99 * SECOND).mono).is_err());
        assert!(breaker.check(caller, later(now, 100 * SECOND).mono).is_ok());
    }
}

#[test]
fn admin_failures_do_not_prolong_the_pause() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
    let mut now = start();
    for _ in 0..2 {
        fail(&mut breaker, now);
        now = later(now, SECOND);
    }
    let next_try = breaker.outage().unwrap().next_try;
    for _ in 0..5 {
        let permit = breaker.begin(Admin, now.mono).unwrap();
        breaker.failed(&permit, now, "still out", 0.0);
        now = later(now, SECOND);
    }
    let outage = breaker.outage().unwrap();
    assert_eq!((outage.next_try, outage.failed), (next_try, 7));
    assert_eq!(outage.why, "still out");
}

#[test]
fn rate_limit_does_not_confirm_an_outage() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
    let mut now = start();
    for _ in 0..5 {
        let permit = breaker.begin(Routine, now.mono).unwrap();
        breaker.throttled(&permit, now, "slow down", 5 * SECOND);
        assert_eq!(breaker.state(), BreakerState::RateLimited);
        now = later(now, 5 * SECOND);
    }
    fail(&mut breaker, now);
    assert!(!breaker.outage().unwrap().is_confirmed());
    assert!(breaker.check(Routine, later(now, SECOND).mono).is_ok());
}

#[test]
fn unanswered_call_is_slow_before_its_timeout() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
    let now = start();
    let permit = breaker.begin(Routine, now.mono).unwrap();
    assert!(!breaker.is_slow(now.mono));
    assert!(breaker.is_slow(later(now, SLOW).mono));
    breaker.answered(&permit);
    assert!(!breaker.is_slow(later(now, SLOW).mono));
}

#[test]
fn concurrent_failures_count_once() {
    let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
    let now = start();
    let calls: Vec<_> = (0..7).map(|_| breaker.begin(Routine, now.mono).unwrap()).collect();
    for (late, call) in (1..).zip(&calls) {
        breaker.failed(call, later(now, SECOND + late * MOMENT), "timeout", 0.0);
    }
    let outage = breaker.outage().unwrap();
    assert_eq!((outage.is_confirmed(), outage.failed), (false, 7));
    assert!(breaker.check(Routine, later(now, 2 * SECOND + MOMENT).mono).is_ok());
}

#[test]
fn jitter_spreads_the_next_probe() {
    let pause = |jitter| {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let now = start();
        fail(&mut breaker, now);
        let now = later(now, SECOND);
        let permit = breaker.begin(Routine, now.mono).unwrap();
        breaker.failed(&permit, now, "refused", jitter);
        breaker.outage().unwrap().next_try
    };
    let spread = pause(1.0).as_millis() - pause(0.0).as_millis();
    assert_eq!(spread, 7_500);
}

proptest! {
    /// Whatever the arrival of lookups and the duration of calls: an open breaker lets one call out at a time,
    /// and probes start at least 30 s apart.
    #[test]
    fn open_breaker_bounds_the_rate_of_probes(steps in prop::collection::vec((0_u64..20_000, 0_u64..40_000, 0.0..1.0_f64), 1..200)) {
        let mut breaker = CircuitBreaker::new(BackoffPolicy::SERVER);
        let mut now = start();
        fail(&mut breaker, now);
        let mut out: Option<(CallPermit, Now, f64)> = None;
        let mut last_probe: Option<Instant> = None;
        for (pause, takes, jitter) in steps {
            now = later(now, Duration::from_millis(pause));
            if let Some((_, ends, _)) = &out && ends.mono <= now.mono {
                let (permit, ends, jitter) = out.take().unwrap();
                breaker.failed(&permit, ends, "out", jitter);
            }
            let was_outage = breaker.outage().is_some_and(Outage::is_confirmed);
            let Ok(permit) = breaker.begin(Routine, now.mono) else { continue };
            prop_assert!(out.is_none(), "two calls are out");
            out = Some((permit, later(now, Duration::from_millis(takes)), jitter));
            if was_outage {
                let apart = last_probe.replace(now.mono).map(|before| now.mono - before);
                prop_assert!(apart.is_none_or(|apart| apart >= BackoffPolicy::SERVER.shortest));
            }
        }
    }
}
