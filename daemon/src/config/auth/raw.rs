//! `auth` as the file has it, and its checks.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::url::{login_url, metadata_url};
use super::{AuthConfig, Confidential, PrivateKeyLocation, SecretLocation, TlsCertConfig};
use crate::config::fault::{Fault, credential_name};
use crate::config::pkcs11::check_id;
use crate::keys::pkcs11::KeyChoice;
use crate::provider::infisical::{AwsIam, Azure, Gcp, TokenFile, TokenKind};

/// The path of a service account's token in a pod.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The default resource of an Azure identity in Infisical.
const RESOURCE: &str = "https://management.azure.com/";

/// Each method and its keys.
const METHODS: [(&str, &[&str]); 10] = [
    (
        "universal-auth",
        &["client_id", "client_secret_credential", "client_secret_file", "client_secret"],
    ),
    ("aws-iam", &["identity_id", "region", "metadata_url"]),
    ("gcp", &["identity_id", "metadata_url"]),
    ("azure", &["identity_id", "resource", "client_id", "metadata_url"]),
    ("kubernetes", &["identity_id", "token_file"]),
    ("jwt", &["identity_id", "token_file"]),
    ("oidc", &["identity_id", "token_file"]),
    ("spiffe", &["identity_id", "token_file"]),
    ("token", &["token_credential", "token_file"]),
    (
        "tls-cert",
        &[
            "identity_id",
            "certificate_file",
            "key_credential",
            "key_file",
            "key_label",
            "key_id",
            "login_url",
        ],
    ),
];

/// The keys of every method; the combination is checked afterwards.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAuth {
    method: Spanned<String>,
    client_id: Option<Spanned<String>>,
    client_secret_credential: Option<Spanned<String>>,
    client_secret_file: Option<Spanned<PathBuf>>,
    client_secret: Option<Spanned<Confidential>>,
    identity_id: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    resource: Option<Spanned<String>>,
    token_credential: Option<Spanned<String>>,
    token_file: Option<Spanned<PathBuf>>,
    certificate_file: Option<Spanned<PathBuf>>,
    key_credential: Option<Spanned<String>>,
    key_file: Option<Spanned<PathBuf>>,
    key_label: Option<Spanned<String>>,
    key_id: Option<Spanned<String>>,
    login_url: Option<Spanned<String>>,
    metadata_url: Option<Spanned<String>>,
}

/// What the checks of `auth` take from the rest of the config, and add to it.
pub(in crate::config) struct AuthContext<'a> {
    /// The checked `api_url`.
    pub(in crate::config) api_url: &'a str,
    /// Whether there is a `[providers.pkcs11]`.
    pub(in crate::config) has_token: bool,
    pub(in crate::config) warnings: &'a mut Vec<String>,
}

/// Checks `auth`.
pub(in crate::config) fn check(
    raw: Spanned<RawAuth>,
    context: &mut AuthContext<'_>,
) -> Result<AuthConfig, Fault> {
    let at = raw.span().start;
    let raw = raw.into_inner();
    let method = raw.method()?;
    let identity_id = raw.identity_id.clone().map(Spanned::into_inner);
    let identity_id = || {
        identity_id.clone().ok_or_else(|| Fault::at(at, format!("{method} needs an identity_id")))
    };
    let token_file = |kind| {
        let given = raw.token_file.clone().map(Spanned::into_inner);
        let default = (kind == TokenKind::Kubernetes).then(|| TOKEN_FILE.into());
        let token_file = given
            .or(default)
            .ok_or_else(|| Fault::at(at, format!("{method} needs a token_file")))?;
        Ok(AuthConfig::TokenFile(TokenFile { kind, identity_id: identity_id()?, token_file }))
    };
    Ok(match method {
        "universal-auth" => raw.universal(at, context.warnings)?,
        "aws-iam" => AuthConfig::AwsIam(AwsIam {
            region: raw.region()?,
            metadata_url: metadata_url(raw.metadata_url.as_ref(), context.warnings)?,
            identity_id: identity_id()?,
        }),
        "gcp" => AuthConfig::Gcp(Gcp {
            metadata_url: metadata_url(raw.metadata_url.as_ref(), context.warnings)?,
            identity_id: identity_id()?,
        }),
        "azure" => AuthConfig::Azure(Azure {
            metadata_url: metadata_url(raw.metadata_url.as_ref(), context.warnings)?,
            identity_id: identity_id()?,
            resource: raw.resource.map_or_else(|| RESOURCE.into(), Spanned::into_inner),
            client_id: raw.client_id.map(Spanned::into_inner),
        }),
        "jwt" => token_file(TokenKind::Jwt)?,
        "oidc" => token_file(TokenKind::Oidc)?,
        "spiffe" => token_file(TokenKind::Spiffe)?,
        "token" => AuthConfig::AccessToken(raw.access_token(at)?),
        "tls-cert" => raw.tls_cert(at, identity_id()?, context)?,
        _ => token_file(TokenKind::Kubernetes)?,
    })
}

