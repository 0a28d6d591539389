//! `auth`: how psid logs in to Infisical.

mod raw;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ::url::Url;
use psi_common::{SecretBytes, SecretString};
use serde::{Deserialize, Deserializer};

use crate::keys::pkcs11::KeyChoice;
use crate::provider::infisical::{AwsIam, Azure, Gcp, TokenFile};

pub(super) use raw::{AuthContext, RawAuth, check};

/// `auth`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthConfig {
    /// A client id and its secret.
    Universal {
        /// The identity's client id.
        client_id: String,
        /// Where the client secret is.
        client_secret: SecretLocation,
    },
    /// The role of an EC2 instance.
    AwsIam(AwsIam),
    /// The service account of a Google machine.
    Gcp(Gcp),
    /// A managed identity of an Azure machine.
    Azure(Azure),
    /// A token that somebody else keeps in a file: a service account's of a cluster, or of an OIDC provider.
    TokenFile(TokenFile),
    /// A static access token.
    AccessToken(SecretLocation),
    /// A client certificate.
    TlsCert(TlsCertConfig),
}

/// `auth` with `method = "tls-cert"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCertConfig {
    /// The identity's id.
    pub identity_id: String,
    /// The certificate in PEM.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key: PrivateKeyLocation,
    /// Where the login is made.
    pub login_url: Url,
}

/// Where a private key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivateKeyLocation {
    /// In a credential or a file.
    Stored(SecretLocation),
    /// On the token of `[providers.pkcs11]`.
    OnToken(KeyChoice),
}

/// Where a secret of this host is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretLocation {
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

impl AuthConfig {
    /// The secret that this host keeps for the login, if it keeps one.
    pub fn secret(&self) -> Option<&SecretLocation> {
        match self {
            Self::Universal { client_secret: secret, .. } | Self::AccessToken(secret) => {
                Some(secret)
            }
            Self::TlsCert(TlsCertConfig { key: PrivateKeyLocation::Stored(key), .. }) => Some(key),
            Self::AwsIam(_)
            | Self::Gcp(_)
            | Self::Azure(_)
            | Self::TokenFile(_)
            | Self::TlsCert(_) => None,
        }
    }
}

impl AuthConfig {
    /// The files that the login reads, each with its key in the config.
    pub(crate) fn files(&self) -> Vec<(&'static str, &PathBuf)> {
        match self {
            Self::Universal { client_secret: SecretLocation::File(path), .. } => {
                vec![("client_secret_file", path)]
            }
            Self::AccessToken(SecretLocation::File(path)) => vec![("token_file", path)],
            Self::TokenFile(file) => vec![("token_file", &file.token_file)],
            Self::TlsCert(tls) => {
                let mut files = vec![("certificate_file", &tls.certificate_file)];
                if let PrivateKeyLocation::Stored(SecretLocation::File(path)) = &tls.key {
                    files.push(("key_file", path));
                }
                files
            }
            _ => Vec::new(),
        }
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

impl fmt::Debug for SecretLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "Credential({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Inline(_) => f.write_str("Inline(redacted)"),
        }
    }
}
