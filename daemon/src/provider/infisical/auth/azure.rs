//! azure: an access token of the machine's managed identity.
//!
//! Sources: Infisical's `identity-azure-auth-fns.ts`; Microsoft, "How to use managed identities on an
//! Azure VM to acquire an access token".

use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::metadata::{Answer, ask};
use super::{Method, jwt};
use crate::provider::infisical::client::{LoginRequest, SecretText, below};
use crate::provider::infisical::response::{ApiError, one_line};

const PATH: [&str; 4] = ["metadata", "identity", "oauth2", "token"];
const NONE: &str = "it gives no access token";

/// An identity that is a managed identity of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// The identity's id at Infisical.
    pub identity_id: String,
    /// What the token is for: the resource of the identity's settings at Infisical.
    pub resource: String,
    /// Which of the machine's managed identities, where it has more than one.
    pub client_id: Option<String>,
    /// Where the metadata service is.
    pub metadata_url: Url,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretText,
}

/// The service's own words for what is wrong.
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

    async fn proof(&self, metadata: &Client) -> Result<LoginRequest, ApiError> {
        let mut url = below(&self.metadata_url, &PATH)?;
        url.query_pairs_mut()
            .append_pair("api-version", "2018-02-01")
            .append_pair("resource", &self.resource)
            .extend_pairs(self.client_id.iter().map(|id| ("client_id", id)));
        let answer = ask(metadata.get(url).header("Metadata", "true")).await?;
        if answer.status != StatusCode::OK {
            return Err(refusal(&answer));
        }
        let granted: Granted =
            serde_json::from_slice(answer.body()).map_err(|_| answer.refusal(NONE))?;
        let token = granted.access_token.0;
        let token = token.expose_secret();
        jwt::proof("azure-auth", &self.identity_id, token, &answer.origin(), None)
    }
}

fn refusal(answer: &Answer) -> ApiError {
    let told: Refused = serde_json::from_slice(answer.body()).unwrap_or_default();
    if told.error.is_empty() {
        return answer.refusal(NONE);
    }
    let words = format!("{}: {}", told.error, told.error_description);
    answer.refusal(&one_line(words.lines().next().unwrap_or_default()))
}
