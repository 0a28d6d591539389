//! Infisical's HTTP API: the few calls that psid needs, and what an answer means.
//!
//! Sources: `backend/src/server/routes/v4/secret-router.ts` in both its dialects (the parameter names
//! and defaults changed in February 2026), `routes/v3/deprecated-secret-router.ts` and
//! `plugins/error-handler.ts` of Infisical. So every parameter is sent, in both spellings.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psi_common::SecretBytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// The server's own list cache ends at 25 MiB.
const LARGEST_BODY: usize = 32 << 20;
/// How long to leave the server alone when it says "too many requests" and not how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
const HIDDEN: &[u8] = b"<hidden-by-infisical>";

/// One Infisical instance.
pub struct Api {
    client: Client,
    base: Url,
    /// The server has no v4 routes.
    v3: AtomicBool,
}

/// Which folder a call is about.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    pub project_id: &'a str,
    pub environment: &'a str,
    pub path: &'a str,
}

/// What an answer means (the classes of Infisical's error table).
#[derive(Clone, Debug)]
pub enum ApiError {
    /// The server is out, or something else answered in its place.
    Outage(String),
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
    /// The server does not understand the request.
    ClientBug(String),
    /// The server has no such route.
    NoRoute,
}

/// A login's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    pub access_token: SecretText,
    /// In seconds; 0: the server has no limit configured.
    #[serde(default)]
    pub expires_in: u64,
}

/// A secret of a listing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    pub secret_key: String,
    pub secret_value: SecretText,
    #[serde(default)]
    pub secret_value_hidden: bool,
    pub secret_path: Option<String>,
}

/// A folder's secrets, and what it imports.
#[derive(Deserialize)]
pub struct Listing {
    pub secrets: Vec<Secret>,
    #[serde(default)]
    pub imports: Vec<Import>,
}

/// The secrets of an imported folder; of two imports with one key, the last one wins.
#[derive(Deserialize)]
pub struct Import {
    pub secrets: Vec<Secret>,
}

/// A JSON string that is a secret.
pub struct SecretText(pub SecretBytes);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretBytes::new(text.into_bytes())))
    }
}

