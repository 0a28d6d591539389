//! azure: an access token of the machine's managed identity.
//!
//! Sources: Infisical's `identity-azure-auth-fns.ts`; Microsoft, "How to use managed identities on an
//! Azure VM to acquire an access token".

use async_trait::async_trait;
use psi_common::SecretString;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::jwt::{self, TokenLogin};
use super::metadata::{self, MetadataResponse};
use super::{LoginCredential, Method, NoCredential};
use crate::provider::infisical::client::{below, secret_string};
use crate::provider::infisical::response::one_line;

const PATH: [&str; 4] = ["metadata", "identity", "oauth2", "token"];
const NONE: &str = "no access token";

/// An identity that is a managed identity of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// The identity's id at Infisical.
    pub identity_id: String,
    /// The resource that the token is for, as in the identity's settings in Infisical.
    pub resource: String,
    /// The managed identity to use, if the machine has several.
    pub client_id: Option<String>,
    /// The address of the metadata service.
    pub metadata_url: Url,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret_string")]
    access_token: SecretString,
}

/// The service's error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
}

#[async_trait]
impl Method for Azure {
    fn is_local(&self) -> bool {
        false
    }

    fn identity(&self) -> String {
        format!("azure identity {}", self.identity_id)
    }

    fn remedy(&self) -> String {
        "give the identity's Azure auth in Infisical this machine's tenant and managed identity, and the \
         resource of the config"
            .into()
    }

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let mut url = below(&self.metadata_url, &PATH)?;
        url.query_pairs_mut()
            .append_pair("api-version", "2018-02-01")
            .append_pair("resource", &self.resource)
            .extend_pairs(self.client_id.iter().map(|id| ("client_id", id)));
        let request = metadata::client()?.get(url).header("Metadata", "true");
        let response = metadata::send(request).await?;
        if response.status != StatusCode::OK {
            return Err(refusal(&response));
        }
        let granted: Granted =
            serde_json::from_slice(response.body()).map_err(|_| response.refusal(NONE))?;
        jwt::login_request(&TokenLogin {
            route: "azure-auth",
            identity_id: &self.identity_id,
            token: granted.access_token.expose_secret().as_bytes(),
            origin: &response.origin(),
            hint_at_500: None,
        })
        .map(LoginCredential::Request)
    }
}

fn refusal(response: &MetadataResponse) -> NoCredential {
    let refused: Refused = serde_json::from_slice(response.body()).unwrap_or_default();
    if refused.error.is_empty() {
        return response.refusal(NONE);
    }
    let message = format!("{}: {}", refused.error, refused.error_description);
    response.refusal(&one_line(message.lines().next().unwrap_or_default()))
}
