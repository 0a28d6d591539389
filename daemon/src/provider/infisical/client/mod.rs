//! A client of Infisical's HTTP API, with the calls that psid needs.
//!
//! Sources: `backend/src/server/routes/v4/secret-router.ts` of Infisical in both its dialects (parameter
//! names and defaults changed in February 2026, so each parameter is sent in both spellings) and
//! `routes/v3/deprecated-secret-router.ts`.

mod login;
mod mutual_tls;
mod probe;
mod read;
mod url;
mod versions;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use psi_common::SecretString;
use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use super::response::{ApiError, parse, root_cause, send};
use crate::provider::ProviderError;
use mutual_tls::TlsSettings;
use versions::{ApiVersion, Versions};

pub(super) use login::{Login, LoginRequest};
pub(super) use mutual_tls::ClientCertificate;
pub(super) use probe::Probe;
pub(super) use read::{DirectoryListing, Secret, View};
pub(super) use url::below;

/// One Infisical instance.
pub(super) struct Api {
    client: Client,
    base: Url,
    versions: Versions,
    tls: TlsSettings,
}

/// The settings of `[providers.infisical]` make no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiConfigError {
    #[error("reading {}: {error}", path.display())]
    CaFile { path: PathBuf, error: io::Error },
    #[error("{} holds no PEM certificate: {error}", path.display())]
    BadPem { path: PathBuf, error: reqwest::Error },
    #[error("{} holds no PEM certificate", .0.display())]
    EmptyPem(PathBuf),
    #[error("the TLS client: {}", root_cause(.0))]
    Tls(reqwest::Error),
    #[error("api_url '{url}': {error}")]
    Url { url: String, error: <Url as FromStr>::Err },
}

/// A directory of an environment of a project; the API calls it a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirectoryRef<'a> {
    pub project_id: &'a str,
    pub environment: &'a str,
    pub path: &'a str,
}

/// Reads a JSON string that is a secret.
pub(super) fn secret_string<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::new)
}

/// The common part of every HTTP client of psid.
pub(super) fn client_builder() -> ClientBuilder {
    // One TLS provider for the process; only the first call installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().user_agent(concat!("psid/", env!("CARGO_PKG_VERSION")))
}

impl Api {
    /// A client of the API at `base`, which may end in a slash or in `/api`. `ca_cert` is a PEM file of the
    /// only CAs to trust.
    pub(super) fn new(
        base: &str,
        ca_cert: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, ApiConfigError> {
        let mut builder = client_builder()
            .timeout(timeout)
            // Distinguishes an unreachable host from a slow directory.
            .connect_timeout(timeout.mul_f64(0.75))
            // For the certificate's age in `probe`.
            .tls_info(true)
            .redirect(redirect::Policy::custom(within_origin))
            // reqwest itself retries once on a kept connection that the server closed.
            .pool_idle_timeout(Duration::from_secs(60));
        let mut tls = TlsSettings { ca_cert: None, timeout };
        if let Some(path) = ca_cert {
            let (pem, certificates) = certificates(path)?;
            builder = builder.tls_certs_only(certificates);
            tls.ca_cert = Some(pem);
        }
        let client = builder.build().map_err(ApiConfigError::Tls)?;
        let base = base.trim_end_matches('/').trim_end_matches("/api");
        let base = Url::parse(base)
            .map_err(|error| ApiConfigError::Url { url: base.to_owned(), error })?;
        Ok(Self { client, base, versions: Versions::default(), tls })
    }

    /// Checks whether the server is available: the route has no rate limit and needs no login.
    pub(super) async fn status(&self) -> Result<(), ApiError> {
        let url = below(&self.base, &["api", "status"])?;
        parse::<IgnoredAny>(send(self.client.get(url), &[]).await?)?;
        Ok(())
    }

    /// Calls version 4 of the API, or version 3 where the server has no version 4.
    async fn by_version<T, F>(&self, call: impl Fn(ApiVersion) -> F) -> Result<T, ApiError>
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
            let why = format!("{} had /api/v4/secrets and does not answer on it now", self.base);
            return Err(ProviderError::Failed(why).into());
        }
        let why = format!(
            "{} has neither /api/v4/secrets nor /api/v3/secrets/raw; check api_url",
            self.base
        );
        Err(ProviderError::Unreachable(why).into())
    }
}

/// A PEM file, and its certificates: at least one.
fn certificates(path: &Path) -> Result<(Vec<u8>, Vec<Certificate>), ApiConfigError> {
    let path = path.to_owned();
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(error) => return Err(ApiConfigError::CaFile { path, error }),
    };
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if certificates.is_empty() => Err(ApiConfigError::EmptyPem(path)),
        Ok(certificates) => Ok((pem, certificates)),
        Err(error) => Err(ApiConfigError::BadPem { path, error }),
    }
}

/// Whether an answer shows that the server has the route.
fn is_of_the_route<T>(answer: &Result<T, ApiError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) => matches!(
            error,
            ApiError::Internal(_)
                | ApiError::Provider(
                    ProviderError::Denied(_)
                        | ProviderError::NotFound(_)
                        | ProviderError::Unauthenticated { wait: None, .. }
                        | ProviderError::Misbehaved(_)
                )
        ),
    }
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
