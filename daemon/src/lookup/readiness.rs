//! Holds lookups back while the key is being opened: a token may take half a minute.

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Open unless somebody opens a key.
pub struct Readiness(watch::Sender<bool>);

/// Opens the gate when it is dropped.
pub struct Opening<'a>(&'a Readiness);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Readiness {
    /// Lets everybody through.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Holds whoever comes.
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    /// Whether nobody is held.
    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Lets everybody through once the guard is dropped, however that comes.
    pub fn open_at_end(&self) -> Opening<'_> {
        Opening(self)
    }

    /// Waits until it is open; false when `stop` comes first.
    pub async fn opened(&self, stop: &CancellationToken) -> bool {
        let mut state = self.0.subscribe();
        tokio::select! {
            opened = state.wait_for(|open| *open) => opened.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Waits until it is open, at most until `limit`.
    pub async fn passed(&self, limit: Instant) {
        let mut state = self.0.subscribe();
        let _ = tokio::time::timeout_at(limit, state.wait_for(|open| *open)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn who_comes_waits_until_it_opens_or_the_limit() {
        let gate = Readiness::default();
        let start = Instant::now();
        let limit = start + Duration::from_secs(5);
        gate.passed(limit).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        gate.close();
        gate.passed(limit).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        let opened = async {
            tokio::time::advance(Duration::from_secs(1)).await;
            gate.open();
        };
        tokio::join!(gate.passed(limit + Duration::from_secs(60)), opened);
        assert_eq!(start.elapsed(), Duration::from_secs(6));
        assert!(gate.is_open());
    }
}
