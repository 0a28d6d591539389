//! universal-auth: a client id and its secret.

use async_trait::async_trait;
use psi_common::{SecretBytes, SecretString};
use serde_json::json;

use super::secret::SecretSource;
use super::{LoginCredential, Method, NoCredential};
use crate::keys::credential::form_fault;
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
        let secret = self.client_secret.read("the client secret").await;
        let secret = secret.map_err(NoCredential::new)?;
        let credential = checked(&secret).map_err(|what| {
            NoCredential::new(format!("the client secret {what}, and was not sent"))
        })?;
        let body = json!({
            "clientId": self.client_id,
            "clientSecret": credential.expose_secret(),
        });
        Ok(LoginCredential::Request(LoginRequest {
            route: "universal-auth",
            body,
            credential,
            derived: Vec::new(),
            expired: false,
            hint_at_500: None,
            certificate: None,
        }))
    }
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
    use super::super::secret::trimmed;
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
