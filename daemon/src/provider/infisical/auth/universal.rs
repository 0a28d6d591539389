//! universal-auth: a client id and its secret.

use std::path::PathBuf;

use async_trait::async_trait;
use psi_common::SecretBytes;
use reqwest::Client;
use serde_json::json;

use super::Method;
use crate::credential::Credential;
use crate::provider::infisical::answer::ApiError;
use crate::provider::infisical::api::Proof;

/// An identity that has a client secret.
pub struct UniversalAuth {
    /// The identity's client id.
    pub client_id: String,
    /// Where its secret is.
    pub client_secret: SecretSource,
}

/// Where the client secret is. It is read at each login, for it may be rotated.
pub enum SecretSource {
    /// A systemd credential.
    Credential(Credential),
    /// A file of the admin's.
    File(PathBuf),
    /// The config itself.
    Config(SecretBytes),
}

#[async_trait]
impl Method for UniversalAuth {
    fn is_local(&self) -> bool {
        true
    }

    async fn proof(&self, _: &Client) -> Result<Proof, ApiError> {
        let secret = self.client_secret.read().await.map_err(ApiError::no_credential)?;
        let text = std::str::from_utf8(secret.expose_secret())
            .map_err(|_| ApiError::no_credential("the client secret is not UTF-8".into()))?;
        let body = json!({ "clientId": self.client_id, "clientSecret": text });
        let secrets = vec![secret];
        Ok(Proof { route: "universal-auth", body, secrets, expired: false, hint_at_500: None })
    }
}

impl SecretSource {
    async fn read(&self) -> Result<SecretBytes, String> {
        match self {
            Self::Config(secret) => Ok(trimmed(secret)),
            Self::File(path) => {
                std::fs::read(path).map(|bytes| trimmed(&SecretBytes::new(bytes))).map_err(
                    |error| format!("the client secret in {} is missing: {error}", path.display()),
                )
            }
            Self::Credential(credential) => match credential.read().await {
                Ok(Some(secret)) => Ok(trimmed(&secret)),
                Ok(None) => Err(format!(
                    "the client secret is missing: no credential {}, no {}",
                    credential.name,
                    credential.sealed.display()
                )),
                Err(why) => Err(format!("the client secret in {why}")),
            },
        }
    }
}

/// A secret without the newline that editors and `echo` leave at its end.
fn trimmed(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose_secret().trim_ascii_end().to_vec())
}
