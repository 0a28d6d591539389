//! Responses of Infisical: which error each stands for, after `plugins/error-handler.ts` and
//! `lib/errors/index.ts`.

mod handshake;

use std::error::Error;
use std::time::Duration;

use psi_common::SecretBytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::provider::ProviderError;
use handshake::certificate_error;

/// The longest body; the server's own cache of listings ends at 25 MiB.
const MAX_BODY: usize = 32 << 20;
/// The wait after "too many requests" without a time.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// The longest wait that is accepted: a proxy may have named it.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(3_600);
/// The longest wait that is accepted from an unavailable server: it may be back earlier.
const MAX_OUTAGE: Duration = Duration::from_secs(300);
/// The wait after a login that was not possible. Another try costs no login.
pub(super) const NO_LOGIN_WAIT: Duration = Duration::from_secs(60);

/// A request failed: the provider's errors, and two that this module handles itself.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The server does not have the route: another version of the API may.
    #[error("Infisical has no such route")]
    NoRoute,
    /// The server reports an internal error; for a login, that may be a refusal.
    #[error("{0}")]
    Internal(String),
    /// Any other error.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl From<ApiError> for ProviderError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Provider(error) => error,
            error @ (ApiError::NoRoute | ApiError::Internal(_)) => Self::Failed(error.to_string()),
        }
    }
}

/// Sends a request and reads the whole body of a success. `sent` are the credentials in the request, which
/// no error may quote.
pub(super) async fn send(request: RequestBuilder, sent: &[&str]) -> Result<Vec<u8>, ApiError> {
    receive(request.send().await.map_err(|error| transport_error(&error))?, sent).await
}

