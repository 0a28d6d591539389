//! The error envelope, and all of the server's errors.

use std::borrow::Cow;

use rand::Rng;
use rand::distr::Alphanumeric;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::request::Request;
use crate::http::response::Response;
use crate::state::permission::{Action, Permission};

#[derive(Clone, Debug)]
pub struct ApiError {
    status: u16,
    error: Cow<'static, str>,
    /// A string, or for a 422 an array of issues
    message: Value,
    details: Option<Value>,
    retry_after: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    req_id: String,
    status_code: u16,
    message: &'a Value,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: &'a Option<Value>,
}

impl ApiError {
    pub fn new(
        status: u16,
        error: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            error: error.into(),
            message: Value::String(message.into()),
            details: None,
            retry_after: None,
        }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "UnauthorizedError", message)
    }

    pub fn token(status: u16, message: &str) -> Self {
        Self::new(status, "TokenError", message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "ForbiddenError", message)
    }

    pub fn untrusted_address() -> Self {
        Self::forbidden("You are not allowed to access this resource from the current IP address")
    }

    pub fn not_a_member(project: &str) -> Self {
        let message = format!(
            "You are not a member of this project with ID {project}. Please assign this identity \
             to the project with the appropriate permissions, then try again."
        );
        Self::new(403, "ProjectMembershipNotFound", message)
    }

    pub fn permission_denied(action: Action, permission: &Permission) -> Self {
        let message = format!("You are not allowed to {} on {}", action.name(), action.subject());
        Self::new(403, "PermissionDenied", message).with_details(permission.rules_for(action))
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    pub fn project_not_found(project: &str) -> Self {
        Self::not_found(format!(
            "Project with ID '{project}' not found during bot lookup. \
             Are you sure you are using the correct project ID?"
        ))
    }

    /// `error` names the operation that looked for the folder.
    pub fn folder_not_found(error: &'static str, environment: &str, path: &str) -> Self {
        let message =
            format!("Folder with path '{path}' in environment with slug '{environment}' not found");
        Self::new(404, error, message)
    }

    pub fn invalid(issues: Vec<Value>) -> Self {
        Self { message: Value::Array(issues), ..Self::new(422, "ValidationFailure", "") }
    }

    pub fn rate_limited(seconds: u64) -> Self {
        let message = format!("Rate limit exceeded. Please try again in {seconds} seconds");
        Self { retry_after: Some(seconds), ..Self::new(429, "RateLimitExceeded", message) }
    }

    /// Three attempts to get the lock of an identity's failures have failed.
    pub fn lock_contended() -> Self {
        Self::new(429, "RateLimitExceeded", "Failed to acquire lock: rate limit exceeded")
    }

    pub fn database() -> Self {
        Self::new(500, "DatabaseError", "Something went wrong")
    }

    /// Also for a body that is no JSON, empty, or too large: the server's handler does not
    /// distinguish.
    pub fn internal() -> Self {
        Self::new(500, "InternalServerError", "Something went wrong")
    }

    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub fn respond(&self, req_id: String) -> Response {
        let envelope = Envelope {
            req_id,
            status_code: self.status,
            message: &self.message,
            error: &self.error,
            details: &self.details,
        };
        let response = Response::json(self.status, &envelope);
        match self.retry_after {
            Some(seconds) => response.with_header("retry-after", seconds.to_string()),
            None => response,
        }
    }

    #[cfg(test)]
    pub fn parts(&self) -> (u16, &str, &Value) {
        (self.status, &self.error, &self.message)
    }
}

/// Fastify's answer to a path that cannot be decoded; no hook of the server's runs.
pub fn bad_url(request: &Request) -> Response {
    let message = format!("'{}' is not a valid url component", request.target);
    let body = json!({
        "error": "Bad Request",
        "code": "FST_ERR_BAD_URL",
        "message": message,
        "statusCode": 400,
    });
    Response::json(400, &body)
}

/// Fastify's own answer, without `reqId`: it is no statement about a secret.
pub fn route_not_found(request: &Request) -> Response {
    let message = format!("Route {}:{} not found", request.method, request.target);
    let body = json!({"message": message, "error": "Not Found", "statusCode": 404});
    Response::json(404, &body)
}

pub fn request_id() -> String {
    let tail: String = rand::rng().sample_iter(&Alphanumeric).take(14).map(char::from).collect();
    format!("req-{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_envelope_matches_infisical() {
        let response = ApiError::unauthorized("Token missing").respond("req-1".to_owned());
        assert_eq!(response.status, 401);
        assert_eq!(
            String::from_utf8(response.body).unwrap(),
            r#"{"reqId":"req-1","statusCode":401,"message":"Token missing","error":"UnauthorizedError"}"#
        );
    }

    #[test]
    fn request_ids_are_unique() {
        let (one, two) = (request_id(), request_id());
        assert_ne!(one, two);
        assert_eq!(one.len(), 18);
    }
}
