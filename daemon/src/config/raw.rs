//! The config as written in the file, and the checks that turn it into a [`Config`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use psi_common::{BackendTag, check};
use serde::Deserialize;
use toml::Spanned;

use super::auth::{self, AuthContext, RawAuth};
use super::fault::Fault;
use super::pkcs11::RawPkcs11;
use super::span::{optional_span, parse_span, span};
use super::workload::RawWorkload;
use super::{CacheConfig, Config, Fingerprint, InfisicalConfig, ProjectConfig};
use crate::keys::credential::SealWith;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    cache: RawCache,
    #[serde(default)]
    providers: RawProviders,
    #[serde(default)]
    workloads: BTreeMap<String, RawWorkload>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCache {
    enabled: bool,
    backend: Option<Spanned<RawBackend>>,
    refresh_interval: Option<Spanned<String>>,
    refresh_jitter: Option<Spanned<String>>,
    max_stale: Option<Spanned<String>>,
    seal_with: Option<RawSealWith>,
    on_revoked: RawOnRevoked,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawSealWith {
    Tpm2,
    Host,
    Any,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawBackend {
    Tpm,
    Hsm,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOnRevoked {
    #[default]
    Evict,
    Keep,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawProviders {
    infisical: Option<RawInfisical>,
    #[serde(alias = "nitrokeyhsm")]
    pkcs11: Option<Spanned<RawPkcs11>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInfisical {
    api_url: Option<Spanned<String>>,
    #[serde(default)]
    allow_http: bool,
    ca_cert: Option<PathBuf>,
    timeout: Option<Spanned<String>>,
    auth: Option<Spanned<RawAuth>>,
    #[serde(default)]
    projects: BTreeMap<String, Spanned<RawProject>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProject {
    id: Spanned<String>,
    environment: String,
    auth: Option<Spanned<RawAuth>>,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            enabled: true,
            backend: None,
            refresh_interval: None,
            refresh_jitter: None,
            max_stale: None,
            seal_with: None,
            on_revoked: RawOnRevoked::default(),
        }
    }
}

/// The shortest refresh interval.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// For a config of an earlier version.
const NO_ACCESS: &str = "there is no [access] any more: each workload says whose it is; remove it, and put user = \
                         \"NAME\" in [workloads.…]";

/// Parses the text. Only the message of an error is kept, because its display quotes the file.
pub(super) fn parse(text: &str) -> Result<RawConfig, Fault> {
    toml::from_str(text).map_err(|error| Fault {
        at: error.span().map(|span| span.start),
        what: match error.message() {
            message if message.starts_with("unknown field `access`") => NO_ACCESS.to_owned(),
            message => message.to_owned(),
        },
    })
}

impl RawConfig {
    pub(super) fn check(self) -> Result<Config, Fault> {
        let mut warnings = Vec::new();
        let has_token = self.providers.pkcs11.is_some();
        let infisical = self.providers.infisical;
        let infisical = infisical.map(|raw| raw.check(has_token, &mut warnings)).transpose()?;
        let pkcs11 = self.providers.pkcs11;
        let pkcs11 = pkcs11
            .map(|raw| (raw.span().start, raw))
            .map(|(at, raw)| raw.into_inner().check(at))
            .transpose()?;
        if let Some(backend) = &self.cache.backend
            && matches!(backend.get_ref(), RawBackend::Hsm)
            && pkcs11.is_none()
        {
            let what = "backend = \"hsm\" needs [providers.pkcs11], which names the token";
            return Err(Fault::of(backend, what));
        }
        let mut workloads = BTreeMap::new();
        for (name, raw) in self.workloads {
            let workload = raw.check(&name, infisical.as_ref())?;
            workloads.insert(name, workload);
        }
        Ok(Config {
            cache: self.cache.check()?,
            infisical,
            pkcs11,
            workloads,
            warnings,
            objections: Vec::new(),
            fingerprint: Fingerprint::default(),
        })
    }

    /// Whether it names nothing that psid could fetch from or store with.
    pub(super) fn is_untouched(&self) -> bool {
        let RawProviders { infisical, pkcs11 } = &self.providers;
        let has_none = infisical.is_none() && pkcs11.is_none() && self.workloads.is_empty();
        has_none && self.cache.backend.is_none()
    }

    /// The id of each project, by name.
    pub(super) fn project_ids(&self) -> impl Iterator<Item = (&str, &Spanned<String>)> {
        let projects = self.providers.infisical.iter().flat_map(|infisical| &infisical.projects);
        projects.map(|(name, project)| (name.as_str(), &project.get_ref().id))
    }

    /// Each workload: its name, its place and the number of its sources.
    pub(super) fn workload_places(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.workloads
            .iter()
            .map(|(name, workload)| (name.as_str(), workload.place(), workload.sources()))
    }
}

impl RawCache {
    fn check(self) -> Result<CacheConfig, Fault> {
        let backend = self.backend.map(|backend| match backend.into_inner() {
            RawBackend::Tpm => BackendTag::Tpm,
            RawBackend::Hsm => BackendTag::Hsm,
        });
        let at = self.refresh_interval.as_ref().map(|text| text.span().start);
        let refresh_interval = span(self.refresh_interval, Duration::from_secs(3_600))?;
        if refresh_interval < SHORTEST_REFRESH {
            return Err(Fault { at, what: "refresh_interval must be at least 1s".into() });
        }
        Ok(CacheConfig {
            enabled: self.enabled,
            backend,
            refresh_interval,
            refresh_jitter: optional_span(self.refresh_jitter, Duration::from_secs(300))?,
            max_stale: self.max_stale.map(|text| parse_span(&text)).transpose()?,
            seal_with: self.seal_with.map(|seal_with| match seal_with {
                RawSealWith::Tpm2 => SealWith::Tpm2,
                RawSealWith::Host => SealWith::Host,
                RawSealWith::Any => SealWith::Any,
            }),
            evict_revoked: matches!(self.on_revoked, RawOnRevoked::Evict),
        })
    }
}

impl RawInfisical {
    fn check(self, has_token: bool, warnings: &mut Vec<String>) -> Result<InfisicalConfig, Fault> {
        let api_url = self.api_url.map_or_else(
            || Ok("https://app.infisical.com".into()),
            |url| check_url(&url, self.allow_http, warnings),
        )?;
        let context = &mut AuthContext { api_url: &api_url, has_token, warnings };
        let default = self.auth.map(|auth| auth::check(auth, context)).transpose()?;
        let mut projects = BTreeMap::new();
        for (name, raw) in self.projects {
            let at = raw.span().start;
            let raw = raw.into_inner();
            for check in [
                check::project(&name),
                check::without_controls("id", raw.id.get_ref()),
                check::without_controls("environment", &raw.environment),
            ] {
                check.map_err(|why| Fault::at(at, why.to_string()))?;
            }
            let own = raw.auth.map(|auth| auth::check(auth, context)).transpose()?;
            let auth = own.or_else(|| default.clone()).ok_or_else(|| {
                Fault::at(
                    at,
                    format!("project '{name}' has no auth; add it, or [providers.infisical.auth]"),
                )
            })?;
            let id = raw.id.into_inner();
            projects.insert(name, ProjectConfig { id, environment: raw.environment, auth });
        }
        let timeout = span(self.timeout, Duration::from_secs(10))?;
        Ok(InfisicalConfig { api_url, ca_cert: self.ca_cert, timeout, projects })
    }
}

fn check_url(
    text: &Spanned<String>,
    allow_http: bool,
    warnings: &mut Vec<String>,
) -> Result<String, Fault> {
    let fault = |what: String| Fault::of(text, what);
    let url = url::Url::parse(text.get_ref())
        .map_err(|error| fault(format!("api_url is not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(fault("api_url must hold neither a user, a password nor a query".into()));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_this_host(&url) => {}
        "http" if allow_http => {
            warnings.push("api_url is http: every secret crosses the network in clear text".into());
        }
        "http" => {
            return Err(fault(
                "api_url is http to another host, and every secret would cross the network in clear text; \
                 make it https, or set allow_http = true"
                    .into(),
            ));
        }
        scheme => return Err(fault(format!("api_url must be https, not {scheme}"))),
    }
    Ok(text.get_ref().clone())
}

/// Whether a URL's host is this one: by its address or as `localhost`, because DNS decides on other names.
fn is_this_host(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
