//! `auth`: how psid logs in to Infisical.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use psi_common::{SecretBytes, SecretString};
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use url::{Host, Url};

use super::fault::{Fault, credential_name};
use crate::provider::infisical::{AwsIam, Azure, Gcp, Kubernetes};

/// The address of the metadata service in every cloud.
const METADATA_URL: &str = "http://169.254.169.254";
/// The path of a service account's token in a pod.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The default resource of an Azure identity in Infisical.
const RESOURCE: &str = "https://management.azure.com/";

/// Each method and its keys.
const METHODS: [(&str, &[&str]); 5] = [
    (
        "universal-auth",
        &["client_id", "client_secret_credential", "client_secret_file", "client_secret"],
    ),
    ("aws-iam", &["identity_id", "region", "metadata_url"]),
    ("gcp", &["identity_id", "metadata_url"]),
    ("azure", &["identity_id", "resource", "client_id", "metadata_url"]),
    ("kubernetes", &["identity_id", "token_file"]),
];

/// `auth`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthConfig {
    /// A client id and its secret.
    Universal {
        /// The identity's client id.
        client_id: String,
        /// Where the client secret is.
        client_secret: ClientSecret,
    },
    /// The role of an EC2 instance.
    AwsIam(AwsIam),
    /// The service account of a Google machine.
    Gcp(Gcp),
    /// A managed identity of an Azure machine.
    Azure(Azure),
    /// A service account of a Kubernetes cluster.
    Kubernetes(Kubernetes),
}

/// Where a client secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientSecret {
    /// A systemd credential's name.
    Credential(String),
    /// A file.
    File(PathBuf),
    /// The config itself.
    Inline(Confidential),
}

/// A text that no error and no log may quote. It is shared, because projects share one identity.
#[derive(Clone)]
pub struct Confidential(Arc<SecretString>);

/// The keys of every method; the combination is checked afterwards.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    method: Spanned<String>,
    client_id: Option<Spanned<String>>,
    client_secret_credential: Option<Spanned<String>>,
    client_secret_file: Option<Spanned<PathBuf>>,
    client_secret: Option<Spanned<Confidential>>,
    identity_id: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    resource: Option<Spanned<String>>,
    token_file: Option<Spanned<PathBuf>>,
    metadata_url: Option<Spanned<String>>,
}

/// Checks `auth`.
pub(super) fn check(
    raw: Spanned<RawAuth>,
    warnings: &mut Vec<String>,
) -> Result<AuthConfig, Fault> {
    let at = raw.span().start;
    let raw = raw.into_inner();
    let (method, keys) = raw.method()?;
    if let Some((key, at)) = raw.given().into_iter().find(|(key, _)| !keys.contains(key)) {
        let owners: Vec<&str> =
            METHODS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(name, _)| *name).collect();
        let owners = owners.join(" and ");
        return Err(Fault::at(at, format!("{key} is not a key of {method}, but of {owners}")));
    }
    let missing = |key: &str| Fault::at(at, format!("{method} needs {key}"));
    if method == "universal-auth" {
        let client_id = raw.client_id.clone().ok_or_else(|| missing("a client_id"))?.into_inner();
        let client_secret = raw.client_secret(at)?;
        if matches!(client_secret, ClientSecret::Inline(_)) {
            warnings.push(
                "client_secret is in the config in clear text: use client_secret_credential".into(),
            );
        }
        return Ok(AuthConfig::Universal { client_id, client_secret });
    }
    let metadata_url = raw.metadata_url(warnings)?;
    let region = raw.region()?;
    let identity_id = raw.identity_id.ok_or_else(|| missing("an identity_id"))?.into_inner();
    let text = |key: Option<Spanned<String>>| key.map(Spanned::into_inner);
    Ok(match method {
        "aws-iam" => AuthConfig::AwsIam(AwsIam { identity_id, region, metadata_url }),
        "gcp" => AuthConfig::Gcp(Gcp { identity_id, metadata_url }),
        "azure" => AuthConfig::Azure(Azure {
            identity_id,
            resource: text(raw.resource).unwrap_or_else(|| RESOURCE.into()),
            client_id: text(raw.client_id),
            metadata_url,
        }),
        _ => AuthConfig::Kubernetes(Kubernetes {
            identity_id,
            token_file: raw.token_file.map_or_else(|| TOKEN_FILE.into(), Spanned::into_inner),
        }),
    })
}

