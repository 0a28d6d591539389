//! universal-auth: a client id and its secret.

use async_trait::async_trait;
use serde_json::json;

use super::secret::SecretSource;
use super::{LoginCredential, Method, NoCredential};
use crate::provider::infisical::client::LoginRequest;

/// An identity with a client secret.
pub struct UniversalAuth {
    /// The identity's client id.
    pub client_id: String,
    /// The source of its client secret.
    pub client_secret: SecretSource,
}

#[async_trait]
impl Method for UniversalAuth {
    fn is_local(&self) -> bool {
        true
    }

    fn identity(&self) -> String {
        format!("universal-auth client {}", self.client_id)
    }

    fn remedy(&self) -> String {
        match &self.client_secret {
            SecretSource::Given(_) => {
                "give the identity's client id, and a client secret that Infisical shows for it"
                    .into()
            }
            source => source.replace("a new client secret", "client_secret"),
        }
    }

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let secret = self.client_secret.read_line("the client secret").await;
        let secret = secret.map_err(NoCredential::new)?;
        let body = json!({
            "clientId": self.client_id,
            "clientSecret": secret.expose_secret(),
        });
        Ok(LoginCredential::Request(LoginRequest::new("universal-auth", body, secret)))
    }
}
