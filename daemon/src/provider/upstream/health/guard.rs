//! A call that is out: whatever becomes of it, it ends here.

use tokio::time::Instant;

use super::{BreakerState, STATUS_RESTS, STATUS_RESTS_IN_OUTAGE, Upstream, chance, tell_end};
use crate::model::clock::Now;
use crate::provider::ProviderError;
use crate::provider::circuit_breaker::CallPermit;
use crate::provider::upstream::Call;

/// A call that is out.
pub(super) struct CallGuard<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) call: &'a Call,
    /// The host's, and the directory's.
    pub(super) passes: Option<(CallPermit, Option<CallPermit>)>,
}

impl CallGuard<'_> {
    /// Whether only the host's own status can tell what the answer says of the host: several requests in a
    /// row failed, or one does while the host seems to be out. Never one request per failure.
    pub(super) fn wants_status<T>(&self, answer: &Result<T, ProviderError>, now: Instant) -> bool {
        let Err(error) = answer else { return false };
        if !is_unclear(error) {
            return false;
        }
        let mut health = self.upstream.health();
        let rests = if health.breaker.trouble().is_some() {
            STATUS_RESTS_IN_OUTAGE
        } else if is_of_directory(error) && health.suspects.would_be_many() {
            STATUS_RESTS
        } else {
            return false;
        };
        let is_due =
            health.status_asked.is_none_or(|asked| now.saturating_duration_since(asked) >= rests);
        if is_due {
            health.status_asked = Some(now);
        }
        is_due
    }

    /// Takes note of the answer. The log is told once when the provider goes out or comes back, and once
    /// of each new complaint.
    pub(super) fn end<T>(
        mut self,
        answer: &Result<T, ProviderError>,
        status: Option<Result<(), ProviderError>>,
        now: Now,
    ) {
        let Some((pass, of_directory)) = self.passes.take() else { return };
        let (name, call) = (&self.upstream.name, self.call);
        let mut health = self.upstream.health();
        health.tally.count(answer);
        let before = health.breaker.trouble().map(BreakerState::of).unwrap_or_default();
        let ended = health.note_host(call, &pass, answer, status, now);
        let is_back = health.note_identity(call, answer, now.mono) || ended.is_some();
        if let Some(trouble) = ended {
            tell_end(name, &trouble, now.mono);
        }
        if let Some(of_directory) = &of_directory {
            health.directories.end(call, of_directory, answer, now, chance());
        }
        let why = health.breaker.trouble().map_or_else(String::new, |trouble| trouble.why.clone());
        match health.breaker.trouble().map(BreakerState::of).unwrap_or_default() {
            same if same == before => {}
            BreakerState::Outage => {
                tracing::warn!("{name} is out, and what is cached is served: {why}");
            }
            BreakerState::Asked => {
                tracing::warn!("{name} asks us to wait, and what is cached is served: {why}");
            }
            BreakerState::Well => {}
        }
        health.hear(name, answer, now.tick);
        drop(health);
        self.upstream.answers.send_modify(|count| *count += 1);
        if is_back {
            self.upstream.tell_recovered();
        }
    }
}

/// Whether an error may be the host's or not.
pub(super) fn is_unclear(error: &ProviderError) -> bool {
    is_of_directory(error) || matches!(error, ProviderError::Unauthenticated { .. })
}

pub(super) fn is_of_directory(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Failed(_) | ProviderError::TimedOut(_))
}

impl Drop for CallGuard<'_> {
    /// Who was about to ask has gone, or crashed.
    fn drop(&mut self) {
        if let Some((pass, of_directory)) = self.passes.take() {
            let mut health = self.upstream.health();
            health.breaker.unasked(&pass);
            if let Some(of_directory) = &of_directory {
                health.directories.unasked(self.call, of_directory);
            }
            drop(health);
            self.upstream.answers.send_modify(|count| *count += 1);
        }
    }
}
