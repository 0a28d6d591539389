//! The PIN: read only for a login, dropped at once, and never tried twice once it was refused, for three
//! wrong ones lock a token.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use psi_common::SecretBytes;

use super::error::TokenError;
use crate::credential::Credential;

/// Where the user PIN is.
#[derive(Clone, Debug)]
pub enum PinSource {
    /// A systemd credential.
    Credential(Credential),
    /// A file.
    File(PathBuf),
}

impl PinSource {
    /// The PIN, without the newline that editors and `echo` leave at its end.
    pub(super) async fn read(&self) -> Result<SecretBytes, TokenError> {
        let read = match self {
            Self::Credential(credential) => credential.read().await,
            Self::File(path) => match tokio::fs::read(path).await {
                Ok(bytes) => Ok(Some(SecretBytes::new(bytes))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
        };
        let pin = read
            .map_err(|why| TokenError::pin(format!("the PIN in {why}"), self.remedy()))?
            .map(|pin| SecretBytes::new(pin.expose_secret().trim_ascii_end().to_vec()));
        match pin {
            Some(pin) if !pin.is_empty() => Ok(pin),
            Some(_) => Err(TokenError::pin(format!("the PIN in {self} is empty"), self.remedy())),
            None => Err(TokenError::pin(
                format!("the PIN is missing: {}", self.absence()),
                self.remedy(),
            )),
        }
    }

    fn absence(&self) -> String {
        match self {
            Self::Credential(Credential { name, sealed, .. }) => {
                format!("no credential {name}, no {}", sealed.display())
            }
            Self::File(path) => format!("no {}", path.display()),
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Credential(Credential { name, sealed, .. }) => {
                format!("seal it with `systemd-creds encrypt --name={name} - {}`", sealed.display())
            }
            Self::File(path) => format!("write it to {}, mode 0600", path.display()),
        }
    }
}

impl std::fmt::Display for PinSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(credential) => write!(f, "the credential {}", credential.name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Remembers the PIN that was refused: as a hash under a key of this process, for it may be the right one
/// but for a digit.
#[derive(Default)]
pub(super) struct PinGuard {
    hasher: RandomState,
    refused: Option<(u64, TokenError)>,
}

impl PinGuard {
    /// The refusal of this very PIN, if there was one.
    pub(super) fn refusal_of(&self, pin: &SecretBytes) -> Option<&TokenError> {
        let (hash, error) = self.refused.as_ref()?;
        (*hash == self.hash(pin)).then_some(error)
    }

    /// Remembers the PIN with this hash.
    pub(super) fn refuse(&mut self, hash: u64, error: TokenError) {
        self.refused = Some((hash, error));
    }

    /// Somebody said that it may be tried again.
    pub(super) fn forget(&mut self) {
        self.refused = None;
    }

    /// What is kept of a PIN.
    pub(super) fn hash(&self, pin: &SecretBytes) -> u64 {
        self.hasher.hash_one(pin.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::new(text.into())
    }

    #[test]
    fn only_the_refused_pin_is_held_back_until_that_is_lifted() {
        let mut guard = PinGuard::default();
        assert_eq!(guard.refusal_of(&secret("1234")), None);
        let wrong = TokenError::pin("wrong", "right it");
        guard.refuse(guard.hash(&secret("1234")), wrong.clone());
        assert_eq!(guard.refusal_of(&secret("1234")), Some(&wrong));
        assert_eq!(guard.refusal_of(&secret("1235")), None);
        guard.forget();
        assert_eq!(guard.refusal_of(&secret("1234")), None);
    }

    #[tokio::test]
    async fn a_pin_comes_without_its_newline_and_is_never_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        let source = PinSource::File(path.clone());
        let missing = source.read().await.unwrap_err().to_string();
        assert!(missing.starts_with("the PIN is missing: no /"), "{missing}");
        std::fs::write(&path, "12 34\r\n").unwrap();
        assert_eq!(source.read().await.unwrap().expose_secret(), b"12 34");
        std::fs::write(&path, "\n").unwrap();
        let empty = source.read().await.unwrap_err();
        assert!(empty.what.ends_with("pin is empty"), "{empty}");
        assert_eq!(empty.kind, super::super::TokenErrorKind::Pin);
    }
}
