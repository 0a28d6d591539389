//! When to leave a provider alone: during an outage, an error must not be hotter than success. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Moment, Timestamp};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A call that is out for longer tells that the provider may hang, before its timeout does.
const SLOW: Duration = Duration::from_secs(1);

/// One provider's state, as its answers tell it.
#[derive(Debug, Default)]
pub struct Breaker {
    outage: Option<Outage>,
    /// When the oldest call that is still out began; a success clears it.
    waiting_since: Option<Instant>,
    calls_out: u32,
}

/// An outage.
#[derive(Clone, Debug)]
pub struct Outage {
    /// When it began.
    pub since: Timestamp,
    /// Why, in the words of the last error.
    pub why: String,
    /// When the provider may be asked again.
    pub next_try: Timestamp,
    next_try_mono: Instant,
    pause: Duration,
    last_failure: Instant,
}

impl Breaker {
    /// The outage that forbids to ask now, if there is one.
    pub fn forbids(&self, now: Moment) -> Option<&Outage> {
        self.outage.as_ref().filter(|outage| now.mono < outage.next_try_mono)
    }

    /// The outage, whether or not it is time for a probe.
    pub fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }

    /// Whether a call hangs, so that who holds a servable value need not wait for another one.
    pub fn hangs(&self, now: Moment) -> bool {
        self.waiting_since.is_some_and(|since| now.mono.duration_since(since) >= SLOW)
    }

    /// A call goes out, unless an outage forbids it: then its reason comes back.
    pub fn begin(&mut self, now: Moment) -> Result<(), String> {
        if let Some(outage) = self.forbids(now) {
            return Err(outage.why.clone());
        }
        self.begin_anyway(now);
        // One probe at a time: until it is answered, nobody else asks.
        if let Some(outage) = &mut self.outage {
            outage.delay(now, LONGEST_PAUSE);
        }
        Ok(())
    }

    /// A call goes out although an outage may forbid it: an admin, or the schedule, wants to know.
    pub fn begin_anyway(&mut self, now: Moment) {
        self.calls_out += 1;
        self.waiting_since.get_or_insert(now.mono);
    }

    /// A call ended without the provider being asked.
    pub fn unasked(&mut self) {
        self.end();
    }

    /// A call was answered, with whatever the provider had to say.
    pub fn answered(&mut self) {
        self.outage = None;
        self.end();
        self.waiting_since = None;
    }

    /// A call that began at `began` failed: the provider is out. `pause` is what it asked for, if it did.
    pub fn failed(&mut self, began: Moment, now: Moment, why: &str, pause: Option<Duration>) {
        self.end();
        let before = self.outage.take();
        let back_off = match &before {
            None => FIRST_PAUSE,
            // Calls that were out together fail together: that is one failure, not many.
            Some(outage) if began.mono < outage.last_failure => outage.pause,
            Some(outage) => (outage.pause * 2).min(LONGEST_PAUSE),
        };
        let mut outage = Outage {
            since: before.map_or(now.wall, |outage| outage.since),
            why: why.to_owned(),
            next_try: now.wall,
            next_try_mono: now.mono,
            pause: back_off,
            last_failure: now.mono,
        };
        outage.delay(now, pause.unwrap_or(back_off));
        self.outage = Some(outage);
    }

    fn end(&mut self) {
        self.calls_out = self.calls_out.saturating_sub(1);
        if self.calls_out == 0 {
            self.waiting_since = None;
        }
    }
}

impl Outage {
    fn delay(&mut self, now: Moment, pause: Duration) {
        self.next_try_mono = now.mono + pause;
        self.next_try = now.wall.after(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(now: Moment, span: Duration) -> Moment {
        Moment { wall: now.wall.after(span), mono: now.mono + span }
    }

    fn start() -> Moment {
        Moment { wall: Timestamp::from_millis(0), mono: Instant::now() }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_backs_off_and_one_success_ends_it() {
        let mut breaker = Breaker::default();
        let mut now = start();
        assert!(breaker.forbids(now).is_none());
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            breaker.begin_anyway(now);
            breaker.failed(now, now, "refused", None);
            assert!(
                breaker.forbids(later(now, pause * SECOND - Duration::from_millis(1))).is_some()
            );
            now = later(now, pause * SECOND);
            assert!(breaker.forbids(now).is_none(), "{pause}");
        }
        assert_eq!(breaker.outage().unwrap().since, start().wall);
        breaker.begin_anyway(now);
        breaker.answered();
        assert!(breaker.outage().is_none());
    }

    #[test]
    fn there_is_one_probe_at_a_time() {
        let mut breaker = Breaker::default();
        let now = start();
        breaker.begin_anyway(now);
        breaker.failed(now, now, "refused", None);
        let now = later(now, SECOND);
        assert!(breaker.begin(now).is_ok());
        assert!(breaker.begin(now).is_err());
    }

    #[test]
    fn what_the_provider_asks_for_is_obeyed() {
        let mut breaker = Breaker::default();
        let now = start();
        breaker.begin_anyway(now);
        breaker.failed(now, now, "throttled", Some(100 * SECOND));
        assert!(breaker.forbids(later(now, 99 * SECOND)).is_some());
        assert!(breaker.forbids(later(now, 100 * SECOND)).is_none());
    }

    #[test]
    fn a_hanging_call_is_noticed_before_its_timeout() {
        let mut breaker = Breaker::default();
        let now = start();
        breaker.begin_anyway(now);
        assert!(!breaker.hangs(now));
        assert!(breaker.hangs(later(now, SLOW)));
        breaker.answered();
        assert!(!breaker.hangs(later(now, SLOW)));
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let mut breaker = Breaker::default();
        let now = start();
        for _ in 0..7 {
            breaker.begin(now).unwrap();
        }
        for _ in 0..7 {
            breaker.failed(now, later(now, SECOND), "timeout", None);
        }
        assert!(breaker.forbids(later(now, 2 * SECOND)).is_none());
    }
}
