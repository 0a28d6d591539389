//! gcp: an identity token of Google's metadata server, for the identity's id as its audience.
//!
//! Sources: Infisical's `identity-gcp-auth-fns.ts`; Google, "Verify VM identity".

use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url};

use super::metadata::ask;
use super::{Method, jwt};
use crate::provider::infisical::client::{LoginRequest, below};
use crate::provider::infisical::response::ApiError;

/// A server must say by this header that it is a metadata server, and so must who asks it.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const PATH: [&str; 6] =
    ["computeMetadata", "v1", "instance", "service-accounts", "default", "identity"];
const HINT: &str = "to an identity token that it does not take, an older server answers so too: see to the \
                    identity's GCP settings";

/// An identity that is the service account of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcp {
    /// The identity's id.
    pub identity_id: String,
    /// Where the metadata server is.
    pub metadata_url: Url,
}

#[async_trait]
impl Method for Gcp {
    fn is_local(&self) -> bool {
        false
    }

    fn identity(&self) -> String {
        format!("gcp identity {}", self.identity_id)
    }

    fn remedy(&self) -> String {
        "give the identity's GCP auth in Infisical this machine's service account, project and zone: newer \
         servers refuse an identity without them"
            .into()
    }

    async fn proof(&self, metadata: &Client) -> Result<LoginRequest, ApiError> {
        let mut url = below(&self.metadata_url, &PATH)?;
        url.query_pairs_mut()
            .append_pair("audience", &self.identity_id)
            .append_pair("format", "full");
        let answer = ask(metadata.get(url).header(FLAVOR.0, FLAVOR.1)).await?;
        let token = answer.given(|code| match code {
            StatusCode::NOT_FOUND => "the machine has no service account; attach one",
            _ => "it gives no identity token",
        })?;
        if answer.header(FLAVOR.0) != Some(FLAVOR.1) {
            return Err(answer.refusal("it is not Google's metadata server"));
        }
        jwt::proof("gcp-auth", &self.identity_id, token, &answer.origin(), Some(HINT))
    }
}
