//! What a provider's answers were, counted since psid knows it.

use crate::provider::ProviderError;

/// Counts of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderCounters {
    /// It gave what it was asked for.
    pub given: u64,
    /// It did not answer, or failed, or something else answered in its place.
    pub unreachable: u64,
    /// It asked to wait.
    pub throttled: u64,
    /// psid could not log in.
    pub unauthenticated: u64,
    /// It said that it is not for us.
    pub denied: u64,
    /// It said that there is none.
    pub gone: u64,
    /// It did not understand psid, or psid it.
    pub misbehaved: u64,
}

impl ProviderCounters {
    /// Counts one answer.
    pub(super) fn count<T>(&mut self, answer: &Result<T, ProviderError>) {
        let count = match answer {
            Ok(_) => &mut self.given,
            Err(
                ProviderError::Unreachable(_)
                | ProviderError::Unavailable { .. }
                | ProviderError::TimedOut(_)
                | ProviderError::Failed(_),
            ) => &mut self.unreachable,
            Err(ProviderError::Throttled { .. }) => &mut self.throttled,
            Err(ProviderError::Unauthenticated { .. }) => &mut self.unauthenticated,
            Err(ProviderError::Denied(_)) => &mut self.denied,
            Err(ProviderError::NotFound(_)) => &mut self.gone,
            Err(ProviderError::Misbehaved(_)) => &mut self.misbehaved,
        };
        *count += 1;
    }
}
