//! What an answer of Infisical means: the table of `plugins/error-handler.ts` and
//! `lib/errors/index.ts`, and the rule that only Infisical itself can say no.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use psi_common::SecretBytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The server's own list cache ends at 25 MiB.
const LARGEST_BODY: usize = 32 << 20;
/// How long to leave the server alone when it says "too many requests" and not how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// The longest time that is believed: it may be a proxy that says so.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Likewise, of a server that says it is out: it may well be back before that.
const LONGEST_OUTAGE: Duration = Duration::from_secs(300);

/// What an answer means (the classes of Infisical's error table).
#[derive(Clone, Debug)]
pub enum ApiError {
    /// The host is out of reach: no connection, or a gateway says that there is nothing behind it.
    Outage(String),
    /// The host is out, and says for how long.
    Busy { why: String, wait: Duration },
    /// There was no answer to this request in time.
    TimedOut(String),
    /// Something else answered this request in the server's place.
    Odd(String),
    /// Too many requests.
    Throttled { why: String, wait: Duration },
    /// The access token is not taken.
    Token(String),
    /// The server says no.
    Denied(String),
    /// The identity is locked for some minutes, which somebody else may have caused.
    Locked(String),
    /// The server says that there is none.
    Gone(String),
    /// The login was refused, now or before, or fails: what happened, and what to do about it.
    Login {
        why: String,
        /// How long no login is tried.
        wait: Duration,
    },
    /// There is nothing to log in with. `wait` is for how long, if whoever has it said so.
    NoCredential { why: String, wait: Option<Duration> },
    /// The server failed, in its own words.
    Internal(String),
    /// The server does not understand the request.
    ClientBug(String),
    /// The server has no such route.
    NoRoute,
}

impl ApiError {
    /// There is nothing to log in with.
    pub(super) fn no_credential(why: String) -> Self {
        Self::NoCredential { why, wait: None }
    }
}