impl RawAuth {
    fn method(&self) -> Result<(&'static str, &'static [&'static str]), Fault> {
        let name = self.method.get_ref();
        METHODS.into_iter().find(|(known, _)| known == name).ok_or_else(|| {
            let known = METHODS.map(|(known, _)| known).join(", ");
            Fault::of(&self.method, format!("unknown auth method '{name}', expected {known}"))
        })
    }

    /// The keys that are set besides the method, and the offset of each value.
    fn given(&self) -> Vec<(&'static str, usize)> {
        fn at<T>(key: &Option<Spanned<T>>) -> Option<usize> {
            key.as_ref().map(|value| value.span().start)
        }
        let all = [
            ("client_id", at(&self.client_id)),
            ("client_secret_credential", at(&self.client_secret_credential)),
            ("client_secret_file", at(&self.client_secret_file)),
            ("client_secret", at(&self.client_secret)),
            ("identity_id", at(&self.identity_id)),
            ("region", at(&self.region)),
            ("resource", at(&self.resource)),
            ("token_file", at(&self.token_file)),
            ("metadata_url", at(&self.metadata_url)),
        ];
        all.into_iter().filter_map(|(key, at)| Some((key, at?))).collect()
    }

    fn client_secret(&self, at: usize) -> Result<ClientSecret, Fault> {
        let credential = self.client_secret_credential.as_ref().map(|name| {
            credential_name(name, "client_secret_credential").map(ClientSecret::Credential)
        });
        let file = self.client_secret_file.clone().map(Spanned::into_inner);
        let inline = self.client_secret.clone().map(Spanned::into_inner);
        let given: Vec<ClientSecret> = [
            credential.transpose()?,
            file.map(ClientSecret::File),
            inline.map(ClientSecret::Inline),
        ]
        .into_iter()
        .flatten()
        .collect();
        let [client_secret] = <[ClientSecret; 1]>::try_from(given).map_err(|_| {
            let what =
                "give exactly one of client_secret_credential, client_secret_file and client_secret";
            Fault::at(at, what)
        })?;
        Ok(client_secret)
    }

    fn region(&self) -> Result<Option<String>, Fault> {
        let Some(region) = &self.region else { return Ok(None) };
        if AwsIam::is_region(region.get_ref()) {
            return Ok(Some(region.get_ref().clone()));
        }
        Err(Fault::of(region, "region is not an AWS region like eu-central-1"))
    }

    fn metadata_url(&self, warnings: &mut Vec<String>) -> Result<Url, Fault> {
        let text = self.metadata_url.as_ref();
        let at = text.map(|text| text.span().start);
        let fault = |what: String| Fault { at, what };
        let url = Url::parse(text.map_or(METADATA_URL, |text| text.get_ref()))
            .map_err(|error| fault(format!("metadata_url is not a URL: {error}")))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(fault("metadata_url must be http or https".into()));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(fault(
                "metadata_url must hold neither a user, a password nor a query".into(),
            ));
        }
        if url.scheme() == "http" && !is_link_local(&url) {
            warnings.push(
                "metadata_url is http to another host: this host's login credential crosses the network in \
                 clear text"
                    .into(),
            );
        }
        Ok(url)
    }
}

/// Whether a URL's host is this one or on its own link, as metadata services are.
fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_link_local(),
        // EC2's own is fd00:ec2::254.
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.segments()[..2] == [0xfd00, 0xec2]
        }
        Some(Host::Domain(name)) => ["localhost", "metadata.google.internal"].contains(&name),
        None => false,
    }
}

impl Confidential {
    /// The text as a secret.
    pub fn to_secret(&self) -> SecretBytes {
        SecretBytes::new(self.0.expose_secret().as_bytes().to_vec())
    }
}

impl PartialEq for Confidential {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Confidential {}

impl<'de> Deserialize<'de> for Confidential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)
            .map(|text| Self(Arc::new(SecretString::new(text))))
            .map_err(|_| serde::de::Error::custom("it must be a string"))
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "Credential({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Inline(_) => f.write_str("Inline(redacted)"),
        }
    }
}
