//! Why a provider does not accept a reference or a source.

use psi_common::check::InvalidText;

use super::ProviderError;
use crate::crypto::hybrid::HybridError;
use crate::model::reference::shown;

/// A reference, or a source of a workload, that its provider cannot resolve under the config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// A member is missing or empty.
    #[error("the reference has no \"{0}\"")]
    Missing(&'static str),
    /// A member that references of this provider do not have.
    #[error("\"{}\" is not a member of {provider} reference", shown(.member))]
    UnknownMember {
        /// The member.
        member: String,
        /// The provider, with its article.
        provider: &'static str,
    },
    /// A project, a path or a key is malformed.
    #[error(transparent)]
    Text(#[from] InvalidText),
    /// The path and the key do not fit into a URL.
    #[error("path and key together have more than {0} bytes")]
    TooLong(usize),
    /// The config does not have the project.
    #[error("the config has no [providers.infisical.projects.{}]", shown(.0))]
    UnknownProject(String),
    /// The sealed secret is not base64.
    #[error("its \"blob\" is not base64: {0}")]
    NotBase64(#[from] base64::DecodeError),
    /// The sealed secret has another format.
    #[error("its \"blob\" was not sealed by psi: {0}")]
    NotSealed(#[from] HybridError),
    /// The provider cannot list: each of its references holds its own secret.
    #[error("a token has no directories: each reference holds its own secret")]
    NoDirectories,
}

impl From<InvalidReference> for ProviderError {
    fn from(error: InvalidReference) -> Self {
        Self::Misbehaved(error.to_string())
    }
}
