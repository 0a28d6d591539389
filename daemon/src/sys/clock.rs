//! The host's clocks.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// The monotonic clock. It is tokio's, which tests can pause.
pub(crate) use tokio::time::Instant;

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// What the boot clock (`CLOCK_BOOTTIME`) shows: the time since the boot, suspends included.
pub(crate) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
