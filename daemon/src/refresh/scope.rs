//! The scopes of refreshes.

use crate::provider::upstream::Upstream;

/// The scope of a refresh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefreshScope {
    /// The sources that are due, if their circuit breakers allow it.
    Due,
    /// The sources of the workloads that name a user.
    OfUser(u32),
    /// The sources of a provider, for an admin.
    OfProvider(String),
    /// Every source, for an admin.
    All,
    /// Every source, for an admin who accepts all removals.
    AllAcceptingRemovals,
}

impl RefreshScope {
    /// Whether a refresh of this scope is also one of `other`.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match self {
            Self::AllAcceptingRemovals => true,
            Self::All => *other != Self::AllAcceptingRemovals,
            Self::OfUser(_) | Self::OfProvider(_) | Self::Due => self == other,
        }
    }

    /// Whether it may ask a provider.
    pub(super) fn includes(&self, upstream: &Upstream) -> bool {
        !matches!(self, Self::OfProvider(name) if *name != upstream.name)
    }
}