/// Sends a request and reads the whole body of a success. `sent` are the credentials in the request,
/// which no error may quote.
pub(super) async fn answer(
    request: RequestBuilder,
    sent: &[SecretBytes],
) -> Result<Vec<u8>, ApiError> {
    let response = request.send().await.map_err(|error| outage(&error))?;
    let (status, headers) = (response.status(), response.headers());
    let is_json =
        text(headers, CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let retry_after = text(headers, RETRY_AFTER)
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let body = body(response).await?;
    if status == StatusCode::OK && is_json {
        return Ok(body);
    }
    let error =
        if is_json { serde_json::from_slice(&body).unwrap_or_default() } else { Value::Null };
    Err(classify(status, &error, retry_after, sent))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

async fn body(mut response: Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::with_capacity(
        response
            .content_length()
            .map_or(0, |length| usize::try_from(length).unwrap_or(LARGEST_BODY).min(LARGEST_BODY)),
    );
    while let Some(chunk) = response.chunk().await.map_err(|error| cut_short(&error))? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(ApiError::ClientBug(format!(
                "the answer is larger than {} MiB",
                LARGEST_BODY >> 20
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an answer other than a JSON 200 means. Only what carries Infisical's own marks is its word;
/// a proxy, a firewall and a captive portal answer too, and theirs is an outage.
fn classify(
    status: StatusCode,
    body: &Value,
    retry_after: Option<Duration>,
    sent: &[SecretBytes],
) -> ApiError {
    let code = status.as_u16();
    let name = quotable(body["error"].as_str().unwrap_or_default(), sent);
    let message = match &body["message"] {
        Value::String(text) => quotable(text, sent),
        // A list of what did not validate; the values in it are not for a log.
        Value::Array(issues) => {
            let paths = issues.iter().filter_map(|issue| issue["path"].as_array());
            let names = paths
                .map(|path| path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("."));
            quotable(&names.collect::<Vec<_>>().join(", "), sent)
        }
        _ => String::new(),
    };
    let its_word =
        body["reqId"].is_string() && body["statusCode"].as_u64() == Some(u64::from(code));
    let told = format!("Infisical answers {code} {name}: {message}");
    match code {
        404 if !its_word && name == "Not Found" && message.starts_with("Route ") => {
            ApiError::NoRoute
        }
        429 => ApiError::Throttled {
            why: told,
            // Two seconds more, for clocks differ; and no answer silences us for long.
            wait: retry_after
                .or_else(|| seconds_in(&message))
                .map_or(DEFAULT_WAIT, |wait| wait.min(LONGEST_WAIT) + Duration::from_secs(2)),
        },
        // It may be back earlier than it thinks, or a proxy's clock be wrong.
        503 if retry_after.is_some() && !its_word => ApiError::Busy {
            why: "a gateway in Infisical's place answers 503".into(),
            wait: retry_after.unwrap_or_default().min(LONGEST_OUTAGE),
        },
        ..300 => ApiError::Odd(format!(
            "something in Infisical's place answers {code} without JSON: a captive portal?"
        )),
        304 => ApiError::Odd(
            "something in Infisical's place answers 304 to a request without If-None-Match".into(),
        ),
        300..=399 => ApiError::Odd(format!(
            "something redirects to another origin ({code}): is api_url right?"
        )),
        500.. if its_word => ApiError::Internal(told),
        502..=504 => ApiError::Outage(format!("a gateway in Infisical's place answers {code}")),
        500.. => ApiError::Odd(format!("a gateway in Infisical's place answers {code}")),
        _ if !its_word => ApiError::Odd(format!(
            "something in Infisical's place answers {code}: a proxy or firewall?"
        )),
        401 if message.contains("temporarily locked") => ApiError::Locked(told),
        401 => ApiError::Token(told),
        // Of a token that is none: this says nothing of a secret.
        404 if message.starts_with("Service token with ID") => ApiError::Token(told),
        // An identity outside of its organization, as older servers put it; and the lists of trusted
        // addresses, which are an identity's too.
        400 if message.contains("does not belong to this organization") => ApiError::Token(told),
        403 if message
            .starts_with("You are not allowed to access this resource from the current") =>
        {
            ApiError::Token(told)
        }
        403 if name == "TokenError" => ApiError::Token(told),
        403 => ApiError::Denied(told),
        404 => ApiError::Gone(told),
        _ => ApiError::ClientBug(told),
    }
}

/// "Please try again in N seconds"
fn seconds_in(message: &str) -> Option<Duration> {
    let before = message.split(" second").next()?;
    before.rsplit(' ').next()?.parse().ok().map(Duration::from_secs)
}

pub(super) fn parse<T: DeserializeOwned>(body: Vec<u8>) -> Result<T, ApiError> {
    let body = SecretBytes::new(body);
    serde_json::from_slice(body.expose_secret()).map_err(|error| {
        // Not the error's own words: they may quote a value.
        ApiError::Odd(format!(
            "a 200 answer is not what Infisical's API says (line {} column {})",
            error.line(),
            error.column()
        ))
    })
}

fn outage(error: &reqwest::Error) -> ApiError {
    if error.is_builder() {
        // Nothing was sent, and the next request may be well.
        return ApiError::ClientBug(format!("no request can be made of it: {}", root_cause(error)));
    }
    if error.is_timeout() && !error.is_connect() {
        return ApiError::TimedOut(transport(error));
    }
    ApiError::Outage(transport(error))
}

/// The body broke off. The host answered, so that this says something of this request alone.
fn cut_short(error: &reqwest::Error) -> ApiError {
    match outage(error) {
        ApiError::Outage(why) => ApiError::Odd(why),
        other => other,
    }
}

/// Why the transport failed. Of the chain of causes, only its end tells something.
pub(super) fn transport(error: &reqwest::Error) -> String {
    let peer = error
        .url()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)))
        .unwrap_or_else(|| "Infisical".into());
    match root_cause(error) {
        _ if error.is_timeout() => format!("no answer from {peer} in time"),
        cause if error.is_connect() => format!("no connection to {peer}: {cause}"),
        cause => format!("the connection to {peer} broke: {cause}"),
    }
}

pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    one_line(&cause.to_string())
}

/// A text of the server's for people: unless it quotes a credential that it was sent.
fn quotable(text: &str, sent: &[SecretBytes]) -> String {
    let quotes = |secret: &SecretBytes| {
        let secret = std::str::from_utf8(secret.expose_secret()).unwrap_or_default();
        !secret.is_empty() && text.contains(secret)
    };
    if sent.iter().any(quotes) {
        return "(it quotes our credential)".into();
    }
    one_line(text)
}

pub(super) fn one_line(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outage(why)
            | Self::Busy { why, .. }
            | Self::TimedOut(why)
            | Self::Odd(why)
            | Self::Throttled { why, .. }
            | Self::Token(why)
            | Self::Denied(why)
            | Self::Locked(why)
            | Self::Gone(why)
            | Self::Login { why, .. }
            | Self::NoCredential { why, .. }
            | Self::Internal(why)
            | Self::ClientBug(why) => f.write_str(why),
            Self::NoRoute => f.write_str("no such route"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sent() -> [SecretBytes; 2] {
        ["hunter2", "hunter3"].map(|secret| SecretBytes::new(secret.into()))
    }

    fn class(status: u16, body: &Value) -> ApiError {
        classify(StatusCode::from_u16(status).unwrap(), body, None, &sent())
    }

    fn told(status: u16, error: &str, message: &str) -> ApiError {
        class(
            status,
            &json!({ "reqId": "req-1", "statusCode": status, "error": error, "message": message }),
        )
    }

    /// The table of facts/infisical.md 5 and 5.1.
    #[test]
    fn an_answer_is_classified_by_status_and_error_name() {
        use ApiError as E;
        assert!(matches!(told(401, "UnauthorizedError", "Invalid credentials"), E::Token(_)));
        assert!(matches!(
            told(
                401,
                "UnauthorizedError",
                "This identity auth method is temporarily locked, please try again later"
            ),
            E::Locked(_)
        ));
        assert!(matches!(
            told(403, "TokenError", "Your token has expired. Please re-authenticate."),
            E::Token(_)
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
            assert!(matches!(told(status, error, message), E::Token(_)), "{message}");
        }
        for name in [
            "ForbiddenError",
            "PermissionDenied",
            "ProjectMembershipNotFound",
            "ForbiddenReadSecretError",
        ] {
            assert!(matches!(told(403, name, "no"), E::Denied(_)));
        }
        for name in ["NotFound", "SecretPathNotFound", "GetSecretByName"] {
            assert!(matches!(told(404, name, "no"), E::Gone(_)));
        }
        for status in [400, 422] {
            assert!(matches!(told(status, "BadRequest", "no"), E::ClientBug(_)));
        }
        for status in [500, 502, 503, 504] {
            assert!(matches!(told(status, "InternalServerError", "no"), E::Internal(_)));
        }
        for status in [502, 503, 504] {
            assert!(matches!(class(status, &Value::Null), E::Outage(_)));
        }
        assert!(matches!(class(500, &Value::Null), E::Odd(_)));
    }

    #[test]
    fn only_infisical_itself_can_say_no() {
        for status in [200, 301, 401, 403, 404] {
            assert!(matches!(class(status, &Value::Null), ApiError::Odd(_)), "{status}");
        }
        let other_status =
            json!({ "reqId": "req-1", "statusCode": 200, "error": "NotFound", "message": "" });
        assert!(matches!(class(404, &other_status), ApiError::Odd(_)));
        let bare = json!({ "statusCode": 404, "error": "Not Found", "message": "Route GET:/api/v4/secrets not found" });
        assert!(matches!(class(404, &bare), ApiError::NoRoute));
    }

    #[test]
    fn a_throttle_says_how_long() {
        let wait = |retry_after, message: &str| {
            let body = json!({ "reqId": "r", "statusCode": 429, "error": "RateLimitExceeded", "message": message });
            match classify(StatusCode::TOO_MANY_REQUESTS, &body, retry_after, &sent()) {
                ApiError::Throttled { wait, .. } => wait.as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait(Some(Duration::from_secs(7)), "Please try again in 9 seconds"), 9);
        assert_eq!(wait(None, "Rate limit exceeded. Please try again in 9 seconds"), 11);
        assert_eq!(wait(None, "Please try again in 18446744073709551615 seconds"), 3_602);
        assert_eq!(wait(None, "slow down"), DEFAULT_WAIT.as_secs());
    }

    #[test]
    fn an_outage_that_says_how_long_it_takes_is_believed_for_five_minutes() {
        let wait = |seconds| {
            let wait = Duration::from_secs(seconds);
            match classify(StatusCode::SERVICE_UNAVAILABLE, &Value::Null, Some(wait), &sent()) {
                ApiError::Busy { wait, .. } => wait.as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((wait(20), wait(3_600)), (20, 300));
    }

    /// psid makes no conditional request: nothing of it may be taken for "nothing has changed".
    #[test]
    fn a_304_is_no_answer() {
        assert!(matches!(class(304, &Value::Null), ApiError::Odd(_)));
    }

    #[test]
    fn no_answer_quotes_our_credential() {
        for secret in ["hunter2", "hunter3"] {
            let message = format!("{} you sent {secret}", "x".repeat(295));
            let told = told(400, &format!("a {secret} error"), &message);
            assert!(!told.to_string().contains("hunt"), "{told}");
        }
    }

    #[test]
    fn what_did_not_validate_is_named_without_its_value() {
        let issue = json!({ "received": "canary", "path": ["recursive"], "message": "canary" });
        let body = json!({ "reqId": "r", "statusCode": 422, "error": "ValidationFailure", "message": [issue] });
        let words = class(422, &body).to_string();
        assert!(words.contains("recursive") && !words.contains("canary"), "{words}");
        // A name is the sender's, too.
        for name in ["a\u{1b}[2Jb\nc", "the hunter2", &"x".repeat(10_000)] {
            let words = told_of(name).to_string();
            assert!(!words.contains(char::is_control) && !words.contains("hunter2"), "{words}");
            assert!(words.len() < 500);
        }
    }

    fn told_of(name: &str) -> ApiError {
        let body = json!({ "reqId": "r", "statusCode": 422, "error": "ValidationFailure", "message": [{ "path": [name] }] });
        class(422, &body)
    }
}
