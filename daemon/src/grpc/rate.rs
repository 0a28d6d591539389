//! Rates: how often and how fast a user may do something.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A rate, and how much may come at once.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    pub(super) each_second: f64,
    pub(super) burst: f64,
}

/// A token bucket. Its content may be negative: what was granted in advance.
pub(super) struct Bucket {
    rate: Rate,
    content: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(rate: Rate) -> Self {
        Self { rate, content: rate.burst, at: Instant::now() }
    }

    /// Takes `cost` and returns how long to wait for it; takes nothing if that is longer than `longest`.
    pub(super) fn take(&mut self, cost: f64, longest: Duration, now: Instant) -> Option<Duration> {
        let wait = self.wait(cost, now);
        (wait <= longest).then(|| {
            self.content -= cost;
            wait
        })
    }

    /// How long to wait until it has `cost`.
    fn wait(&mut self, cost: f64, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.add(since * self.rate.each_second);
        self.at = now;
        Duration::from_secs_f64((cost - self.content).max(0.0) / self.rate.each_second)
    }

    fn add(&mut self, content: f64) {
        self.content = (self.content + content).min(self.rate.burst);
    }
}

/// How fast a user's bytes are read. The smallest frame has 9 bytes, and each costs psid time: 256 KiB a second are
/// as many as 500 new connections with a lookup each.
const BYTES: Rate = Rate { each_second: 256.0 * 1_024.0, burst: 256.0 * 1_024.0 };
/// The same for all users.
const BYTES_OF_ALL: Rate = Rate { each_second: 1_024.0 * 1_024.0, burst: 1_024.0 * 1_024.0 };

/// The bytes that a user may send. What is the content of a request does not count: other limits apply to it.
pub(super) struct Pace {
    own: Mutex<Bucket>,
    of_all: Arc<Mutex<Bucket>>,
}

impl Pace {
    /// A user's pace; `of_all` is the one of all users.
    pub(super) fn new(of_all: &Arc<Mutex<Bucket>>) -> Self {
        Self { own: Mutex::new(Bucket::full(BYTES)), of_all: Arc::clone(of_all) }
    }

    /// The pace of all users together.
    pub(super) fn of_all() -> Arc<Mutex<Bucket>> {
        Arc::new(Mutex::new(Bucket::full(BYTES_OF_ALL)))
    }

    /// Counts received bytes.
    pub(super) fn received(&self, bytes: usize) {
        self.add(-(bytes as f64));
    }

    /// Takes back what was the content of a request.
    pub(super) fn take_back(&self, bytes: usize) {
        self.add(bytes as f64);
    }

    fn add(&self, bytes: f64) {
        self.own.lock().add(bytes);
        self.of_all.lock().add(bytes);
    }

    /// How long nothing more is read.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let own = self.own.lock().wait(0.0, now);
        own.max(self.of_all.lock().wait(0.0, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn received_bytes_beyond_the_rate_cause_a_pause_and_content_does_not() {
        let (of_all, now) = (Pace::of_all(), Instant::now());
        let [flooding, other] = [Pace::new(&of_all), Pace::new(&of_all)];
        flooding.received(256 << 10);
        assert_eq!(flooding.pause(now), Duration::ZERO);
        flooding.received(512 << 10);
        assert_eq!(flooding.pause(now), Duration::from_secs(2));
        assert_eq!(other.pause(now), Duration::ZERO);
        assert_eq!(flooding.pause(now + Duration::from_secs(2)), Duration::ZERO);
        for _ in 0..100 {
            other.received(128 << 10);
            other.take_back(128 << 10);
        }
        assert_eq!(other.pause(now), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn all_users_share_a_rate() {
        let (of_all, now) = (Pace::of_all(), Instant::now());
        let users: Vec<_> = (0..12).map(|_| Pace::new(&of_all)).collect();
        users.iter().for_each(|user| user.received(256 << 10));
        assert_eq!(users[0].pause(now), Duration::from_secs(2));
    }
}
