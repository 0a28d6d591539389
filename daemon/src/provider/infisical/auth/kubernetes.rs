//! kubernetes: the token of a service account, which Infisical has the cluster review.
//!
//! Source: Infisical's `identity-kubernetes-auth-service.ts`.

use std::path::PathBuf;

use async_trait::async_trait;
use psi_common::SecretBytes;
use reqwest::Client;

use super::{Method, jwt};
use crate::provider::infisical::answer::ApiError;
use crate::provider::infisical::api::Proof;

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

    async fn proof(&self, _: &Client) -> Result<Proof, ApiError> {
        let path = self.token_file.display();
        let token = std::fs::read(&self.token_file).map(SecretBytes::new).map_err(|error| {
            ApiError::no_credential(format!("the service account's token in {path}: {error}"))
        })?;
        let origin = path.to_string();
        jwt::proof("kubernetes-auth", &self.identity_id, token.expose_secret(), &origin, None)
    }
}
