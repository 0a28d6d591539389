//! Infisical's HTTP API: the few calls that psid needs.
//!
//! Sources: `backend/src/server/routes/v4/secret-router.ts` of Infisical in both its dialects (parameter
//! names and defaults changed in February 2026, so each parameter is sent in both spellings) and
//! `routes/v3/deprecated-secret-router.ts`.

use std::path::Path;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psi_common::SecretBytes;
use reqwest::{Client, Method, Url, redirect};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::answer::{ApiError, answer, one_line, parse, root_cause};
use super::auth::near_client;

const HIDDEN: &[u8] = b"<hidden-by-infisical>";

/// One Infisical instance.
pub struct Api {
    client: Client,
    /// For what is next to this host, and not for Infisical.
    near: Client,
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

/// What a login sends.
pub struct Proof {
    /// The method, as the route names it.
    pub route: &'static str,
    /// The body.
    pub body: Value,
    /// What in it is secret, and no error may quote; the first one is what the proof is made of.
    pub secrets: Vec<SecretBytes>,
    /// Whether it had ended before it was sent, by this host's clock: then a refusal is no word about
    /// the identity.
    pub expired: bool,
    /// What a 500 may mean besides a failure, for a method whose refusals are no 401.
    pub hint_at_500: Option<&'static str>,
}

/// One reading call.
struct Call<'a> {
    token: &'a SecretBytes,
    folder: Folder<'a>,
    key: Option<&'a str>,
    query: [(&'static str, &'static str); 1],
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
            builder = builder.tls_certs_merge(certificates);
        }
        let unusable = |error: reqwest::Error| format!("the TLS client: {}", root_cause(&error));
        let client = builder.build().map_err(unusable)?;
        let near = near_client(agent()).map_err(unusable)?;
        let base = base.trim_end_matches('/').trim_end_matches("/api");
        let base = Url::parse(base).map_err(|error| format!("api_url '{base}': {error}"))?;
        Ok(Self { client, near, base, v3: AtomicBool::new(false) })
    }

    /// A client for what is next to this host: the metadata service that knows who it is.
    pub fn near(&self) -> &Client {
        &self.near
    }

    /// Asks whether the server is up, as anybody may: the route has no rate limit and no login.
    pub async fn status(&self) -> Result<(), ApiError> {
        let url = below(&self.base, &["api", "status"]);
        parse::<IgnoredAny>(answer(self.client.get(url), &[]).await?).map(|_| ())
    }

    /// Logs a machine identity in.
    pub async fn login(&self, proof: &Proof) -> Result<Login, ApiError> {
        let url = below(&self.base, &["api", "v1", "auth", proof.route, "login"]);
        parse(answer(self.client.post(url).json(&proof.body), &proof.secrets).await?)
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
        let call = Call { token, folder, key: Some(key), query };
        parse::<Answer>(self.read(&call).await?)?.secret.value()
    }

    /// Every secret of a folder, imports included.
    pub async fn secrets(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        recursive: bool,
    ) -> Result<Listing, ApiError> {
        let query = [("recursive", if recursive { "true" } else { "false" })];
        parse(self.read(&Call { token, folder, key: None, query }).await?)
    }

    /// Writes secrets into a folder by one request, which the server does whole or not at all.
    pub async fn write(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        method: &Method,
        secrets: &Value,
    ) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            secrets: Option<IgnoredAny>,
        }
        let sent = &quotable_by_nobody(token, secrets);
        let write = |v3| async move {
            // In v3, `raw/batch` would be the secret of that name.
            let api = if v3 { "v3" } else { "v4" };
            let below_batch: &[&str] = if v3 { &["raw"] } else { &[] };
            let url = below(&self.base, &[&["api", api, "secrets", "batch"], below_batch].concat());
            let text = std::str::from_utf8(token.expose_secret()).unwrap_or_default();
            let body = json!({
                (if v3 { "workspaceId" } else { "projectId" }): folder.project_id,
                "environment": folder.environment,
                "secretPath": folder.path,
                "secrets": secrets,
            });
            let request = self.client.request(method.clone(), url).bearer_auth(text).json(&body);
            answer(request, sent).await
        };
        match parse::<Answer>(self.by_version(write).await?)?.secrets {
            Some(_) => Ok(()),
            None => Err(ApiError::Denied(
                "Infisical did not write it: a policy of the folder wants it approved first".into(),
            )),
        }
    }

    /// Makes the folder `name` in a folder; one that is there is no error. By v1 from servers of v3.
    pub async fn make_folder(
        &self,
        token: &SecretBytes,
        parent: Folder<'_>,
        name: &str,
    ) -> Result<(), ApiError> {
        let make = |v1| async move {
            let url = below(&self.base, &["api", if v1 { "v1" } else { "v2" }, "folders"]);
            let text = std::str::from_utf8(token.expose_secret()).unwrap_or_default();
            let body = json!({
                (if v1 { "workspaceId" } else { "projectId" }): parent.project_id,
                "environment": parent.environment,
                "path": parent.path,
                "name": name,
            });
            let request = self.client.post(url).bearer_auth(text).json(&body);
            answer(request, slice::from_ref(token)).await
        };
        let made = match make(false).await {
            Err(ApiError::NoRoute) => make(true).await,
            made => made,
        };
        match made {
            Err(ApiError::ClientBug(why)) if why.contains("already exists") => Ok(()),
            made => made.map(|_| ()),
        }
    }

    /// Reads by v4, and by v3 from servers that have no v4.
    async fn read(&self, call: &Call<'_>) -> Result<Vec<u8>, ApiError> {
        self.by_version(|v3| self.read_by(v3, call)).await
    }

    /// Calls by v4, and by v3 where there is no v4.
    async fn by_version<T, F>(&self, call: impl Fn(bool) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let v3_first = self.v3.load(Ordering::Relaxed);
        for v3 in [v3_first, !v3_first] {
            match call(v3).await {
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

    async fn read_by(&self, v3: bool, call: &Call<'_>) -> Result<Vec<u8>, ApiError> {
        let Call { token, folder, key, query } = call;
        let mut url = below(&self.base, route(v3));
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
        let text = std::str::from_utf8(token.expose_secret()).unwrap_or_default();
        let request = self.client.get(url).bearer_auth(text);
        answer(request, slice::from_ref(token)).await
    }
}

impl Proof {
    /// Whether it is made of this secret.
    pub fn is_made_of(&self, secret: &SecretBytes) -> bool {
        self.secrets.first().is_some_and(|own| own.same_as(secret))
    }
}

fn route(v3: bool) -> &'static [&'static str] {
    if v3 { &["api", "v3", "secrets", "raw"] } else { &["api", "v4", "secrets"] }
}

/// What no error may quote: the token, and each value that no other word is likely to hold.
fn quotable_by_nobody(token: &SecretBytes, secrets: &Value) -> Vec<SecretBytes> {
    let values = secrets.as_array().into_iter().flatten();
    let values = values.filter_map(|secret| secret["secretValue"].as_str());
    let values = values.filter(|value| value.len() >= 6).map(|value| value.as_bytes().to_vec());
    std::iter::once(token.expose_secret().to_vec()).chain(values).map(SecretBytes::new).collect()
}

/// The URL of a path below another one.
pub(super) fn below(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
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

#[cfg(test)]
mod tests {
    use super::*;

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
                below(&api(base).base, &["api", "v4", "a/b ?c"]).as_str(),
                "https://h/api/v4/a%2Fb%20%3Fc"
            );
        }
        assert_eq!(
            below(&api("https://h/infisical/api").base, &["api"]).as_str(),
            "https://h/infisical/api"
        );
    }
}
