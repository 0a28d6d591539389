//! The errors of lookups and registrations, with what the admin can do.

use std::fmt::Display;

use crate::cache::NegativeReason;
use crate::provider::ProviderError;
use crate::registry::RegistryError;

/// An error: what happened, with its cause; what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request is malformed.
    #[error("{0}")]
    Malformed(String),
    /// It is not registered, or the provider says that it does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The id is registered for another secret.
    #[error("{}", RegistryError::Exists)]
    Exists,
    /// The provider denies access to it, or the caller may not have it.
    #[error("{0}")]
    Denied(String),
    /// The user has as much as one user may have.
    #[error("{0}")]
    Quota(String),
    /// A key backend is needed, or the key is not usable.
    #[error("{0}")]
    NoKey(String),
    /// It is not available at present.
    #[error("{0}")]
    Unavailable(String),
}

/// The reason for the negative cache, if an error is about the requested secret: a request that follows at once
/// would fail alike.
pub(crate) fn refusal(error: &ProviderError) -> Option<NegativeReason> {
    match error {
        ProviderError::NotFound(why) => Some(NegativeReason::NotFound(why.as_str().into())),
        ProviderError::Denied(why) => Some(NegativeReason::Denied(why.as_str().into())),
        ProviderError::Misbehaved(why) => Some(NegativeReason::BadResponse(why.as_str().into())),
        ProviderError::Failed(why) => Some(NegativeReason::Failed(why.as_str().into())),
        _ => None,
    }
}

/// Whether the provider says that a secret does not exist, or denies access to it.
pub(super) fn is_revocation(error: &ProviderError) -> bool {
    matches!(error, ProviderError::NotFound(_) | ProviderError::Denied(_))
}

pub(super) fn bad_reference(why: impl Display) -> ServiceError {
    ServiceError::Malformed(format!(
        "the reference is not usable: {why}; correct it, or the config and `systemctl reload psid`"
    ))
}

pub(super) fn refused(provider: &str, refusal: &NegativeReason) -> ServiceError {
    match refusal {
        NegativeReason::NotFound(why) => ServiceError::NotFound(format!(
            "{provider} has no such secret: {why}; check project, path and key"
        )),
        NegativeReason::Denied(why) => ServiceError::Denied(format!(
            "{provider} denies it: {why}; check the identity's credentials and permissions"
        )),
        NegativeReason::Failed(why) => ServiceError::Unavailable(format!(
            "{provider} fails to answer for it: {why}, and the value is not cached; try again in a minute, and \
             look into the provider's log if that lasts"
        )),
        NegativeReason::BadResponse(why) => ServiceError::Unavailable(format!(
            "{provider} rejects the request: {why}, and the value is not cached; check the reference, and \
             [providers.{provider}] in the config"
        )),
    }
}

pub(super) fn too_old(provider: &str, error: &ProviderError) -> ServiceError {
    ServiceError::Unavailable(format!(
        "{}, and the cached value is older than max_stale; wait for {provider}, or raise max_stale",
        trouble(provider, error)
    ))
}

pub(super) fn no_answer(provider: &str, error: &ProviderError) -> ServiceError {
    if let Some(refusal) = refusal(error) {
        return refused(provider, &refusal);
    }
    let why = trouble(provider, error);
    ServiceError::Unavailable(match error {
        // It contains its remedy.
        ProviderError::Unauthenticated { .. } => format!("the value is not cached, and {why}"),
        ProviderError::Throttled { .. } => {
            format!("{why}, and the value is not cached; try again when the wait is over")
        }
        _ => format!("{why}, and the value is not cached; try again when {provider} is back"),
    })
}

fn trouble(provider: &str, error: &ProviderError) -> String {
    match error {
        ProviderError::Unauthenticated { why, .. } => {
            format!("psid cannot log in to {provider}: {why}")
        }
        ProviderError::Misbehaved(why) => {
            format!("{provider} rejects the request: {why}")
        }
        ProviderError::Throttled { why, .. } => format!("{provider} asks psid to wait: {why}"),
        ProviderError::TimedOut(why) => format!("{provider} does not answer: {why}"),
        ProviderError::Failed(why) => format!("{provider} fails to answer for it: {why}"),
        error => format!("{provider} is out: {error}"),
    }
}

impl ServiceError {
    /// The same error with a further remedy.
    pub(super) fn with_remedy(self, remedy: &str) -> Self {
        self.map_message(|why| format!("{why}; {remedy}"))
    }

    /// The same error of a secret that is a part of the requested one.
    pub(super) fn of_part(self, variable: &str) -> Self {
        self.map_message(|why| format!("{variable}: {why}"))
    }

    fn map_message(self, with: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Malformed(why) => Self::Malformed(with(why)),
            Self::NotFound(why) => Self::NotFound(with(why)),
            Self::Denied(why) => Self::Denied(with(why)),
            Self::Quota(why) => Self::Quota(with(why)),
            Self::NoKey(why) => Self::NoKey(with(why)),
            Self::Unavailable(why) => Self::Unavailable(with(why)),
            Self::Exists => Self::Exists,
        }
    }

    pub(super) fn unknown() -> Self {
        RegistryError::NotRegistered.into()
    }
}

impl From<RegistryError> for ServiceError {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::Exists => Self::Exists,
            RegistryError::Foreign => Self::Denied(message),
            RegistryError::Quota(_) => Self::Quota(message),
            RegistryError::NoBackend | RegistryError::NoKey | RegistryError::Invalid(_) => {
                Self::NoKey(message)
            }
            RegistryError::NotRegistered
            | RegistryError::Deleted(_)
            | RegistryError::NothingDeleted => Self::NotFound(message),
            RegistryError::Unreadable(_)
            | RegistryError::Irreplaceable(..)
            | RegistryError::Paused
            | RegistryError::Storage(_) => Self::Unavailable(message),
        }
    }
}
