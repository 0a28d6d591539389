//! kubernetes: the token of a service account, which Infisical submits to the cluster for review.
//!
//! Source: Infisical's `identity-kubernetes-auth-service.ts`.

use std::path::PathBuf;

use async_trait::async_trait;
use psi_common::SecretBytes;

use super::{Method, NoCredential, jwt};
use crate::provider::infisical::client::LoginRequest;

/// An identity that is a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The identity's id.
    pub identity_id: String,
    /// The file with the account's token. It is read at each login, because kubelet rotates it.
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

    fn missing_remedy(&self) -> String {
        format!("have kubelet project the service account's token to {}", self.token_file.display())
    }

    async fn login_request(&self) -> Result<LoginRequest, NoCredential> {
        let path = self.token_file.display();
        let token =
            tokio::fs::read(&self.token_file).await.map(SecretBytes::new).map_err(|error| {
                NoCredential::new(format!("the service account's token in {path}: {error}"))
            })?;
        let origin = path.to_string();
        jwt::login_request(
            "kubernetes-auth",
            &self.identity_id,
            token.expose_secret(),
            &origin,
            None,
        )
    }
}
