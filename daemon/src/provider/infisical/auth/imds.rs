//! The metadata service of EC2, version 2 (IMDSv2): the credentials of the instance's role.
//!
//! Source: AWS, "Use the Instance Metadata Service to access instance metadata".

use psi_common::SecretString;
use reqwest::header::HeaderValue;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::metadata::{self, MetadataResponse};
use super::{AwsIam, NoCredential};
use crate::provider::infisical::client::{below, secret_string};

/// The length of a session: it serves one login.
const SESSION_SECONDS: &str = "60";

const NO_ROLE: &str = "the instance has no IAM role; attach one";

/// A session.
pub(super) struct Imds<'a> {
    base: &'a Url,
    token: HeaderValue,
}

/// The credentials of a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Role {
    #[serde(deserialize_with = "secret_string")]
    pub(super) access_key_id: SecretString,
    #[serde(deserialize_with = "secret_string")]
    pub(super) secret_access_key: SecretString,
    #[serde(deserialize_with = "secret_string")]
    pub(super) token: SecretString,
}

/// Whether the response has credentials: a code other than "Success" is the reason why not.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleStatus {
    code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceProfile {
    instance_profile_arn: String,
}

impl<'a> Imds<'a> {
    /// Opens a session.
    pub(super) async fn open(base: &'a Url) -> Result<Self, NoCredential> {
        let request = metadata::client()?.put(below(base, &["latest", "api", "token"])?);
        let request = request.header("X-aws-ec2-metadata-token-ttl-seconds", SESSION_SECONDS);
        let response = metadata::send(request).await?;
        let none = "no session (IMDSv2)";
        let token = response.success(|code| match code {
            StatusCode::FORBIDDEN => "the service is turned off for this instance",
            _ => none,
        })?;
        let mut token =
            HeaderValue::from_bytes(token.trim_ascii()).map_err(|_| response.refusal(none))?;
        token.set_sensitive(true);
        Ok(Self { base, token })
    }

    /// The region that the instance is in.
    pub(super) async fn region(&self) -> Result<String, NoCredential> {
        let response = self.get(&["placement", "region"]).await?;
        let none = "no region; set region in the config";
        let region = String::from_utf8_lossy(response.success(|_| none)?).into_owned();
        if AwsIam::is_region(&region) { Ok(region) } else { Err(response.refusal(none)) }
    }

    /// The name of the instance's role.
    pub(super) async fn role_name(&self) -> Result<String, NoCredential> {
        let roles = self.get(&["iam", "security-credentials", ""]).await?;
        let names = roles.success(|code| match code {
            StatusCode::NOT_FOUND => NO_ROLE,
            _ => "no role of the instance",
        })?;
        let name = std::str::from_utf8(names).ok().and_then(|names| names.lines().next());
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| roles.refusal(NO_ROLE))?;
        Ok(name.to_owned())
    }

    /// The ARN of the instance's profile, which names its account.
    pub(super) async fn profile_arn(&self) -> Result<String, NoCredential> {
        let response = self.get(&["iam", "info"]).await?;
        let none = "no instance profile";
        let profile: InstanceProfile = serde_json::from_slice(response.success(|_| none)?)
            .map_err(|_| response.refusal(none))?;
        Ok(profile.instance_profile_arn)
    }

    /// The credentials of the instance's role.
    pub(super) async fn role(&self) -> Result<Role, NoCredential> {
        let name = self.role_name().await?;
        let response = self.get(&["iam", "security-credentials", &name]).await?;
        let none = "no credentials of the instance's role";
        let role = response.success(|_| none)?;
        let status: RoleStatus =
            serde_json::from_slice(role).map_err(|_| response.refusal(none))?;
        match status.code.as_str() {
            "Success" => serde_json::from_slice(role).map_err(|_| response.refusal(none)),
            code if code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphabetic()) => {
                Err(response.refusal(&format!("{none}: {code}")))
            }
            _ => Err(response.refusal(none)),
        }
    }

    async fn get(&self, path: &[&str]) -> Result<MetadataResponse, NoCredential> {
        let url = below(self.base, &[&["latest", "meta-data"], path].concat())?;
        let request = metadata::client()?.get(url);
        metadata::send(request.header("X-aws-ec2-metadata-token", &self.token)).await
    }
}
