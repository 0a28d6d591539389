//! gcp: an identity token of Google's metadata server, for the identity's id as its audience.
//!
//! Sources: Infisical's `identity-gcp-auth-fns.ts`; Google, "Verify VM identity".

use async_trait::async_trait;
use reqwest::{StatusCode, Url};

use super::jwt::{self, TokenLogin};
use super::{LoginCredential, Method, NoCredential, binding, metadata};
use crate::provider::infisical::client::{LoginRequest, below};

/// The header that a metadata server requires in requests and sets in responses.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const PATH: [&str; 6] =
    ["computeMetadata", "v1", "instance", "service-accounts", "default", "identity"];
const HINT: &str = "an older server also answers so to an identity token that it refuses: check the \
                    identity's GCP settings";

/// An identity that is the service account of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcp {
    /// The identity's id.
    pub identity_id: String,
    /// The address of the metadata server.
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
        "list this machine's service account or project in the identity's GCP auth in Infisical; newer servers \
         refuse an identity that lists neither, and a zone alone is not enough"
            .into()
    }

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let mut url = below(&self.metadata_url, &PATH)?;
        url.query_pairs_mut()
            .append_pair("audience", &self.identity_id)
            .append_pair("format", "full");
        let request = metadata::client()?.get(url).header(FLAVOR.0, FLAVOR.1);
        let response = metadata::send(request).await?;
        let token = response.success(|code| match code {
            StatusCode::NOT_FOUND => "the machine has no service account; attach one",
            _ => "no identity token",
        })?;
        if response.header(FLAVOR.0) != Some(FLAVOR.1) {
            return Err(response.refusal("it is not Google's metadata server"));
        }
        jwt::login_request(&TokenLogin {
            route: "gcp-auth",
            identity_id: &self.identity_id,
            token,
            origin: &response.origin(),
            hint_at_500: Some(HINT),
        })
        .map(LoginCredential::Request)
    }

    async fn binding(&self, request: &LoginRequest) -> Option<String> {
        binding::of_google(&request.credential)
    }
}
