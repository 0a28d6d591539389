//! Logging in and out.

use std::slice;

use psi_common::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, ClientCertificate, below, secret_string};
use crate::provider::infisical::response::{ApiError, parse, send};

/// The content of a login.
pub struct LoginRequest {
    /// The method's name in the route.
    pub route: &'static str,
    /// The body.
    pub body: Value,
    /// The credential: the record of failed logins identifies it by its hash.
    pub credential: SecretString,
    /// Further secrets of the body; no error may quote them or the credential.
    pub derived: Vec<SecretString>,
    /// Whether the credential had expired before it was sent, by this host's clock. Then a refusal is no evidence
    /// about the identity.
    pub expired: bool,
    /// What a 500 may mean besides a server error, for a method whose refusals are not a 401.
    pub hint_at_500: Option<&'static str>,
    /// The client certificate, for a login over mutual TLS.
    pub(in crate::provider::infisical) certificate: Option<ClientCertificate>,
}

/// A login's response.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::provider::infisical) struct Login {
    #[serde(deserialize_with = "secret_string")]
    pub access_token: SecretString,
    /// In seconds; 0: the server has no limit configured.
    #[serde(default)]
    pub expires_in: u64,
}

impl LoginRequest {
    /// A login without further secrets, over the API's own connection.
    pub fn new(route: &'static str, body: Value, credential: SecretString) -> Self {
        Self {
            route,
            body,
            credential,
            derived: Vec::new(),
            expired: false,
            hint_at_500: None,
            certificate: None,
        }
    }

    fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.credential).chain(&self.derived).map(SecretString::expose_secret)
    }
}

impl Api {
    /// Logs a machine identity in.
    pub(in crate::provider::infisical) async fn login(
        &self,
        login: &LoginRequest,
    ) -> Result<Login, ApiError> {
        let own;
        let (client, base) = match &login.certificate {
            None => (&self.client, &self.base),
            Some(certificate) => {
                own = self.tls.client(certificate)?;
                (&own, &certificate.url)
            }
        };
        let url = below(base, &["api", "v1", "auth", login.route, "login"])?;
        let secrets: Vec<&str> = login.secrets().collect();
        Ok(parse(send(client.post(url).json(&login.body), &secrets).await?)?)
    }

    /// Revokes an access token.
    pub(in crate::provider::infisical) async fn revoke(
        &self,
        token: &SecretString,
    ) -> Result<(), ApiError> {
        let url = below(&self.base, &["api", "v1", "auth", "token", "revoke"])?;
        let token = token.expose_secret();
        let body = json!({ "accessToken": token });
        send(self.client.post(url).json(&body), slice::from_ref(&token)).await.map(|_| ())
    }
}