impl Api {
    /// An API at `base`, which may end in a slash or in `/api`. `ca_cert` is a PEM file of more CAs.
    pub fn new(base: &str, ca_cert: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        // One TLS provider for the process; who came second finds it in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("psid/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .redirect(redirect::Policy::custom(within_origin))
            // Podman waits: one clean retry on a connection that the server closed is reqwest's own.
            .pool_idle_timeout(Duration::from_secs(60));
        if let Some(path) = ca_cert {
            let pem = std::fs::read(path)
                .map_err(|error| format!("reading {}: {error}", path.display()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| format!("{} holds no PEM certificate: {error}", path.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client =
            builder.build().map_err(|error| format!("the TLS client: {}", root_cause(&error)))?;
        let base = base.trim_end_matches('/').trim_end_matches("/api");
        let base = Url::parse(base).map_err(|error| format!("api_url '{base}': {error}"))?;
        Ok(Self { client, base, v3: AtomicBool::new(false) })
    }

    /// Logs a machine identity in.
    pub async fn universal_auth(
        &self,
        client_id: &str,
        client_secret: &SecretBytes,
    ) -> Result<Login, ApiError> {
        let secret = std::str::from_utf8(client_secret.expose_secret())
            .map_err(|_| ApiError::Denied("the client secret is not UTF-8".into()))?;
        let url = self.url(&["api", "v1", "auth", "universal-auth", "login"]);
        let body = json!({ "clientId": client_id, "clientSecret": secret });
        let request = self.client.request(Method::POST, url).json(&body);
        parse(answer(request).await?)
    }

    /// One secret, imports included.
    pub async fn secret(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        key: &str,
    ) -> Result<SecretBytes, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            secret: Secret,
        }
        let query = [("type", "shared")];
        let answer: Answer = parse(self.read(token, folder, Some(key), &query).await?)?;
        answer.secret.value()
    }

    /// Every secret of a folder, imports included.
    pub async fn secrets(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        recursive: bool,
    ) -> Result<Listing, ApiError> {
        let query = [("recursive", if recursive { "true" } else { "false" })];
        parse(self.read(token, folder, None, &query).await?)
    }

    /// Reads by v4, and by v3 from servers that have no v4.
    async fn read(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        key: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Vec<u8>, ApiError> {
        let v3_first = self.v3.load(Ordering::Relaxed);
        for v3 in [v3_first, !v3_first] {
            match self.read_by(v3, token, folder, key, query).await {
                Err(ApiError::NoRoute) => {}
                answer => {
                    self.v3.store(v3, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(ApiError::Outage(format!(
            "{} has neither /api/v4/secrets nor /api/v3/secrets/raw: is api_url right?",
            self.base
        )))
    }

    async fn read_by(
        &self,
        v3: bool,
        token: &SecretBytes,
        folder: Folder<'_>,
        key: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Vec<u8>, ApiError> {
        let route: &[&str] =
            if v3 { &["api", "v3", "secrets", "raw"] } else { &["api", "v4", "secrets"] };
        let mut url = self.url(route);
        if let (Some(key), Ok(mut segments)) = (key, url.path_segments_mut()) {
            segments.push(key);
        }
        url.query_pairs_mut()
            .append_pair(if v3 { "workspaceId" } else { "projectId" }, folder.project_id)
            .append_pair("environment", folder.environment)
            .append_pair("secretPath", folder.path)
            .append_pair("viewSecretValue", "true")
            .append_pair("expandSecretReferences", "true")
            .append_pair("includeImports", "true")
            .append_pair("include_imports", "true")
            .extend_pairs(query);
        let token = std::str::from_utf8(token.expose_secret()).unwrap_or_default();
        answer(self.client.request(Method::GET, url).bearer_auth(token)).await
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl Secret {
    /// The value, unless the server hides it.
    pub fn value(self) -> Result<SecretBytes, ApiError> {
        let value = self.secret_value.0;
        if self.secret_value_hidden || value.expose_secret() == HIDDEN {
            return Err(ApiError::Denied(format!(
                "Infisical hides the value of '{}': the identity may describe but not read it",
                one_line(&self.secret_key)
            )));
        }
        Ok(value)
    }
}

/// A redirect may not take the access token to another origin.
fn within_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let stays =
        attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    if stays && attempt.previous().len() <= 3 { attempt.follow() } else { attempt.stop() }
}

/// Sends a request and reads the whole body of a success.
async fn answer(request: reqwest::RequestBuilder) -> Result<Vec<u8>, ApiError> {
    let response = request.send().await.map_err(|error| outage(&error))?;
    let status = response.status();
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let body = body(response).await?;
    if status == StatusCode::OK && is_json {
        return Ok(body);
    }
    let error =
        if is_json { serde_json::from_slice(&body).unwrap_or_default() } else { Value::Null };
    Err(classify(status, &error, retry_after))
}

async fn body(mut response: Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::with_capacity(
        response
            .content_length()
            .map_or(0, |length| usize::try_from(length).unwrap_or(LARGEST_BODY).min(LARGEST_BODY)),
    );
    while let Some(chunk) = response.chunk().await.map_err(|error| outage(&error))? {
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
fn classify(status: StatusCode, body: &Value, retry_after: Option<Duration>) -> ApiError {
    let code = status.as_u16();
    let name = body["error"].as_str().unwrap_or_default();
    let message = match &body["message"] {
        Value::String(text) => one_line(text),
        // A list of what did not validate; the values in it are not for a log.
        Value::Array(issues) => issues
            .iter()
            .filter_map(|issue| issue["path"].as_array())
            .map(|path| path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("."))
            .collect::<Vec<_>>()
            .join(", "),
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
            wait: retry_after.or_else(|| seconds_in(&message)).unwrap_or(DEFAULT_WAIT),
        },
        ..300 => ApiError::Outage(format!(
            "something in Infisical's place answers {code} without JSON: a captive portal?"
        )),
        300..=399 => ApiError::Outage(format!(
            "something redirects to another origin ({code}): is api_url right?"
        )),
        500.. => ApiError::Outage(if its_word {
            told
        } else {
            format!("a gateway in Infisical's place answers {code}")
        }),
        _ if !its_word => ApiError::Outage(format!(
            "something in Infisical's place answers {code}: a proxy or firewall?"
        )),
        401 if message.contains("temporarily locked") => ApiError::Locked(told),
        401 => ApiError::Token(told),
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

fn parse<T: DeserializeOwned>(body: Vec<u8>) -> Result<T, ApiError> {
    let body = SecretBytes::new(body);
    serde_json::from_slice(body.expose_secret()).map_err(|error| {
        // Not the error's own words: they may quote a value.
        ApiError::Outage(format!(
            "a 200 answer is not what Infisical's API says (line {} column {})",
            error.line(),
            error.column()
        ))
    })
}

/// The transport failed. Of the chain of causes, only its end tells something.
fn outage(error: &reqwest::Error) -> ApiError {
    let peer = error
        .url()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let peer = peer.unwrap_or_default();
    ApiError::Outage(match root_cause(error) {
        _ if error.is_timeout() => format!("no answer from {peer} in time"),
        cause if error.is_connect() => format!("no connection to {peer}: {cause}"),
        cause => format!("the connection to {peer} broke: {cause}"),
    })
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    one_line(&cause.to_string())
}

fn one_line(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outage(why)
            | Self::Throttled { why, .. }
            | Self::Token(why)
            | Self::Denied(why)
            | Self::Locked(why)
            | Self::Gone(why)
            | Self::ClientBug(why) => f.write_str(why),
            Self::NoRoute => f.write_str("no such route"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, body: &Value) -> ApiError {
        classify(StatusCode::from_u16(status).unwrap(), body, None)
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
            assert!(matches!(told(status, "InternalServerError", "no"), E::Outage(_)));
            assert!(matches!(class(status, &Value::Null), E::Outage(_)));
        }
    }

    #[test]
    fn only_infisical_itself_can_say_no() {
        for status in [200, 301, 401, 403, 404] {
            assert!(matches!(class(status, &Value::Null), ApiError::Outage(_)), "{status}");
        }
        let other_status =
            json!({ "reqId": "req-1", "statusCode": 200, "error": "NotFound", "message": "" });
        assert!(matches!(class(404, &other_status), ApiError::Outage(_)));
        let bare = json!({ "statusCode": 404, "error": "Not Found", "message": "Route GET:/api/v4/secrets not found" });
        assert!(matches!(class(404, &bare), ApiError::NoRoute));
    }

    #[test]
    fn a_throttle_says_how_long() {
        let wait = |retry_after, message: &str| {
            let body = json!({ "reqId": "r", "statusCode": 429, "error": "RateLimitExceeded", "message": message });
            match classify(StatusCode::TOO_MANY_REQUESTS, &body, retry_after) {
                ApiError::Throttled { wait, .. } => wait.as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait(Some(Duration::from_secs(7)), "Please try again in 9 seconds"), 7);
        assert_eq!(wait(None, "Rate limit exceeded. Please try again in 9 seconds"), 9);
        assert_eq!(wait(None, "slow down"), DEFAULT_WAIT.as_secs());
    }

    #[test]
    fn what_did_not_validate_is_named_without_its_value() {
        let issue = json!({ "received": "canary", "path": ["recursive"], "message": "canary" });
        let body = json!({ "reqId": "r", "statusCode": 422, "error": "ValidationFailure", "message": [issue] });
        let words = class(422, &body).to_string();
        assert!(words.contains("recursive") && !words.contains("canary"), "{words}");
    }

    #[test]
    fn a_hidden_value_is_refused() {
        let secret = |value: &str, hidden| Secret {
            secret_key: "K".into(),
            secret_value: SecretText(SecretBytes::new(value.into())),
            secret_value_hidden: hidden,
            secret_path: None,
        };
        assert!(matches!(secret("v", true).value(), Err(ApiError::Denied(_))));
        assert!(matches!(secret("<hidden-by-infisical>", false).value(), Err(ApiError::Denied(_))));
        assert_eq!(secret("", false).value().unwrap().expose_secret(), b"");
    }

    #[test]
    fn the_url_of_a_strange_name_is_escaped() {
        let api = |base: &str| Api::new(base, None, Duration::from_secs(1)).unwrap();
        for base in ["https://h", "https://h/", "https://h/api", "https://h/api/"] {
            assert_eq!(
                api(base).url(&["api", "v4", "a/b ?c"]).as_str(),
                "https://h/api/v4/a%2Fb%20%3Fc"
            );
        }
        assert_eq!(
            api("https://h/infisical/api").url(&["api"]).as_str(),
            "https://h/infisical/api"
        );
    }
}
