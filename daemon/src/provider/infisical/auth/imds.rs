//! The metadata service of EC2, version 2 (IMDSv2): what it knows of the instance's role.
//!
//! Source: AWS, "Use the Instance Metadata Service to access instance metadata".

use reqwest::header::HeaderValue;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::AwsIam;
use super::metadata::{Answer, ask};
use crate::provider::infisical::client::{SecretText, below};
use crate::provider::infisical::response::ApiError;

/// The session is for one login.
const SESSION_SECONDS: &str = "60";

const NO_ROLE: &str = "the instance has no IAM role; attach one";

/// A session.
pub(super) struct Imds<'a> {
    metadata: &'a Client,
    base: &'a Url,
    token: HeaderValue,
}

/// The credentials of a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Role {
    pub(super) access_key_id: SecretText,
    pub(super) secret_access_key: SecretText,
    pub(super) token: SecretText,
}

/// Whether there are such credentials: other than "Success" it is the reason why not.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    code: String,
}

impl<'a> Imds<'a> {
    /// Opens a session.
    pub(super) async fn open(metadata: &'a Client, base: &'a Url) -> Result<Self, ApiError> {
        let request = metadata.put(below(base, &["latest", "api", "token"])?);
        let answer =
            ask(request.header("X-aws-ec2-metadata-token-ttl-seconds", SESSION_SECONDS)).await?;
        let none = "it opens no session (IMDSv2)";
        let token = answer.given(|code| match code {
            StatusCode::FORBIDDEN => "it is turned off for this instance",
            _ => none,
        })?;
        let mut token =
            HeaderValue::from_bytes(token.trim_ascii()).map_err(|_| answer.refusal(none))?;
        token.set_sensitive(true);
        Ok(Self { metadata, base, token })
    }

    /// The region that the instance is in.
    pub(super) async fn region(&self) -> Result<String, ApiError> {
        let answer = self.get(&["placement", "region"]).await?;
        let none = "it does not tell the region; set region in the config";
        let region = String::from_utf8_lossy(answer.given(|_| none)?).into_owned();
        if AwsIam::is_region(&region) { Ok(region) } else { Err(answer.refusal(none)) }
    }

    /// The credentials of the instance's role.
    pub(super) async fn role(&self) -> Result<Role, ApiError> {
        let roles = self.get(&["iam", "security-credentials", ""]).await?;
        let names = roles.given(|code| match code {
            StatusCode::NOT_FOUND => NO_ROLE,
            _ => "it does not tell the instance's role",
        })?;
        let name = std::str::from_utf8(names).ok().and_then(|names| names.lines().next());
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| roles.refusal(NO_ROLE))?;
        let answer = self.get(&["iam", "security-credentials", name]).await?;
        let none = "it gives no credentials of the instance's role";
        let role = answer.given(|_| none)?;
        let outcome: Outcome = serde_json::from_slice(role).map_err(|_| answer.refusal(none))?;
        match outcome.code.as_str() {
            "Success" => serde_json::from_slice(role).map_err(|_| answer.refusal(none)),
            code if code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphabetic()) => {
                Err(answer.refusal(&format!("{none}: {code}")))
            }
            _ => Err(answer.refusal(none)),
        }
    }

    async fn get(&self, path: &[&str]) -> Result<Answer, ApiError> {
        let url = below(self.base, &[&["latest", "meta-data"], path].concat())?;
        ask(self.metadata.get(url).header("X-aws-ec2-metadata-token", &self.token)).await
    }
}
