//! Readiness: lookups wait while the key is being unlocked, which may take a token half a minute.

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Ready, unless a key is being unlocked.
pub(crate) struct Readiness(watch::Sender<bool>);

/// Marks it ready when it is dropped.
pub(crate) struct ReadyGuard<'a>(&'a Readiness);

impl Drop for ReadyGuard<'_> {
    fn drop(&mut self) {
        self.0.mark_ready();
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Readiness {
    /// Ends the wait of all lookups.
    pub(crate) fn mark_ready(&self) {
        self.0.send_replace(true);
    }

    /// Makes lookups wait.
    pub(crate) fn mark_opening(&self) {
        self.0.send_replace(false);
    }

    /// Whether lookups need not wait.
    pub(crate) fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Marks it ready once the guard is dropped, also by a panic.
    pub(crate) fn ready_at_end(&self) -> ReadyGuard<'_> {
        ReadyGuard(self)
    }

    /// Waits until it is ready; false if `stop` is cancelled before.
    pub(crate) async fn ready_or_stopped(&self, stop: &CancellationToken) -> bool {
        let mut state = self.0.subscribe();
        tokio::select! {
            opened = state.wait_for(|open| *open) => opened.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Waits until it is ready, at most until `limit`.
    pub(crate) async fn wait_ready(&self, limit: Instant) {
        let mut state = self.0.subscribe();
        let _ = tokio::time::timeout_at(limit, state.wait_for(|open| *open)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn lookup_waits_until_ready_or_the_limit() {
        let readiness = Readiness::default();
        let start = Instant::now();
        let limit = start + Duration::from_secs(5);
        readiness.wait_ready(limit).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        readiness.mark_opening();
        readiness.wait_ready(limit).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        let opened = async {
            tokio::time::advance(Duration::from_secs(1)).await;
            readiness.mark_ready();
        };
        tokio::join!(readiness.wait_ready(limit + Duration::from_secs(60)), opened);
        assert_eq!(start.elapsed(), Duration::from_secs(6));
        assert!(readiness.is_ready());
    }
}