/// Reads the whole body of a success.
pub(super) async fn receive(response: Response, sent: &[&str]) -> Result<Vec<u8>, ApiError> {
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

async fn body(mut response: Response) -> Result<Vec<u8>, ProviderError> {
    let mut body = Vec::with_capacity(
        response
            .content_length()
            .map_or(0, |length| usize::try_from(length).unwrap_or(MAX_BODY).min(MAX_BODY)),
    );
    while let Some(chunk) = response.chunk().await.map_err(|error| truncated(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            let why = format!("the answer is larger than {} MiB", MAX_BODY >> 20);
            return Err(ProviderError::Misbehaved(why));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error that an answer other than a JSON 200 stands for. Only an answer with Infisical's own marks is
/// evidence about a secret or a login: proxies, firewalls and captive portals answer too.
fn classify(
    status: StatusCode,
    body: &Value,
    retry_after: Option<Duration>,
    sent: &[&str],
) -> ApiError {
    use ProviderError as E;
    let code = status.as_u16();
    let name = quotable(body["error"].as_str().unwrap_or_default(), sent);
    let message = message(&body["message"], sent);
    let is_genuine =
        body["reqId"].is_string() && body["statusCode"].as_u64() == Some(u64::from(code));
    let why = format!("Infisical answers {code} {name}: {message}");
    let error = match code {
        404 if !is_genuine && name == "Not Found" && message.starts_with("Route ") => {
            return ApiError::NoRoute;
        }
        429 => E::Throttled {
            why,
            // Two seconds more, because clocks differ. Bounded, because the answer may be wrong.
            wait: retry_after
                .or_else(|| seconds_in(&message))
                .map_or(DEFAULT_WAIT, |wait| wait.min(MAX_WAIT) + Duration::from_secs(2)),
        },
        // It may be back earlier, or a proxy's clock may be wrong.
        503 if retry_after.is_some() && !is_genuine => E::Unavailable {
            why: "a gateway in Infisical's place answers 503".into(),
            wait: retry_after.unwrap_or_default().min(MAX_OUTAGE),
        },
        500.. if is_genuine => return ApiError::Internal(why),
        502..=504 => E::Unreachable(format!("a gateway in Infisical's place answers {code}")),
        _ if is_genuine && code >= 400 => classify_refusal(code, &name, &message, why),
        _ => E::Failed(foreign_answer(code)),
    };
    error.into()
}

/// The error of a 4xx of Infisical's own.
fn classify_refusal(code: u16, name: &str, message: &str, why: String) -> ProviderError {
    use ProviderError as E;
    match code {
        401 if message.contains("temporarily locked") => {
            E::Unauthenticated { why, wait: Some(NO_LOGIN_WAIT) }
        }
        _ if is_token_refusal(code, name, message) => E::Unauthenticated { why, wait: None },
        403 => E::Denied(why),
        404 => E::NotFound(why),
        _ => E::Misbehaved(why),
    }
}

/// Whether an answer refuses the access token, which is no evidence about a secret.
fn is_token_refusal(code: u16, name: &str, message: &str) -> bool {
    match code {
        401 => true,
        404 => message.starts_with("Service token with ID"),
        // An identity outside of its organization, as older servers report it.
        400 => message.contains("does not belong to this organization"),
        // A list of trusted addresses is a setting of the identity too.
        403 => {
            name == "TokenError"
                || message
                    .starts_with("You are not allowed to access this resource from the current")
        }
        _ => false,
    }
}

/// The message for an answer of something other than Infisical.
fn foreign_answer(code: u16) -> String {
    match code {
        ..300 => {
            format!("something in Infisical's place answers {code} without JSON: a captive portal?")
        }
        304 => {
            "something in Infisical's place answers 304 to a request without If-None-Match".into()
        }
        300..=399 => format!("something redirects to another origin ({code}); check api_url"),
        500.. => format!("a gateway in Infisical's place answers {code}"),
        _ => format!("something in Infisical's place answers {code}: a proxy or firewall?"),
    }
}

/// The message of an answer; of a list of validation errors, the names of the fields without their values.
fn message(message: &Value, sent: &[&str]) -> String {
    match message {
        Value::String(text) => quotable(text, sent),
        Value::Array(issues) => {
            let paths = issues.iter().filter_map(|issue| issue["path"].as_array());
            let names = paths
                .map(|path| path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("."));
            quotable(&names.collect::<Vec<_>>().join(", "), sent)
        }
        _ => String::new(),
    }
}

/// "Please try again in N seconds"
fn seconds_in(message: &str) -> Option<Duration> {
    let before = message.split(" second").next()?;
    before.rsplit(' ').next()?.parse().ok().map(Duration::from_secs)
}

pub(super) fn parse<T: DeserializeOwned>(body: Vec<u8>) -> Result<T, ProviderError> {
    let body = SecretBytes::new(body);
    serde_json::from_slice(body.expose_secret()).map_err(|error| {
        // Without the error's own message, which may quote a value.
        ProviderError::Failed(format!(
            "a 200 answer does not match Infisical's API (line {} column {})",
            error.line(),
            error.column()
        ))
    })
}

pub(super) fn transport_error(error: &reqwest::Error) -> ProviderError {
    if error.is_builder() {
        // Nothing was sent, and the next request may succeed.
        let why = format!("the request cannot be built: {}", root_cause(error));
        return ProviderError::Misbehaved(why);
    }
    if let Some(why) = certificate_error(error, &peer_of(error)) {
        return why;
    }
    if error.is_timeout() && !error.is_connect() {
        return ProviderError::TimedOut(transport(error));
    }
    ProviderError::Unreachable(transport(error))
}

/// The error of a truncated body. The host answered, so that it concerns this request only.
fn truncated(error: &reqwest::Error) -> ProviderError {
    match transport_error(error) {
        ProviderError::Unreachable(why) => ProviderError::Failed(why),
        other => other,
    }
}

/// Why the transport failed: the last cause of the chain.
pub(super) fn transport(error: &reqwest::Error) -> String {
    let peer = peer_of(error);
    match root_cause(error) {
        _ if error.is_timeout() => format!("no answer from {peer} in time"),
        cause if error.is_connect() => format!("no connection to {peer}: {cause}"),
        cause => format!("the connection to {peer} broke: {cause}"),
    }
}

fn peer_of(error: &reqwest::Error) -> String {
    let peer =
        |url: &reqwest::Url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?));
    error.url().and_then(peer).unwrap_or_else(|| "Infisical".into())
}

pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    one_line(&cause.to_string())
}

/// A text of the server as one line, unless it quotes a credential that was sent.
fn quotable(text: &str, sent: &[&str]) -> String {
    let quotes = |secret: &&&str| !secret.is_empty() && text.contains(**secret);
    if sent.iter().any(|secret| quotes(&secret)) {
        return "(it quotes the credential)".into();
    }
    one_line(text)
}

pub(super) fn one_line(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
