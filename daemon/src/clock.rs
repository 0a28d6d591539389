//! Time, which everything below the gRPC server gets as an argument.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A wall-clock time in milliseconds since 1970 UTC: it outlives a reboot, and may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// One moment on both clocks: ages are told on the wall clock, waits on the monotonic one.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On the wall clock.
    pub wall: Timestamp,
    /// On the monotonic clock.
    pub mono: Instant,
}

impl Timestamp {
    /// A time as files and messages have it.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 UTC.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago this was at `now`; nothing for a time to come.
    pub fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }

    /// The time `span` later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time `span` earlier, or 1970.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Moment {
    /// The moment now, by the monotonic clock alone: nobody sets that one.
    pub fn lately(self) -> Self {
        let mono = Instant::now();
        Self { wall: self.wall.after(mono.duration_since(self.mono)), mono }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        Self::UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

/// This moment.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the wall clock")]
pub fn now() -> Moment {
    Moment { wall: SystemTime::now().into(), mono: Instant::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_makes_nothing_old() {
        let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(61_000));
        assert_eq!(early.age(late), Duration::from_secs(60));
        assert_eq!(late.age(early), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(u64::MAX).after(Duration::MAX).as_millis(), u64::MAX);
    }
}
