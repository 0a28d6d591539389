//! How a machine identity proves itself, a file each; and the access token that it gets by a login.

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

use async_trait::async_trait;
use reqwest::Client;

use super::client::LoginRequest;
use super::response::ApiError;

pub use aws::AwsIam;
pub use azure::Azure;
pub use gcp::Gcp;
pub(crate) use kubernetes::Kubernetes;
pub(super) use source::TokenSource;
pub(super) use token::Token;
pub use universal::{SecretSource, UniversalAuth};

pub(super) use metadata::client as metadata_client;

/// How a machine identity proves itself.
#[async_trait]
pub trait Method: Send + Sync {
    /// Whether its secret lies on this host: it costs nothing to read, and once an admin has replaced
    /// one that was refused, the new one is tried at once.
    fn is_local(&self) -> bool;

    /// The identity in words: by which method, and its id.
    fn identity(&self) -> String;

    /// What an admin does about a refused login: one sentence.
    fn remedy(&self) -> String;

    /// What an admin does where there is nothing on this host to log in with: one sentence. A method that
    /// asks a metadata service has its words instead.
    fn supply(&self) -> String {
        self.remedy()
    }

    /// What a login is to send. `metadata` is for the host's own metadata service.
    async fn proof(&self, metadata: &Client) -> Result<LoginRequest, ApiError>;
}
