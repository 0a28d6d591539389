//! A secret of this host that a login needs: a client secret, an access token, a private key.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use psi_common::{SecretBytes, SecretString};

use crate::keys::credential::{Credential, form_fault};

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

    /// The secret as one line of text, unless the server is certain to refuse it: three refusals lock an identity.
    pub(super) async fn read_line(&self, what: &str) -> Result<SecretString, String> {
        let secret = self.read(what).await?;
        line(&secret).map_err(|fault| format!("{what} {fault}, and was not sent"))
    }

    /// The command that replaces it. `what` names it, `key` is its key in the config.
    pub(super) fn replace(&self, what: &str, key: &str) -> String {
        match self {
            Self::Credential(credential) => {
                // psid opens a sealed one at each login.
                let restart = match credential.is_delivered() {
                    true => ", then `systemctl restart psid`",
                    false => "",
                };
                format!("seal {what} with `{}`{restart}", credential.command())
            }
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
fn trimmed(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose_secret().trim_ascii_end().to_vec())
}

fn line(secret: &SecretBytes) -> Result<SecretString, &'static str> {
    match form_fault(secret.expose_secret()) {
        Some(fault) => Err(fault),
        None => {
            SecretString::from_utf8(secret.expose_secret().to_vec()).map_err(|_| "is not UTF-8")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<String, &'static str> {
        line(&trimmed(&SecretBytes::new(bytes.to_vec()))).map(SecretString::into_exposed)
    }

    #[test]
    fn final_newline_is_trimmed() {
        for text in ["s3cret", "s3cret\n", "s3cret\r\n", "s3cret \n\n", "a b"] {
            assert_eq!(check(text.as_bytes()).as_deref(), Ok(text.trim_end()), "{text:?}");
        }
        assert_eq!(check(b"\"").as_deref(), Ok("\""), "one quote may be a secret");
    }

    /// `form_fault` has its own tests, which cover PINs too.
    #[test]
    fn malformed_secrets_are_not_sent() {
        for (bytes, what) in [
            (b" \n\n".as_slice(), "is empty"),
            (b"\xef\xbb\xbfs3cret", "byte order mark"),
            (b"\"s3cret\"", "quotes"),
            (b"s3cret\ns3cret\n", "more than one line"),
        ] {
            let found = check(bytes).unwrap_err();
            assert!(found.contains(what), "{bytes:?}: {found}");
        }
    }
}
