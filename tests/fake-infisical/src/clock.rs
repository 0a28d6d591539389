//! The fake's clock, which tests advance instead of waiting.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub type Millis = u64;

/// The system's clock, plus the span by which a test has advanced it.
#[derive(Default)]
pub struct Clock {
    advanced: Millis,
}

impl Clock {
    pub fn now(&self) -> Millis {
        self.real().saturating_add(self.advanced)
    }

    /// The time of all other parties, which no test advances.
    pub fn real(&self) -> Millis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    pub fn advance_seconds(&mut self, seconds: u64) {
        self.advanced = self.advanced.saturating_add(seconds.saturating_mul(1000));
    }
}
