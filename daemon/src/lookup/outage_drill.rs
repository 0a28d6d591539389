//! The outage drill: providers are treated as unreachable for a time, to find out which lookups an outage would
//! fail. It ends at its time, or when its guard is dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::provider::Persistence;

/// How many secrets a drill names that failed.
const NAMED: usize = 1_000;

/// Whether there is a drill.
#[derive(Default)]
pub(crate) struct OutageDrill {
    /// Read by each lookup, so that it takes no lock without a drill.
    is_on: AtomicBool,
    running: Mutex<Option<Running>>,
}

struct Running {
    until: Instant,
    lookups: u64,
    failed_lookups: u64,
    failed: BTreeSet<String>,
    news: mpsc::UnboundedSender<FailedLookup>,
}

/// A secret whose lookup failed in a drill; it is reported once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedLookup {
    /// The secret, for messages.
    pub secret: String,
    /// The error that its caller received.
    pub why: String,
}

/// A running drill. It ends when this is dropped.
pub(crate) struct OutageGuard {
    drill: Arc<OutageDrill>,
    news: mpsc::UnboundedReceiver<FailedLookup>,
    until: Instant,
}

/// The counts of a drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrillCounts {
    /// Lookups in its time.
    pub lookups: u64,
    /// Those that an outage would have failed.
    pub failed: u64,
}

impl OutageDrill {
    /// Begins a drill until `until`; `Err` is the end of a running one.
    pub(crate) fn begin(
        self: &Arc<Self>,
        until: Instant,
        now: Instant,
    ) -> Result<OutageGuard, Instant> {
        let mut running = self.lock();
        if let Some(other) = running.as_ref().filter(|other| now < other.until) {
            return Err(other.until);
        }
        let (news, receiver) = mpsc::unbounded_channel();
        let failed = BTreeSet::new();
        *running = Some(Running { until, lookups: 0, failed_lookups: 0, failed, news });
        self.is_on.store(true, Ordering::Relaxed);
        Ok(OutageGuard { drill: Arc::clone(self), news: receiver, until })
    }

    /// Why a provider may not be asked now. A drill does not affect a token, which needs no network.
    pub(crate) fn outage_reason(&self, persistence: Persistence, now: Instant) -> Option<String> {
        let on = persistence == Persistence::Persisted && self.until(now).is_some();
        on.then(|| "a drill treats it as out".into())
    }

    /// Until when there is a drill, if there is one.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().as_ref().map(|running| running.until).filter(|until| now < *until)
    }

    /// Records a lookup; `why` is its error, if an outage would cause it.
    pub(crate) fn note(&self, secret: impl FnOnce() -> String, why: Option<String>) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let mut running = self.lock();
        let Some(running) = running.as_mut() else { return };
        running.lookups += 1;
        let Some(why) = why else { return };
        running.failed_lookups += 1;
        let secret = secret();
        if running.failed.len() < NAMED && running.failed.insert(secret.clone()) {
            // A receiver that is gone needs no report.
            let _ = running.news.send(FailedLookup { secret, why });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock()
    }
}

impl OutageGuard {
    /// The next secret whose lookup failed; nothing once the drill's time is over.
    pub(crate) async fn failed(&mut self) -> Option<FailedLookup> {
        tokio::time::timeout_at(self.until, self.news.recv()).await.ok().flatten()
    }

    /// The counts so far.
    pub(crate) fn outcome(&self) -> DrillCounts {
        let running = self.drill.lock();
        running.as_ref().map_or_else(DrillCounts::default, |running| DrillCounts {
            lookups: running.lookups,
            failed: running.failed_lookups,
        })
    }
}

impl Drop for OutageGuard {
    fn drop(&mut self) {
        let mut running = self.drill.lock();
        // One whose time was over may have been followed by another one.
        if running.as_ref().is_some_and(|running| running.until == self.until) {
            *running = None;
            self.drill.is_on.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn drill_ends_at_its_time_or_with_its_guard() {
        let drill = Arc::new(OutageDrill::default());
        let start = Instant::now();
        assert_eq!(drill.outage_reason(Persistence::Persisted, start), None);
        let guard = drill.begin(start + 10 * SECOND, start).unwrap_or_else(|_| panic!("no drill"));
        assert!(drill.outage_reason(Persistence::Persisted, start + 9 * SECOND).is_some());
        assert_eq!(drill.outage_reason(Persistence::MemoryOnly, start), None);
        assert_eq!(drill.begin(start + SECOND, start).err(), Some(start + 10 * SECOND));
        // A guard that is never dropped ends at its time.
        assert_eq!(drill.outage_reason(Persistence::Persisted, start + 10 * SECOND), None);
        drop(guard);
        let guard = drill.begin(start + SECOND, start).unwrap_or_else(|_| panic!("no drill"));
        drop(guard);
        assert_eq!(drill.outage_reason(Persistence::Persisted, start), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_secret_is_reported_once() {
        let drill = Arc::new(OutageDrill::default());
        let start = Instant::now();
        drill.note(|| "before".into(), Some("out".into()));
        let mut guard = drill.begin(start + SECOND, start).unwrap_or_else(|_| panic!("no drill"));
        for secret in ["a", "b", "a"] {
            drill.note(|| secret.into(), Some("out".into()));
        }
        drill.note(|| "good".into(), None);
        let failed = |secret: &str| Some(FailedLookup { secret: secret.into(), why: "out".into() });
        assert_eq!(guard.failed().await, failed("a"));
        assert_eq!(guard.failed().await, failed("b"));
        assert_eq!(guard.failed().await, None);
        assert_eq!(start.elapsed(), SECOND);
        assert_eq!(guard.outcome(), DrillCounts { lookups: 4, failed: 3 });
    }
}