impl RawAuth {
    /// The method, if it is known and each key that is set is one of its keys.
    fn method(&self) -> Result<&'static str, Fault> {
        let name = self.method.get_ref();
        let known = METHODS.into_iter().find(|(known, _)| known == name);
        let (method, keys) = known.ok_or_else(|| {
            let known = METHODS.map(|(known, _)| known).join(", ");
            Fault::of(&self.method, format!("unknown auth method '{name}', expected {known}"))
        })?;
        let Some((key, at)) = self.given().into_iter().find(|(key, _)| !keys.contains(key)) else {
            return Ok(method);
        };
        let owners = METHODS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(name, _)| *name);
        let owners = listed(&owners.collect::<Vec<_>>());
        Err(Fault::at(at, format!("{key} is not a key of {method}, but of {owners}")))
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
            ("token_credential", at(&self.token_credential)),
            ("token_file", at(&self.token_file)),
            ("certificate_file", at(&self.certificate_file)),
            ("key_credential", at(&self.key_credential)),
            ("key_file", at(&self.key_file)),
            ("key_label", at(&self.key_label)),
            ("key_id", at(&self.key_id)),
            ("login_url", at(&self.login_url)),
            ("metadata_url", at(&self.metadata_url)),
        ];
        all.into_iter().filter_map(|(key, at)| Some((key, at?))).collect()
    }

    fn universal(&self, at: usize, warnings: &mut Vec<String>) -> Result<AuthConfig, Fault> {
        let client_id = self.client_id.clone();
        let client_id =
            client_id.ok_or_else(|| Fault::at(at, "universal-auth needs a client_id"))?;
        let given = [
            credential(self.client_secret_credential.as_ref(), "client_secret_credential")?,
            file(self.client_secret_file.as_ref()),
            self.client_secret.clone().map(|text| SecretLocation::Inline(text.into_inner())),
        ];
        let client_secret = exactly_one(given).ok_or_else(|| {
            let what =
                "give exactly one of client_secret_credential, client_secret_file and client_secret";
            Fault::at(at, what)
        })?;
        if matches!(client_secret, SecretLocation::Inline(_)) {
            warnings.push(
                "client_secret is in the config in clear text: use client_secret_credential".into(),
            );
        }
        Ok(AuthConfig::Universal { client_id: client_id.into_inner(), client_secret })
    }

    fn access_token(&self, at: usize) -> Result<SecretLocation, Fault> {
        let given = [
            credential(self.token_credential.as_ref(), "token_credential")?,
            file(self.token_file.as_ref()),
        ];
        exactly_one(given)
            .ok_or_else(|| Fault::at(at, "give exactly one of token_credential and token_file"))
    }

    fn tls_cert(
        &self,
        at: usize,
        identity_id: String,
        context: &AuthContext<'_>,
    ) -> Result<AuthConfig, Fault> {
        let certificate_file = self.certificate_file.clone().map(Spanned::into_inner);
        let stored = [
            credential(self.key_credential.as_ref(), "key_credential")?,
            file(self.key_file.as_ref()),
        ];
        let label = self.key_label.clone().map(|label| KeyChoice::Label(label.into_inner()));
        let id = self.key_id.as_ref().map(check_id).transpose()?.map(KeyChoice::Id);
        let [credential, file] = stored.map(|stored| stored.map(PrivateKeyLocation::Stored));
        let [label, id] = [label, id].map(|choice| choice.map(PrivateKeyLocation::OnToken));
        let key = exactly_one([credential, file, label, id]).ok_or_else(|| {
            Fault::at(at, "give exactly one of key_credential, key_file, key_label and key_id")
        })?;
        if matches!(key, PrivateKeyLocation::OnToken(_)) && !context.has_token {
            let what = "a key on a token needs [providers.pkcs11], which names the token";
            return Err(Fault::at(at, what));
        }
        Ok(AuthConfig::TlsCert(TlsCertConfig {
            identity_id,
            certificate_file: certificate_file
                .ok_or_else(|| Fault::at(at, "tls-cert needs a certificate_file"))?,
            key,
            login_url: login_url(self.login_url.as_ref(), context.api_url, at)?,
        }))
    }

    fn region(&self) -> Result<Option<String>, Fault> {
        let Some(region) = &self.region else { return Ok(None) };
        if AwsIam::is_region(region.get_ref()) {
            return Ok(Some(region.get_ref().clone()));
        }
        Err(Fault::of(region, "region is not an AWS region like eu-central-1"))
    }
}

fn credential(name: Option<&Spanned<String>>, key: &str) -> Result<Option<SecretLocation>, Fault> {
    name.map(|name| credential_name(name, key).map(SecretLocation::Credential)).transpose()
}

fn file(path: Option<&Spanned<PathBuf>>) -> Option<SecretLocation> {
    path.map(|path| SecretLocation::File(path.get_ref().clone()))
}

/// The only one that is given.
fn exactly_one<T, const N: usize>(given: [Option<T>; N]) -> Option<T> {
    let mut given = given.into_iter().flatten();
    given.next().filter(|_| given.next().is_none())
}

/// "a, b and c"
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}
