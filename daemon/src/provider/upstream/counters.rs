//! A provider's answers, counted by kind since psid's start.

use crate::provider::ProviderError;

/// Counts of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProviderCounters {
    /// Successful requests.
    pub succeeded: u64,
    /// Requests without a proper answer: no connection, a timeout, an internal error, a gateway's answer.
    pub unreachable: u64,
    /// Answers that requested a pause.
    pub throttled: u64,
    /// Failed logins.
    pub unauthenticated: u64,
    /// Answers that denied access.
    pub denied: u64,
    /// Answers that something does not exist.
    pub not_found: u64,
    /// Answers that psid does not understand, or requests that the provider does not.
    pub misbehaved: u64,
}

impl ProviderCounters {
    /// Counts one answer.
    pub(super) fn count(&mut self, error: Option<&ProviderError>) {
        let count = match error {
            None => &mut self.succeeded,
            Some(
                ProviderError::Unreachable(_)
                | ProviderError::Unavailable { .. }
                | ProviderError::TimedOut(_)
                | ProviderError::Failed(_),
            ) => &mut self.unreachable,
            Some(ProviderError::Throttled { .. }) => &mut self.throttled,
            Some(ProviderError::Unauthenticated { .. }) => &mut self.unauthenticated,
            Some(ProviderError::Denied(_)) => &mut self.denied,
            Some(ProviderError::NotFound(_)) => &mut self.not_found,
            Some(ProviderError::Misbehaved(_)) => &mut self.misbehaved,
        };
        *count += 1;
    }
}
