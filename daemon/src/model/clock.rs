//! Times. The layers below the gRPC server receive the present time as an argument.

use std::time::{Duration, SystemTime};

use crate::sys::clock::{self, Instant};

/// A wall-clock time in milliseconds since 1970 UTC. It is valid across reboots, and may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// A time in milliseconds on the boot clock (`CLOCK_BOOTTIME`), which cannot be set and includes suspends. Times
/// before the boot, read from a file, are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(i64);

/// The present time on all clocks. Ages and schedules use the boot clock, which does not jump; files and messages the
/// wall clock; timers of tokio the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// On the wall clock.
    pub wall: Timestamp,
    /// On the boot clock.
    pub boot: BootInstant,
    /// On the monotonic clock.
    pub mono: Instant,
}

impl Timestamp {
    /// A time from a file or message.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 UTC.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// The age at `now`; zero for a future time.
    pub fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }

    /// The time until `then`; zero for a past time.
    pub(crate) fn until(self, then: Self) -> Duration {
        self.age(then)
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
    /// The time at which the boot clock shows `span`.
    pub fn at(span: Duration) -> Self {
        Self(millis(span))
    }

    /// The time at which the boot clock shows so many milliseconds.
    pub(crate) fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds on the boot clock.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The age at `now`; zero for a future time.
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
    /// The present time, advanced by the monotonic clock alone. A suspend in between is not counted.
    pub fn advanced(self) -> Self {
        let mono = Instant::now();
        let elapsed = mono.duration_since(self.mono);
        Self { wall: self.wall.after(elapsed), boot: self.boot.after(elapsed), mono }
    }

    /// The wall-clock time of `then`, by the present setting of the wall clock.
    pub fn wall_at(self, then: BootInstant) -> Timestamp {
        self.wall.before(then.age(self.boot))
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

/// Reads the clocks.
pub fn now() -> Now {
    let boot = BootInstant::at(clock::since_boot());
    Now { wall: clock::wall().into(), boot, mono: Instant::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_zero_for_a_future_time() {
        let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(61_000));
        assert_eq!(early.age(late), Duration::from_secs(60));
        assert_eq!(late.age(early), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(u64::MAX).after(Duration::MAX).as_millis(), u64::MAX);
    }

    #[test]
    fn boot_instant_may_precede_the_boot() {
        let (hour, now) = (Duration::from_secs(3_600), BootInstant::at(Duration::from_secs(60)));
        let then = now.before(hour);
        assert!(then < BootInstant::at(Duration::ZERO));
        assert_eq!((then.age(now), now.age(then)), (hour, Duration::ZERO));
        assert_eq!(then.after(hour), now);
        assert!(now.before(Duration::MAX) < then && now.after(Duration::MAX) > now);
    }

    #[test]
    fn boot_clock_advances() {
        let earlier = now();
        let later = now();
        assert!(earlier.boot <= later.boot && earlier.boot > BootInstant::at(Duration::ZERO));
        assert_eq!(later.wall_at(later.boot), later.wall);
    }
}
