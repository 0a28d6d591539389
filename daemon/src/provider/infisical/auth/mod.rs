//! The login methods of machine identities, one file each, and the access tokens that they bring.

mod aws;
mod azure;
mod failure;
mod gcp;
mod imds;
mod jwt;
mod kubernetes;
mod metadata;
mod source;
mod token;
mod universal;

use std::time::Duration;

use async_trait::async_trait;

use super::client::LoginRequest;
use crate::provider::ProviderError;

pub use aws::AwsIam;
pub use azure::Azure;
pub(super) use failure::{LoginError, span};
pub use gcp::Gcp;
pub(crate) use kubernetes::Kubernetes;
pub(super) use source::TokenSource;
pub(super) use token::AccessToken;
pub use universal::{SecretSource, UniversalAuth};

/// A login method with its identity.
#[async_trait]
pub trait Method: Send + Sync {
    /// Whether its credential is stored on this host: reading it is free, and a replaced one is tried at
    /// once, even after a refusal.
    fn is_local(&self) -> bool;

    /// The method and the identity's id, for messages.
    fn identity(&self) -> String;

    /// What fixes a refused login: one sentence.
    fn remedy(&self) -> String;

    /// What fixes a missing credential: one sentence. For a method with a metadata service, the service's
    /// answer is reported instead.
    fn missing_remedy(&self) -> String {
        self.remedy()
    }

    /// Reads the credential, and makes the login request with it.
    async fn login_request(&self) -> Result<LoginRequest, NoCredential>;
}

/// There is no credential to log in with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoCredential {
    /// The reason.
    pub why: String,
    /// The time for which the metadata service asked to wait.
    pub wait: Option<Duration>,
}

impl NoCredential {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), wait: None }
    }
}

impl From<ProviderError> for NoCredential {
    fn from(error: ProviderError) -> Self {
        Self::new(error.to_string())
    }
}
