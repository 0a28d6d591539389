//! The errors of lookups and registrations, with what the admin can do.

use std::fmt::{self, Display};

use crate::cache::NegativeReason;
use crate::provider::ProviderError;
use crate::registry::RegistryError;

/// An error: what happened, with its cause; what to do.
#[derive(Debug)]
pub enum ServiceError {
    /// The request is malformed.
    Malformed(String),
    /// Not registered, or the provider says that there is none.
    NotFound(String),
    /// The id stands for something else.
    Exists,
    /// The provider does not let psid have it.
    Denied(String),
    /// A key backend is needed, or the token is not as it must be.
    NoKey(String),
    /// Not now.
    Unavailable(String),
}

/// Whether an error is the provider's answer about what it was asked for: to ask again at once would bring
/// the same.
pub(crate) fn refusal(error: &ProviderError) -> Option<NegativeReason> {
    match error {
        ProviderError::NotFound(why) => Some(NegativeReason::NotFound(why.as_str().into())),
        ProviderError::Denied(why) => Some(NegativeReason::Denied(why.as_str().into())),
        ProviderError::Misbehaved(why) => Some(NegativeReason::BadResponse(why.as_str().into())),
        ProviderError::Failed(why) => Some(NegativeReason::Failed(why.as_str().into())),
        _ => None,
    }
}

/// Whether an error is the provider's word that a secret is gone, or not for us.
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
        // It names its own remedy.
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
    /// The same, with one more way out.
    pub(super) fn with_remedy(self, remedy: &str) -> Self {
        let with = |why: String| format!("{why}; {remedy}");
        match self {
            Self::Malformed(why) => Self::Malformed(with(why)),
            Self::NotFound(why) => Self::NotFound(with(why)),
            Self::Denied(why) => Self::Denied(with(why)),
            Self::NoKey(why) => Self::NoKey(with(why)),
            Self::Unavailable(why) => Self::Unavailable(with(why)),
            Self::Exists => Self::Exists,
        }
    }

    pub(super) fn unknown() -> Self {
        Self::NotFound(
            "psid has no such secret registered; see `podman secret ls`, or create it again".into(),
        )
    }
}

impl From<RegistryError> for ServiceError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Exists => Self::Exists,
            RegistryError::NoBackend => Self::NoKey(
                "there is no key backend to seal a literal with; set backend in [cache], and run \
                 `psictl cache init`"
                    .into(),
            ),
            RegistryError::NoKey => Self::NoKey(
                "there is no key to seal a literal with; `psictl cache status` says why".into(),
            ),
            RegistryError::NotRegistered => Self::unknown(),
            RegistryError::Deleted(id) => Self::NotFound(format!(
                "it was deleted less than ten minutes ago; `psictl restore {id}` brings it back"
            )),
            RegistryError::Invalid(why) => Self::NoKey(why.to_string()),
            RegistryError::Unreadable(why) => Self::Unavailable(format!(
                "what is registered cannot be read, which is tried again: {why}"
            )),
            RegistryError::Irreplaceable(id, why) => Self::Unavailable(format!(
                "{id} is kept, for nothing could be stored in its place now: {why}; `psictl delete {id} \
                 --force` deletes it all the same"
            )),
            RegistryError::Paused => Self::Unavailable(
                "psid refused to delete a secret a moment ago, and podman would keep two of one name; run it \
                 again"
                    .into(),
            ),
            RegistryError::NothingDeleted => Self::NotFound(
                "nothing was deleted under this id in the last ten minutes; see `psictl restore`".into(),
            ),
            RegistryError::Storage(why) => Self::Unavailable(format!(
                "the registration cannot be changed: {why}; check the disk of psid's state directory"
            )),
        }
    }
}

impl Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str(
                "the id is registered already, for something else; podman never reuses an id",
            ),
            Self::Malformed(why)
            | Self::NotFound(why)
            | Self::Denied(why)
            | Self::NoKey(why)
            | Self::Unavailable(why) => f.write_str(why),
        }
    }
}
