//! kubernetes: the token of a service account, which Infisical has the cluster review.
//!
//! Source: Infisical's `identity-kubernetes-auth-service.ts`.

use std::path::PathBuf;

use async_trait::async_trait;
use psi_common::SecretBytes;
use reqwest::Client;

use super::{Method, jwt};
use crate::provider::infisical::client::LoginRequest;
use crate::provider::infisical::response::ApiError;

/// An identity that is a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The identity's id.
    pub identity_id: String,
    /// Where the account's token is. It is read at each login, for kubelet rotates it.
    pub token_file: PathBuf,
}

#[async_trait]
impl Method for Kubernetes {
    fn is_local(&self) -> bool {
        true
    }

    fn identity(&self) -> String {
        format!("kubernetes identity {}", self.identity_id)
    }

    fn remedy(&self) -> String {
        "give the identity's Kubernetes auth in Infisical this service account, its namespace and audience, \
         and a token reviewer that works"
            .into()
    }

    fn supply(&self) -> String {
        format!("have kubelet project the service account's token to {}", self.token_file.display())
    }

    async fn proof(&self, _: &Client) -> Result<LoginRequest, ApiError> {
        let path = self.token_file.display();
        let token =
            tokio::fs::read(&self.token_file).await.map(SecretBytes::new).map_err(|error| {
                ApiError::no_credential(format!("the service account's token in {path}: {error}"))
            })?;
        let origin = path.to_string();
        jwt::proof("kubernetes-auth", &self.identity_id, token.expose_secret(), &origin, None)
    }
}
