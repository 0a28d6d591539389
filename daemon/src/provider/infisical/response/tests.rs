use serde_json::json;

use super::*;
use ProviderError as E;

const SENT: [&str; 2] = ["hunter2", "hunter3"];

fn class(status: u16, body: &Value) -> ApiError {
    classify(StatusCode::from_u16(status).unwrap(), body, None, &SENT)
}

/// The error of an answer of Infisical's own.
fn genuine(status: u16, error: &str, message: &str) -> ApiError {
    class(
        status,
        &json!({ "reqId": "req-1", "statusCode": status, "error": error, "message": message }),
    )
}

#[test]
fn answers_are_classified_by_status_and_error_name() {
    assert!(matches!(
        genuine(401, "UnauthorizedError", "Invalid credentials"),
        ApiError::Provider(E::Unauthenticated { wait: None, .. })
    ));
    assert!(matches!(
        genuine(
            401,
            "UnauthorizedError",
            "This identity auth method is temporarily locked, please try again later"
        ),
        ApiError::Provider(E::Unauthenticated { wait: Some(_), .. })
    ));
    assert!(matches!(
        genuine(403, "TokenError", "Your token has expired. Please re-authenticate."),
        ApiError::Provider(E::Unauthenticated { wait: None, .. })
    ));
    for (status, error, message) in [
        (401, "UnauthorizedError", "Identity is not a member of the organization"),
        (401, "UnauthorizedError", "Identity organization membership is inactive"),
        (
            401,
            "UnauthorizedError",
            "Identity access token exceeded max age, please re-authenticate",
        ),
        (400, "BadRequest", "Identity does not belong to this organization"),
        (404, "NotFound", "Service token with ID 'a' not found"),
        (
            403,
            "ForbiddenError",
            "You are not allowed to access this resource from the current IP address",
        ),
    ] {
        assert!(
            matches!(
                genuine(status, error, message),
                ApiError::Provider(E::Unauthenticated { wait: None, .. })
            ),
            "{message}"
        );
    }
    for name in [
        "ForbiddenError",
        "PermissionDenied",
        "ProjectMembershipNotFound",
        "ForbiddenReadSecretError",
    ] {
        assert!(matches!(genuine(403, name, "no"), ApiError::Provider(E::Denied(_))));
    }
    for name in ["NotFound", "SecretPathNotFound", "GetSecretByName"] {
        assert!(matches!(genuine(404, name, "no"), ApiError::Provider(E::NotFound(_))));
    }
    for status in [400, 422] {
        assert!(matches!(
            genuine(status, "BadRequest", "no"),
            ApiError::Provider(E::Misbehaved(_))
        ));
    }
    for status in [500, 502, 503, 504] {
        assert!(matches!(genuine(status, "InternalServerError", "no"), ApiError::Internal(_)));
    }
    for status in [502, 503, 504] {
        assert!(matches!(class(status, &Value::Null), ApiError::Provider(E::Unreachable(_))));
    }
    assert!(matches!(class(500, &Value::Null), ApiError::Provider(E::Failed(_))));
}

#[test]
fn answers_without_infisical_s_marks_are_failures() {
    for status in [200, 301, 401, 403, 404] {
        assert!(
            matches!(class(status, &Value::Null), ApiError::Provider(E::Failed(_))),
            "{status}"
        );
    }
    let other_status =
        json!({ "reqId": "req-1", "statusCode": 200, "error": "NotFound", "message": "" });
    assert!(matches!(class(404, &other_status), ApiError::Provider(E::Failed(_))));
    let bare = json!({ "statusCode": 404, "error": "Not Found", "message": "Route GET:/api/v4/secrets not found" });
    assert!(matches!(class(404, &bare), ApiError::NoRoute));
}

#[test]
fn rate_limit_has_a_bounded_wait() {
    let wait = |retry_after, message: &str| {
        let body = json!({ "reqId": "r", "statusCode": 429, "error": "RateLimitExceeded", "message": message });
        match classify(StatusCode::TOO_MANY_REQUESTS, &body, retry_after, &SENT) {
            ApiError::Provider(E::Throttled { wait, .. }) => wait.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait(Some(Duration::from_secs(7)), "Please try again in 9 seconds"), 9);
    assert_eq!(wait(None, "Rate limit exceeded. Please try again in 9 seconds"), 11);
    assert_eq!(wait(None, "Please try again in 18446744073709551615 seconds"), 3_602);
    assert_eq!(wait(None, "slow down"), DEFAULT_WAIT.as_secs());
}

#[test]
fn retry_after_of_an_outage_is_bounded() {
    let wait = |seconds| {
        let wait = Duration::from_secs(seconds);
        match classify(StatusCode::SERVICE_UNAVAILABLE, &Value::Null, Some(wait), &SENT) {
            ApiError::Provider(E::Unavailable { wait, .. }) => wait.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((wait(20), wait(3_600)), (20, 300));
}

/// psid makes no conditional request: a 304 must not mean "unchanged".
#[test]
fn unrequested_304_is_a_failure() {
    assert!(matches!(class(304, &Value::Null), ApiError::Provider(E::Failed(_))));
}

#[test]
fn errors_do_not_quote_the_credential() {
    for secret in ["hunter2", "hunter3"] {
        let message = format!("{} you sent {secret}", "x".repeat(295));
        let error = genuine(400, &format!("a {secret} error"), &message);
        assert!(!error.to_string().contains("hunt"), "{error}");
    }
}

#[test]
fn validation_errors_name_the_field_without_its_value() {
    let issue = json!({ "received": "canary", "path": ["recursive"], "message": "canary" });
    let body = json!({ "reqId": "r", "statusCode": 422, "error": "ValidationFailure", "message": [issue] });
    let message = class(422, &body).to_string();
    assert!(message.contains("recursive") && !message.contains("canary"), "{message}");
    // A field's name comes from the sender, too.
    for name in ["a\u{1b}[2Jb\nc", "the hunter2", &"x".repeat(10_000)] {
        let message = invalid_field(name).to_string();
        assert!(!message.contains(char::is_control) && !message.contains("hunter2"), "{message}");
        assert!(message.len() < 500);
    }
}

fn invalid_field(name: &str) -> ApiError {
    let body = json!({ "reqId": "r", "statusCode": 422, "error": "ValidationFailure", "message": [{ "path": [name] }] });
    class(422, &body)
}
