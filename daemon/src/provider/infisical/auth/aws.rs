//! aws-iam: a request to AWS STS for the caller's identity, signed by the instance's role. Infisical sends it
//! to AWS, which answers with the role.
//!
//! Sources: Infisical's `identity-aws-auth-service.ts`, which sends to `https://sts.REGION.amazonaws.com`
//! by the region in the signature, and needs `Authorization` in this spelling; AWS, "Create a
//! signed AWS API request".

use std::time::SystemTime;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use psi_common::SecretString;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::imds::{Imds, Role};
use super::{LoginCredential, Method, NoCredential, binding};
use crate::model::clock;
use crate::provider::infisical::client::LoginRequest;

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
const HINT: &str =
    "it also answers so to a signature that AWS refuses: check this host's clock and its role";

/// An identity that is the role of an EC2 instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsIam {
    /// The identity's id.
    pub identity_id: String,
    /// The region of the STS that Infisical calls; none: the instance's own.
    pub region: Option<String>,
    /// The address of the metadata service.
    pub metadata_url: Url,
}

impl AwsIam {
    /// Whether Infisical accepts this as a region.
    pub fn is_region(text: &str) -> bool {
        let part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=20).contains(&text.len()) && text.bytes().all(part)
    }
}

#[async_trait]
impl Method for AwsIam {
    fn is_local(&self) -> bool {
        false
    }

    fn identity(&self) -> String {
        format!("aws-iam identity {}", self.identity_id)
    }

    fn remedy(&self) -> String {
        "list this role's account id or principal ARN in the identity's AWS auth in Infisical; newer servers \
         refuse an identity that lists neither"
            .into()
    }

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let imds = Imds::open(&self.metadata_url).await?;
        let region = match &self.region {
            Some(region) => region.clone(),
            None => imds.region().await?,
        };
        let role = imds.role().await?;
        let headers = role.sign(&region, clock::now().wall.into()).ok_or_else(|| {
            NoCredential::new("the credentials of the instance's role cannot sign")
        })?;
        Ok(LoginCredential::Request(login_request(&self.identity_id, headers, role.token)))
    }

    async fn binding(&self, _request: &LoginRequest) -> Option<String> {
        let imds = Imds::open(&self.metadata_url).await.ok()?;
        let (role, profile_arn) = (imds.role_name().await.ok()?, imds.profile_arn().await.ok()?);
        binding::of_role(&role, &profile_arn)
    }
}

fn login_request(
    identity_id: &str,
    headers: Map<String, Value>,
    session_token: SecretString,
) -> LoginRequest {
    let authorization = headers["Authorization"].as_str().unwrap_or_default();
    let signature = authorization.rsplit('=').next().unwrap_or_default().to_owned();
    let headers = BASE64_STANDARD.encode(Value::Object(headers).to_string());
    let body = json!({
        "identityId": identity_id,
        "iamHttpRequestMethod": "POST",
        "iamRequestBody": BASE64_STANDARD.encode(BODY),
        "iamRequestHeaders": headers,
    });
    let derived = [signature, headers].map(SecretString::new).into();
    let request = LoginRequest::new("aws-auth", body, session_token);
    LoginRequest { derived, hint_at_500: Some(HINT), ..request }
}

impl Role {
    /// The headers of the signed request; `None` if the credentials are not valid in headers.
    fn sign(&self, region: &str, time: SystemTime) -> Option<Map<String, Value>> {
        let host = format!("sts.{region}.amazonaws.com");
        let text = |secret: &SecretString| secret.expose_secret().to_owned();
        let (id, key) = (text(&self.access_key_id), text(&self.secret_access_key));
        let token = text(&self.token);
        let identity = Credentials::new(id, key, Some(token), None, "imds").into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("sts")
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .ok()?;
        let url = format!("https://{host}/");
        let given = [("Host", host.as_str()), ("Content-Type", CONTENT_TYPE)];
        let body = SignableBody::Bytes(BODY.as_bytes());
        let request = SignableRequest::new("POST", &url, given.into_iter(), body).ok()?;
        let (signed, _) = sign(request, &params.into()).ok()?.into_parts();
        let mut headers = Map::new();
        for (name, value) in given.into_iter().chain(signed.headers()) {
            let name = if name == "authorization" { "Authorization" } else { name };
            headers.insert(name.to_owned(), value.into());
        }
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The expected signature is that of AWS's botocore 1.44.5 for the same request. The library's own tests
    /// cover AWS's test vectors.
    #[test]
    fn signature_matches_botocore() {
        let text = |text: &str| SecretString::new(text.to_owned());
        let role = Role {
            access_key_id: text("AKIDEXAMPLE"),
            secret_access_key: text("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            token: text("the-session-token"),
        };
        // 2026-11-23T12:00:00Z
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200);
        let headers = role.sign("eu-central-1", time).unwrap();
        let expected = json!({
            "Host": "sts.eu-central-1.amazonaws.com",
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "x-amz-date": "20261123T120000Z",
            "x-amz-security-token": "the-session-token",
            "Authorization": "AWS4-HMAC-SHA256 \
                Credential=AKIDEXAMPLE/20261123/eu-central-1/sts/aws4_request, \
                SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
                Signature=a47274f7a541b874d77b07e5c15053c166bf026c2c594dc869a7bb7f21abe3df",
        });
        assert_eq!(Value::Object(headers.clone()), expected);
        let request = login_request("i-1", headers, role.token);
        let sent = request.body["iamRequestHeaders"].as_str().unwrap();
        let sent: Value = serde_json::from_slice(&BASE64_STANDARD.decode(sent).unwrap()).unwrap();
        assert_eq!(sent, expected);
        assert_eq!(request.derived[0].len(), 64);
    }

    #[test]
    fn regions_are_validated_as_infisical_does() {
        assert!(AwsIam::is_region("us-gov-east-1") && AwsIam::is_region("eu-central-1"));
        for text in ["", "eu central", "EU", "a.evil.example", "a-name-of-21-letters-"] {
            assert!(!AwsIam::is_region(text), "{text}");
        }
    }

    #[test]
    fn credentials_with_line_breaks_do_not_sign() {
        let text = |text: &str| SecretString::new(text.to_owned());
        let role = Role {
            access_key_id: text("AKID"),
            secret_access_key: text("key"),
            token: text("two\nlines"),
        };
        assert!(role.sign("eu-central-1", SystemTime::UNIX_EPOCH).is_none());
    }
}
