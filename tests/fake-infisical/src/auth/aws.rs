//! AWS auth: a signed request that the server forwards, as `identity-aws-auth-service.ts` does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::sts;
use crate::api::error::ApiError;
use crate::fake::FakeInfisical;
use crate::state::method::is_like;

/// The request for AWS.
pub struct SignedRequest {
    pub method: String,
    /// In base64
    pub headers: String,
    /// In base64
    pub body: String,
}

pub fn verify(
    fake: &FakeInfisical,
    identity: &str,
    request: &SignedRequest,
) -> Result<(), ApiError> {
    let identity = fake.state.identity(identity);
    let settings =
        identity.and_then(|identity| identity.methods.aws.as_ref()).ok_or_else(|| {
            ApiError::not_found(
                "AWS auth method not found for identity, did you configure AWS auth?",
            )
        })?;
    let headers: Map<String, Value> =
        serde_json::from_str(&decode(&request.headers)?).map_err(|_| ApiError::internal())?;
    let authorization = headers.get("Authorization").or(headers.get("authorization"));
    let region = region(authorization.and_then(Value::as_str).unwrap_or_default())
        .ok_or_else(|| ApiError::bad_request("Invalid AWS region"))?;
    let (body, aws) = (decode(&request.body)?, &fake.state.cloud.aws);
    // AWS's clock is the real one, however far a test has advanced Infisical's. An error of AWS is
    // an exception of the server's HTTP client, hence a 500.
    let caller = sts::caller(aws, region, &request.method, &headers, &body, fake.clock.real())
        .map_err(|_| ApiError::internal())?;
    let is_bound =
        !settings.allowed_account_ids.is_empty() || !settings.allowed_principal_arns.is_empty();
    if fake.settings.require_trust_binding && !is_bound {
        let message = "Access denied: AWS auth method has no allowlist configured.";
        return Err(ApiError::unauthorized(message));
    }
    if !settings.allowed_account_ids.allows(&caller.account) {
        return Err(ApiError::unauthorized("Access denied: AWS account ID not allowed."));
    }
    let arn = |service: &str, kind: &str| {
        format!("arn:aws:{service}::{}:{kind}/{}", caller.account, caller.role)
    };
    let (assumed, role) = (arn("sts", "assumed-role"), arn("iam", "role"));
    let allowed = |item: &str| is_like(&assumed, item) || is_like(&role, item);
    if !settings.allowed_principal_arns.allows_by(allowed) {
        return Err(ApiError::unauthorized(format!(
            "Access denied: AWS principal ARN not allowed. [principal-arn={assumed}]"
        )));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, ApiError> {
    let bytes = STANDARD.decode(text).map_err(|_| ApiError::internal())?;
    String::from_utf8(bytes).map_err(|_| ApiError::internal())
}

/// The third part of the credential, if it looks like a region.
fn region(authorization: &str) -> Option<&str> {
    let credential = authorization.split(' ').find(|field| field.starts_with("Credential="))?;
    let region = credential.split('/').nth(2)?;
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    Some(region).filter(|r| (1..=20).contains(&r.len()) && r.bytes().all(is_part))
}
