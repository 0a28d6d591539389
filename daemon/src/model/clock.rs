//! Time, which everything below the gRPC server gets as an argument.

use std::time::{Duration, SystemTime};

use crate::sys::clock::{self, Instant};

/// A wall-clock time in milliseconds since 1970 UTC: it outlives a reboot, and may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// A time in milliseconds on the boot clock (`CLOCK_BOOTTIME`): nobody sets it, and it goes on while the
/// host is suspended. What a file remembers of the time before the boot lies below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(i64);

/// One moment on all clocks. Ages and schedules are told on the boot clock, which no jump of the wall
/// clock makes older or younger; the wall clock is for files and people; tokio waits on the monotonic one.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// On the wall clock.
    pub wall: Timestamp,
    /// On the boot clock.
    pub tick: BootInstant,
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

impl BootInstant {
    /// The end of time.
    pub(crate) const LAST: Self = Self(i64::MAX);

    /// The time at which the boot clock shows `span`.
    pub fn at(span: Duration) -> Self {
        Self(millis(span))
    }

    /// Milliseconds on the boot clock.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// How long ago this was at `now`; nothing for a time to come.
    pub fn age(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// The time `span` later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// The time `span` earlier.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Now {
    /// The moment now, by the monotonic clock alone: nobody sets that one. What took place in a suspend
    /// in between is taken for older than it is, never for younger.
    pub fn lately(self) -> Self {
        let mono = Instant::now();
        let gone = mono.duration_since(self.mono);
        Self { wall: self.wall.after(gone), tick: self.tick.after(gone), mono }
    }

    /// What the wall clock, as it is set now, would have shown at `then`.
    pub fn wall_at(self, then: BootInstant) -> Timestamp {
        self.wall.before(then.age(self.tick))
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
pub fn now() -> Now {
    let tick = BootInstant::at(clock::since_boot());
    Now { wall: clock::wall().into(), tick, mono: Instant::now() }
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

    #[test]
    fn a_tick_may_lie_before_the_boot() {
        let (hour, now) = (Duration::from_secs(3_600), BootInstant::at(Duration::from_secs(60)));
        let then = now.before(hour);
        assert!(then < BootInstant::at(Duration::ZERO));
        assert_eq!((then.age(now), now.age(then)), (hour, Duration::ZERO));
        assert_eq!(then.after(hour), now);
        assert!(now.before(Duration::MAX) < then && now.after(Duration::MAX) > now);
    }

    #[test]
    fn the_boot_clock_runs() {
        let earlier = now();
        let later = now();
        assert!(earlier.tick <= later.tick && earlier.tick > BootInstant::at(Duration::ZERO));
        assert_eq!(later.wall_at(later.tick), later.wall);
    }
}
