//! The PIN: read only for a login, dropped at once, and not tried again once it was refused, by whichever
//! process: three wrong ones lock a token.

use std::path::PathBuf;
use std::time::Duration;

use psi_common::SecretBytes;

use super::describe::PinStatus;
use super::error::TokenError;
use crate::keys::credential::{self, Credential, CredsError};
use crate::storage::failed_logins::{FailedLogins, RetryRule};

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
        let pin = match self {
            Self::Credential(credential) => match credential.read().await {
                Ok(pin) => pin,
                Err(error) => return Err(unopened(credential, &error).await),
            },
            Self::File(path) => match tokio::fs::read(path).await {
                Ok(bytes) => Some(SecretBytes::new(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    let what = format!("the PIN in {} cannot be read: {error}", path.display());
                    return Err(TokenError::absent(what, "check the file's owner and mode"));
                }
            },
        };
        let pin = pin.map(|pin| SecretBytes::new(pin.expose_secret().trim_ascii_end().to_vec()));
        match pin {
            Some(pin) => match credential::form_fault(pin.expose_secret()) {
                None => Ok(pin),
                Some(fault) => {
                    Err(TokenError::pin(format!("the PIN in {self} {fault}"), self.remedy()))
                }
            },
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
            Self::Credential(credential) => format!("seal it with `{}`", credential.command()),
            Self::File(path) => format!("write it to {}, mode 0600", path.display()),
        }
    }
}

/// A PIN that is not to be had for a while says nothing of the PIN.
async fn unopened(credential: &Credential, error: &CredsError) -> TokenError {
    let fault = credential.fault(error).await;
    let again = format!("seal it again with `{}`", credential.command());
    let (what, remedy) = (format!("the PIN in {}", fault.what), fault.remedy(&again, &again));
    if fault.passes() { TokenError::absent(what, remedy) } else { TokenError::pin(what, remedy) }
}

impl std::fmt::Display for PinSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(credential) => write!(f, "the credential {}", credential.name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The tries of a PIN at one token, and what is remembered of them.
pub(super) struct PinGuard {
    failed_logins: FailedLogins,
    /// An admin asked for one try of a PIN that was refused.
    retry: bool,
}

impl PinGuard {
    pub(super) fn new(failed_logins: FailedLogins, retry: bool) -> Self {
        Self { failed_logins, retry }
    }

    /// Why this PIN must not be tried at the token that calls itself `subject`.
    pub(super) fn objection(&mut self, subject: &str, pin: &SecretBytes) -> Option<TokenError> {
        if std::mem::take(&mut self.retry) {
            return None;
        }
        let refusal = self.failed_logins.look_up(subject, pin.expose_secret())?;
        Some(match refusal.wait_left {
            Some(wait) => TokenError::broken(
                format!(
                    "a login with this PIN failed, and the token may have counted it as a wrong one: {}; \
                     psid tries it once more in {}",
                    refusal.why,
                    in_minutes(wait)
                ),
                "check the token, its reader and pcscd with `pkcs11-tool -L`; `psictl hsm preflight --retry` \
                 tries it at once",
            ),
            None => Some(PinStatus::locked())
                .filter(|locked| locked.what == refusal.why)
                .unwrap_or_else(|| TokenError::pin(refusal.why, AFTER_REFUSAL)),
        })
    }

    /// Whether a login with this PIN has failed before.
    pub(super) fn has_failed(&self, subject: &str, pin: &SecretBytes) -> bool {
        self.failed_logins.count(subject, pin.expose_secret()) > 0
    }

    /// Remembers that the token refused the PIN, or was asked too often without a clear answer.
    pub(super) fn refuse(&self, subject: &str, pin: &SecretBytes, why: &str) {
        self.failed_logins.record(subject, pin.expose_secret(), why, RetryRule::WhenChanged);
    }

    /// Remembers a failure that may have cost a try; it is tried once more, and not at once.
    pub(super) fn suspend(&self, subject: &str, pin: &SecretBytes, why: &str) {
        self.failed_logins.record(subject, pin.expose_secret(), why, RetryRule::Backoff);
    }

    /// The token accepted a PIN.
    pub(super) fn accept(&self, subject: &str) {
        self.failed_logins.clear(subject);
    }
}

/// What to do about a PIN that was refused.
pub(super) const AFTER_REFUSAL: &str = "put the right one there; if it is right, `psictl hsm preflight --retry` \
     tries it once more";

fn in_minutes(wait: Duration) -> String {
    match wait.as_secs().div_ceil(60) {
        1 => "1 minute".into(),
        minutes => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TokenErrorKind;
    use super::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::new(text.into())
    }

    #[test]
    fn refused_pin_is_held_back_until_it_changes_or_one_retry() {
        let failed_logins = FailedLogins::in_ram();
        let mut guard = PinGuard::new(failed_logins.clone(), false);
        assert_eq!(guard.objection("token", &secret("1234")), None);
        guard.refuse("token", &secret("1234"), "wrong");
        let told = guard.objection("token", &secret("1234")).unwrap();
        assert_eq!((told.what.as_str(), told.kind), ("wrong", TokenErrorKind::Pin));
        assert_eq!(guard.objection("token", &secret("1235")), None);
        assert_eq!(guard.objection("another token", &secret("1234")), None);
        let mut retry = PinGuard::new(failed_logins, true);
        assert_eq!(retry.objection("token", &secret("1234")), None, "one try");
        assert!(retry.objection("token", &secret("1234")).is_some(), "no more");
        retry.accept("token");
        assert_eq!(guard.objection("token", &secret("1234")), None);
    }

    #[test]
    fn unclear_failure_holds_a_pin_back_for_minutes() {
        let mut guard = PinGuard::new(FailedLogins::in_ram(), false);
        assert!(!guard.has_failed("token", &secret("1234")));
        guard.suspend("token", &secret("1234"), "CKR_DEVICE_ERROR");
        assert!(guard.has_failed("token", &secret("1234")));
        let told = guard.objection("token", &secret("1234")).unwrap();
        assert!(told.what.contains("once more in ") && told.what.contains(" minutes"), "{told}");
        assert_eq!(told.kind, TokenErrorKind::Broken);
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
        assert_eq!(empty.kind, TokenErrorKind::Pin);
        std::fs::write(&path, "\"1234\"\n").unwrap();
        let quoted = source.read().await.unwrap_err();
        assert!(quoted.what.ends_with("is in quotes: write it without them"), "{quoted}");
    }
}
