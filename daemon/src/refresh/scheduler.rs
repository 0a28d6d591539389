//! The scheduler: due sources are pulled, and a provider in an outage is probed, with or without lookups.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::targets::PullTarget;
use super::{RefreshInterval, RefreshScope, Refresher, Work, jitter};
use crate::model::clock::Now;
use crate::provider::circuit_breaker::{Caller, Permit};

/// The longest wait before the clock is read again. Tokio's timers stop while the host is suspended, and sources
/// that became due meanwhile must be pulled soon after.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// The shortest time between two refreshes by the schedule, also after errors.
const MIN_CYCLE_GAP: Duration = Duration::from_secs(1);

impl Refresher {
    /// Refreshes by the schedule until `stop`, and at once what a provider that is back has missed. Returns
    /// before when a refresh crashed.
    pub(crate) async fn keep_fresh(
        &self,
        mut schedule: watch::Receiver<RefreshInterval>,
        clock: impl Fn() -> Now,
        stop: CancellationToken,
    ) {
        let mut pause = Duration::ZERO;
        loop {
            pause = pause.max(self.work.pause(clock()));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = schedule.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let schedule = *schedule.borrow_and_update();
                    self.work.schedule.lock().follow(schedule, clock().boot, jitter);
                    pause = Duration::ZERO;
                    continue;
                }
                () = self.work.service.recovered().notified() => {
                    self.work.schedule.lock().recovered(clock().boot);
                }
                _ = tokio::time::timeout(pause, std::future::pending::<()>()) => {}
            }
            pause = Duration::ZERO;
            if self.work.pause(clock()).is_zero() {
                let mut progress = self.start(RefreshScope::Due, clock());
                if progress.wait_for(|progress| progress.ended).await.is_err() {
                    // It crashed: the supervisor reports that, and starts the next one later.
                    return;
                }
                pause = MIN_CYCLE_GAP;
            }
        }
    }
}

impl Work {
    /// How long there is nothing to do.
    fn pause(&self, now: Now) -> Duration {
        if self.service.drill_until(now.mono).is_some() {
            return POLL_INTERVAL;
        }
        let pulls = self.plan(now.boot);
        let pauses = pulls.iter().map(|pull| self.pause_of(pull, now));
        // A new registration is planned before it can be due.
        let poll = POLL_INTERVAL.min(self.schedule.lock().interval());
        pauses.min().unwrap_or(poll).min(poll)
    }

    fn pause_of(&self, pull: &PullTarget, now: Now) -> Duration {
        let health = pull.upstream.health();
        match health.breaker.permit(Caller::Routine, now.mono) {
            // A provider that may be back is asked, due or not, so that its state is right.
            Permit::Now if health.breaker.outage().is_some() => Duration::ZERO,
            Permit::Now => {
                drop(health);
                let due = self.schedule.lock().due(&pull.key);
                due.map_or(POLL_INTERVAL, |due| now.boot.age(due))
            }
            Permit::NotBefore(time) => time.saturating_duration_since(now.mono),
            Permit::AwaitProbe | Permit::Refused => POLL_INTERVAL,
        }
    }

    /// Those that are due now; of a provider that may be back, one at least.
    pub(super) fn due(&self, pulls: Vec<PullTarget>, now: Now) -> Vec<PullTarget> {
        if self.service.drill_until(now.mono).is_some() {
            return Vec::new();
        }
        let schedule = self.schedule.lock();
        let is_due = |pull: &PullTarget| schedule.due(&pull.key).is_some_and(|due| due <= now.boot);
        let (mut chosen, rest): (Vec<PullTarget>, Vec<PullTarget>) = pulls
            .into_iter()
            .filter(|pull| {
                let permit = pull.upstream.health().breaker.permit(Caller::Routine, now.mono);
                permit == Permit::Now
            })
            .partition(is_due);
        let mut probed: HashSet<String> =
            chosen.iter().map(|pull| pull.upstream.name.clone()).collect();
        for pull in rest {
            let in_trouble = pull.upstream.health().breaker.outage().is_some();
            if in_trouble && probed.insert(pull.upstream.name.clone()) {
                chosen.push(pull);
            }
        }
        chosen
    }
}
