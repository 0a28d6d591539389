//! The login methods of machine identities, one file each, and the access tokens that they bring.

mod aws;
mod azure;
mod binding;
mod failure;
mod gcp;
mod imds;
mod jwt;
mod memory;
mod metadata;
mod secret;
mod source;
mod static_token;
mod tls_cert;
mod token;
mod token_file;
mod universal;

use std::time::Duration;

use async_trait::async_trait;
use psi_common::SecretString;

use super::client::LoginRequest;
use crate::provider::{CredentialExpiry, ProviderError};

pub use aws::AwsIam;
pub use azure::Azure;
pub(super) use failure::{LoginError, span};
pub use gcp::Gcp;
pub use secret::SecretSource;
pub(super) use source::TokenSource;
pub(crate) use static_token::StaticToken;
pub(crate) use tls_cert::{PrivateKey, TlsCert};
pub(super) use token::AccessToken;
pub(crate) use token_file::{TokenFile, TokenKind};
pub use universal::UniversalAuth;

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

    /// Whether there is a login; a static access token needs none.
    fn has_login(&self) -> bool {
        true
    }

    /// The message for a refusal that the server explains with `why`.
    fn refusal(&self, why: &str) -> String {
        format!("the login as {} was refused ({why}); {}", self.identity(), self.remedy())
    }

    /// Reads the credential.
    async fn credential(&self) -> Result<LoginCredential, NoCredential>;

    /// The end of the credential; none if it has no end, if its end is not known, or if another one is made for each
    /// login. Reads local files only.
    fn expiry(&self) -> Option<CredentialExpiry> {
        None
    }

    /// The names of this host that the identity's settings in Infisical could list, once a login was refused.
    async fn binding(&self, _request: &LoginRequest) -> Option<String> {
        None
    }
}

/// What a method has for psid to prove its identity with.
pub enum LoginCredential {
    /// A request that brings an access token.
    Request(LoginRequest),
    /// A static access token: there is no login.
    AccessToken(SecretString),
}

impl LoginCredential {
    /// What the memory of refused logins identifies by its hash.
    fn secret(&self) -> &SecretString {
        match self {
            Self::Request(request) => &request.credential,
            Self::AccessToken(token) => token,
        }
    }
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
