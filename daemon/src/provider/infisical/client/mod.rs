//! Infisical's HTTP API: the few calls that psid needs.
//!
//! Sources: `backend/src/server/routes/v4/secret-router.ts` of Infisical in both its dialects (parameter
//! names and defaults changed in February 2026, so each parameter is sent in both spellings) and
//! `routes/v3/deprecated-secret-router.ts`.

mod read;
mod url;
mod versions;
mod write;

use std::path::Path;
use std::time::Duration;

use psi_common::SecretBytes;
use reqwest::{Client, Url, redirect};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::auth::metadata_client;
use super::response::{ApiError, answer, parse, root_cause};
use versions::{Version, Versions};

pub(super) use read::{Listing, Secret, View};
pub(super) use url::below;

/// One Infisical instance.
pub struct Api {
    client: Client,
    /// For what is next to this host, and not for Infisical.
    metadata: Client,
    base: Url,
    versions: Versions,
}

/// Which folder a call is about.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    pub project_id: &'a str,
    pub environment: &'a str,
    pub path: &'a str,
}

/// What a login sends.
pub struct LoginRequest {
    /// The method, as the route names it.
    pub route: &'static str,
    /// The body.
    pub body: Value,
    /// What in it is secret, and no error may quote; the first one is what the memory of refusals knows.
    pub secrets: Vec<SecretBytes>,
    /// Whether it had ended before it was sent, by this host's clock: then a refusal is no word about
    /// the identity.
    pub expired: bool,
    /// What a 500 may mean besides a failure, for a method whose refusals are no 401.
    pub hint_at_500: Option<&'static str>,
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

/// A JSON string that is a secret.
pub struct SecretText(pub SecretBytes);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretBytes::new(text.into_bytes())))
    }
}

impl Api {
    /// An API at `base`, which may end in a slash or in `/api`. `ca_cert` is a PEM file of the
    /// only CAs that are trusted then.
    pub fn new(base: &str, ca_cert: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        // One TLS provider for the process; who came second finds it in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let agent = || Client::builder().user_agent(concat!("psid/", env!("CARGO_PKG_VERSION")));
        let mut builder = agent()
            .timeout(timeout)
            // A host that cannot be connected to is told from a directory that is slow.
            .connect_timeout(timeout.mul_f64(0.75))
            .redirect(redirect::Policy::custom(within_origin))
            // Podman waits: one clean retry on a connection that the server closed is reqwest's own.
            .pool_idle_timeout(Duration::from_secs(60));
        if let Some(path) = ca_cert {
            let pem = std::fs::read(path)
                .map_err(|error| format!("reading {}: {error}", path.display()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| format!("{} holds no PEM certificate: {error}", path.display()))?;
            if certificates.is_empty() {
                return Err(format!("{} holds no PEM certificate", path.display()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let unusable = |error: reqwest::Error| format!("the TLS client: {}", root_cause(&error));
        let client = builder.build().map_err(unusable)?;
        let metadata = metadata_client(agent()).map_err(unusable)?;
        let base = base.trim_end_matches('/').trim_end_matches("/api");
        let base = Url::parse(base).map_err(|error| format!("api_url '{base}': {error}"))?;
        Ok(Self { client, metadata, base, versions: Versions::default() })
    }

    /// A client for what is next to this host: the metadata service that knows who it is.
    pub fn metadata(&self) -> &Client {
        &self.metadata
    }

    /// Asks whether the server is up, as anybody may: the route has no rate limit and no login.
    pub async fn status(&self) -> Result<(), ApiError> {
        let url = below(&self.base, &["api", "status"])?;
        parse::<IgnoredAny>(answer(self.client.get(url), &[]).await?).map(|_| ())
    }

    /// Logs a machine identity in.
    pub async fn login(&self, proof: &LoginRequest) -> Result<Login, ApiError> {
        let url = below(&self.base, &["api", "v1", "auth", proof.route, "login"])?;
        parse(answer(self.client.post(url).json(&proof.body), &proof.secrets).await?)
    }

    /// Ends an access token.
    pub async fn revoke(&self, token: &SecretBytes) -> Result<(), ApiError> {
        let url = below(&self.base, &["api", "v1", "auth", "token", "revoke"])?;
        let body = json!({ "accessToken": text_of(token) });
        answer(self.client.post(url).json(&body), std::slice::from_ref(token)).await.map(|_| ())
    }

    /// Calls by v4, and by v3 where there is no v4.
    async fn by_version<T, F>(&self, call: impl Fn(Version) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut before = None;
        for _ in 0..2 {
            let version = self.versions.choose(before, Instant::now());
            before = Some(version);
            match call(version).await {
                Err(ApiError::NoRoute) => self.versions.missing(version, Instant::now()),
                answer => {
                    if is_of_the_route(&answer) {
                        self.versions.answered(version);
                    }
                    return answer;
                }
            }
        }
        if self.versions.has_v4() {
            return Err(ApiError::Odd(format!(
                "{} has no /api/v4/secrets for the moment, which it had before",
                self.base
            )));
        }
        Err(ApiError::Outage(format!(
            "{} has neither /api/v4/secrets nor /api/v3/secrets/raw: is api_url right?",
            self.base
        )))
    }
}

/// Whether an answer shows that the server has the route.
fn is_of_the_route<T>(answer: &Result<T, ApiError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) => matches!(
            error,
            ApiError::Denied(_)
                | ApiError::Gone(_)
                | ApiError::Token(_)
                | ApiError::ClientBug(_)
                | ApiError::Internal(_)
        ),
    }
}

/// A token, as a header or a body has it.
fn text_of(token: &SecretBytes) -> &str {
    std::str::from_utf8(token.expose_secret()).unwrap_or_default()
}

/// A redirect may not take the access token to another origin.
fn within_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let stays =
        attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    if stays && attempt.previous().len() <= 3 { attempt.follow() } else { attempt.stop() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_url_may_end_in_a_slash_or_in_api() {
        let api = |base: &str| Api::new(base, None, Duration::from_secs(1)).unwrap();
        for base in ["https://h", "https://h/", "https://h/api", "https://h/api/"] {
            assert_eq!(
                below(&api(base).base, &["api", "v4", "a/b ?c"]).unwrap().as_str(),
                "https://h/api/v4/a%2Fb%20%3Fc"
            );
        }
        assert_eq!(
            below(&api("https://h/infisical/api").base, &["api"]).unwrap().as_str(),
            "https://h/infisical/api"
        );
    }
}
