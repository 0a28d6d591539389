//! A secret of this host that a login needs: a client secret, an access token, a private key.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use psi_common::SecretBytes;

use crate::keys::credential::Credential;

/// The source of a secret. It is read at each login, because it may be rotated.
pub enum SecretSource {
    /// A systemd credential.
    Credential(Credential),
    /// A file.
    File(PathBuf),
    /// The config itself.
    Config(SecretBytes),
    /// The caller of the command that checks the login.
    Given(Arc<SecretBytes>),
}

impl SecretSource {
    /// The secret without the final newline that editors and `echo` add. `what` names it for the error.
    pub(super) async fn read(&self, what: &str) -> Result<SecretBytes, String> {
        match self {
            Self::Config(secret) => Ok(trimmed(secret)),
            Self::Given(secret) => Ok(trimmed(secret)),
            Self::File(path) => {
                let read = tokio::fs::read(path).await;
                read.map(|bytes| trimmed(&SecretBytes::new(bytes))).map_err(|error| {
                    format!("{what} in {} cannot be read: {error}", path.display())
                })
            }
            Self::Credential(credential) => match credential.read().await {
                Ok(Some(secret)) => Ok(trimmed(&secret)),
                Ok(None) => Err(format!(
                    "{what} is missing: no credential {}, no {}",
                    credential.name,
                    credential.sealed.display()
                )),
                Err(why) => Err(format!("{what} in {why}")),
            },
        }
    }

    /// The command that replaces it. `what` names it, `key` is its key in the config.
    pub(super) fn replace(&self, what: &str, key: &str) -> String {
        match self {
            Self::Credential(credential) => format!(
                "seal {what} with `{}`, then `systemctl restart psid`",
                credential.command()
            ),
            Self::File(path) => format!("write {what} to {}", path.display()),
            Self::Config(_) => {
                format!("write {what} to {key} of the config, then `systemctl reload psid`")
            }
            Self::Given(_) => format!("give {what}, as Infisical shows it for the identity"),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(credential) => write!(f, "credential {}", credential.name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Config(_) => f.write_str("the config"),
            Self::Given(_) => f.write_str("the caller"),
        }
    }
}

/// A secret without the whitespace at its end.
pub(super) fn trimmed(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose_secret().trim_ascii_end().to_vec())
}
