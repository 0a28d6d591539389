//! A call in flight. Its permits are returned here, even if it is cancelled or panics.

use tokio::time::Instant;

use super::{STATUS_INTERVAL, STATUS_INTERVAL_IN_OUTAGE, Upstream, log_recovery};
use crate::model::clock::Now;
use crate::provider::ProviderError;
use crate::provider::circuit_breaker::{BreakerState, CallPermit};
use crate::provider::upstream::Call;
use crate::provider::upstream::scopes::Finished;
use crate::sys::jitter::jitter;

/// A call in flight.
pub(super) struct CallGuard<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) call: &'a Call,
    /// The host's permit, and the directory's; none once the call has finished.
    pub(super) permits: Option<(CallPermit, Option<CallPermit>)>,
}

impl CallGuard<'_> {
    /// Whether the host's status must be requested, because the error alone does not show whether the host is out:
    /// several requests in a row failed, or one failed while the host seems to be out. The status is requested at
    /// most once in each interval.
    pub(super) fn wants_status(&self, error: Option<&ProviderError>, now: Instant) -> bool {
        let Some(error) = error.filter(|error| is_unclear(error)) else { return false };
        let mut health = self.upstream.health();
        let interval = if health.breaker.outage().is_some() {
            STATUS_INTERVAL_IN_OUTAGE
        } else if is_of_directory(error) && health.suspects.would_be_many() {
            STATUS_INTERVAL
        } else {
            return false;
        };
        let is_due = health
            .status_asked
            .is_none_or(|asked| now.saturating_duration_since(asked) >= interval);
        if is_due {
            health.status_asked = Some(now);
        }
        is_due
    }

    /// Records the answer. Each change of the breaker's state and each new refusal is logged once.
    pub(super) fn finish(
        mut self,
        error: Option<&ProviderError>,
        status: Option<Result<(), ProviderError>>,
        now: Now,
    ) {
        let Some((permit, of_directory)) = self.permits.take() else { return };
        let name = &self.upstream.name;
        let finished = Finished { call: self.call, error, now, jitter: jitter() };
        let mut health = self.upstream.health();
        health.counters.count(error);
        let before = health.logged_state();
        let ended = health.note_host(&finished, &permit, status);
        let is_back = health.note_identity(&finished) || ended.is_some();
        if let Some(outage) = ended {
            log_recovery(name, &outage, now.mono);
        }
        if let Some(of_directory) = &of_directory {
            health.directories.finish(&finished, of_directory);
        }
        let why = health.breaker.outage().map_or("", |outage| outage.why.as_str());
        match health.logged_state() {
            same if same == before => {}
            BreakerState::Open | BreakerState::HalfOpen => {
                tracing::warn!("{name} is unreachable, and cached values are served: {why}");
            }
            BreakerState::RateLimited => {
                tracing::warn!("{name} asks psid to wait, and cached values are served: {why}");
            }
            BreakerState::Closed => {}
        }
        health.note_refusal(name, error, now.boot);
        drop(health);
        self.upstream.answers.send_modify(|count| *count += 1);
        if is_back {
            self.upstream.notify_recovered();
        }
    }
}

/// Whether an error may concern the host, or only the requested directory.
pub(super) fn is_unclear(error: &ProviderError) -> bool {
    is_of_directory(error) || matches!(error, ProviderError::Unauthenticated { .. })
}

pub(super) fn is_of_directory(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Failed(_) | ProviderError::TimedOut(_))
}

impl Drop for CallGuard<'_> {
    /// The caller was cancelled, or panicked.
    fn drop(&mut self) {
        if let Some((permit, of_directory)) = self.permits.take() {
            let mut health = self.upstream.health();
            health.breaker.cancelled(&permit);
            if let Some(of_directory) = &of_directory {
                health.directories.cancelled(self.call, of_directory);
            }
            drop(health);
            self.upstream.answers.send_modify(|count| *count += 1);
        }
    }
}
