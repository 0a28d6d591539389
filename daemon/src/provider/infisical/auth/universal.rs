//! universal-auth: a client id and its secret.

use std::path::PathBuf;

use async_trait::async_trait;
use psi_common::{SecretBytes, SecretString};
use serde_json::json;

use super::{Method, NoCredential};
use crate::keys::credential::{Credential, form_fault};
use crate::provider::infisical::client::LoginRequest;

/// An identity with a client secret.
pub struct UniversalAuth {
    /// The identity's client id.
    pub client_id: String,
    /// The source of its client secret.
    pub client_secret: SecretSource,
}

/// The source of a client secret. It is read at each login, because it may be rotated.
pub enum SecretSource {
    /// A systemd credential.
    Credential(Credential),
    /// A file.
    File(PathBuf),
    /// The config itself.
    Config(SecretBytes),
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
            SecretSource::Credential(credential) => format!(
                "seal a new client secret with `systemd-creds encrypt --name={} - {}`, then `systemctl \
                 restart psid`",
                credential.name,
                credential.sealed.display()
            ),
            SecretSource::File(path) => {
                format!("write a new client secret to {}", path.display())
            }
            SecretSource::Config(_) => {
                "write a new client_secret to the config, then `systemctl reload psid`".into()
            }
        }
    }

    async fn login_request(&self) -> Result<LoginRequest, NoCredential> {
        let secret = self.client_secret.read().await?;
        let credential = checked(&secret).map_err(|what| {
            NoCredential::new(format!("the client secret {what}, and was not sent"))
        })?;
        let body = json!({
            "clientId": self.client_id,
            "clientSecret": credential.expose_secret(),
        });
        Ok(LoginRequest {
            route: "universal-auth",
            body,
            credential,
            derived: Vec::new(),
            expired: false,
            hint_at_500: None,
        })
    }
}

impl SecretSource {
    async fn read(&self) -> Result<SecretBytes, NoCredential> {
        match self {
            Self::Config(secret) => Ok(trimmed(secret)),
            Self::File(path) => {
                let read = tokio::fs::read(path).await;
                read.map(|bytes| trimmed(&SecretBytes::new(bytes))).map_err(|error| {
                    let path = path.display();
                    NoCredential::new(format!("the client secret in {path} is missing: {error}"))
                })
            }
            Self::Credential(credential) => match credential.read().await {
                Ok(Some(secret)) => Ok(trimmed(&secret)),
                Ok(None) => Err(NoCredential::new(format!(
                    "the client secret is missing: no credential {}, no {}",
                    credential.name,
                    credential.sealed.display()
                ))),
                Err(error) => Err(NoCredential::new(format!("the client secret in {error}"))),
            },
        }
    }
}

/// A secret without the final newline that editors and `echo` add.
fn trimmed(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose_secret().trim_ascii_end().to_vec())
}

/// The secret's text, unless the server is certain to refuse it: three refusals lock the identity.
fn checked(secret: &SecretBytes) -> Result<SecretString, &'static str> {
    let bytes = secret.expose_secret();
    match form_fault(bytes) {
        Some(fault) => Err(fault),
        None => SecretString::from_utf8(bytes.to_vec()).map_err(|_| "is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<String, &'static str> {
        let secret = trimmed(&SecretBytes::new(bytes.to_vec()));
        checked(&secret).map(SecretString::into_exposed)
    }

    #[test]
    fn final_newline_is_trimmed() {
        for text in ["s3cret", "s3cret\n", "s3cret\r\n", "s3cret \n\n", "a b"] {
            assert_eq!(check(text.as_bytes()).as_deref(), Ok(text.trim_end()), "{text:?}");
        }
        assert_eq!(check(b"\"").as_deref(), Ok("\""), "one quote may be a secret");
    }

    /// `form_fault` has its own tests, which cover PINs too.
    #[test]
    fn malformed_secrets_are_not_sent() {
        for (bytes, what) in [
            (b" \n\n".as_slice(), "is empty"),
            (b"\xef\xbb\xbfs3cret", "byte order mark"),
            (b"\"s3cret\"", "quotes"),
            (b"s3cret\ns3cret\n", "more than one line"),
        ] {
            let found = check(bytes).unwrap_err();
            assert!(found.contains(what), "{bytes:?}: {found}");
        }
    }
}
