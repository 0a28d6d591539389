//! The user PIN: read for a login only, dropped at once, and not retried after the token refused it, by any
//! process: three wrong PINs lock a token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;

use super::error::TokenError;
use super::types::PinStatus;
use crate::keys::credential::{self, Credential, CredsError};
use crate::storage::failed_logins::{FailedLogins, RetryRule};

/// The source of the user PIN.
#[derive(Clone, Debug)]
pub enum PinSource {
    /// A systemd credential.
    Credential(Credential),
    /// A file.
    File(PathBuf),
    /// The caller of the command that checks a login.
    Given(Arc<SecretBytes>),
}

impl PinSource {
    /// Reads the PIN, without the newline that editors and `echo` append.
    pub(super) async fn read(&self) -> Result<SecretBytes, TokenError> {
        let pin = match self {
            Self::Credential(credential) => match credential.read().await {
                Ok(pin) => pin,
                Err(error) => return Err(credential_error(credential, &error).await),
            },
            Self::File(path) => match tokio::fs::read(path).await {
                Ok(bytes) => Some(SecretBytes::new(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    let what = format!("the PIN in {} cannot be read: {error}", path.display());
                    return Err(TokenError::absent(what, "check the file's owner and mode"));
                }
            },
            Self::Given(pin) => Some(SecretBytes::new(pin.expose_secret().to_vec())),
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
            Self::Given(_) => "none was given".into(),
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Credential(credential) => format!("seal it with `{}`", credential.command()),
            Self::File(path) => format!("write it to {}, mode 0600", path.display()),
            Self::Given(_) => "give the token's user PIN".into(),
        }
    }
}

/// The error of a credential that does not open. If the cause is transient, the PIN may be right.
async fn credential_error(credential: &Credential, error: &CredsError) -> TokenError {
    let fault = credential.fault(error).await;
    let reseal = format!("seal it again with `{}`", credential.command());
    let (what, remedy) = (format!("the PIN in {}", fault.what), fault.remedy(&reseal, &reseal));
    if fault.is_transient() {
        TokenError::absent(what, remedy)
    } else {
        TokenError::pin(what, remedy)
    }
}

impl std::fmt::Display for PinSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(credential) => write!(f, "the credential {}", credential.name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Given(_) => f.write_str("the command"),
        }
    }
}

/// Decides whether a PIN may be tried, by the failed logins of all processes.
pub(super) struct PinGuard {
    failed_logins: FailedLogins,
    /// Whether a refused PIN may be tried once, at the request of an admin.
    retry: bool,
}

impl PinGuard {
    pub(super) fn new(failed_logins: FailedLogins, retry: bool) -> Self {
        Self { failed_logins, retry }
    }

    /// Why this PIN must not be tried at the token `subject` now.
    pub(super) fn objection(&mut self, subject: &str, pin: &SecretBytes) -> Option<TokenError> {
        if std::mem::take(&mut self.retry) {
            return None;
        }
        let failed = self.failed_logins.look_up(subject, pin.expose_secret())?;
        Some(match failed.wait_left {
            Some(wait) => TokenError::broken(
                format!(
                    "a login with this PIN failed, and the token may have counted it as a wrong one: {}; \
                     psid retries it in {}",
                    failed.why,
                    minutes_text(wait)
                ),
                "check the token, its reader and pcscd with `pkcs11-tool -L`; `psictl hsm preflight --retry` \
                 retries it at once",
            ),
            None => Some(PinStatus::locked())
                .filter(|locked| locked.problem.what == failed.why)
                .unwrap_or_else(|| TokenError::pin(failed.why, REFUSED_REMEDY)),
        })
    }

    /// Whether a login with this PIN has failed before.
    pub(super) fn has_failed(&self, subject: &str, pin: &SecretBytes) -> bool {
        self.failed_logins.count(subject, pin.expose_secret()) > 0
    }

    /// Records that the token refused the PIN, or failed repeatedly without a clear reason.
    pub(super) fn record_refused(&self, subject: &str, pin: &SecretBytes, why: &str) {
        self.failed_logins.record(subject, pin.expose_secret(), why, RetryRule::WhenChanged);
    }

    /// Records a failure that the token may have counted. The PIN is retried once, after a pause.
    pub(super) fn record_unclear(&self, subject: &str, pin: &SecretBytes, why: &str) {
        self.failed_logins.record(subject, pin.expose_secret(), why, RetryRule::Backoff);
    }

    /// Records that the token accepted a PIN.
    pub(super) fn record_accepted(&self, subject: &str) {
        self.failed_logins.clear(subject);
    }
}

/// The remedy for a refused PIN.
pub(super) const REFUSED_REMEDY: &str =
    "store the right PIN there; if it is right, `psictl hsm preflight --retry` retries it once";

fn minutes_text(wait: Duration) -> String {
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
    fn refused_pin_is_not_retried_until_it_changes_or_an_admin_asks() {
        let failed_logins = FailedLogins::in_ram();
        let mut guard = PinGuard::new(failed_logins.clone(), false);
        assert_eq!(guard.objection("token", &secret("1234")), None);
        guard.record_refused("token", &secret("1234"), "wrong");
        let error = guard.objection("token", &secret("1234")).unwrap();
        assert_eq!((error.problem.what.as_str(), error.kind), ("wrong", TokenErrorKind::Pin));
        assert_eq!(guard.objection("token", &secret("1235")), None);
        assert_eq!(guard.objection("another token", &secret("1234")), None);
        let mut retry = PinGuard::new(failed_logins, true);
        assert_eq!(retry.objection("token", &secret("1234")), None, "one attempt");
        assert!(retry.objection("token", &secret("1234")).is_some(), "no more");
        retry.record_accepted("token");
        assert_eq!(guard.objection("token", &secret("1234")), None);
    }

    #[test]
    fn unclear_failure_delays_the_next_attempt_by_minutes() {
        let mut guard = PinGuard::new(FailedLogins::in_ram(), false);
        assert!(!guard.has_failed("token", &secret("1234")));
        guard.record_unclear("token", &secret("1234"), "CKR_DEVICE_ERROR");
        assert!(guard.has_failed("token", &secret("1234")));
        let error = guard.objection("token", &secret("1234")).unwrap();
        assert!(
            error.problem.what.contains("retries it in ")
                && error.problem.what.contains(" minutes"),
            "{error}"
        );
        assert_eq!(error.kind, TokenErrorKind::Broken);
    }

    #[tokio::test]
    async fn read_trims_the_newline_and_rejects_malformed_pins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        let source = PinSource::File(path.clone());
        let missing = source.read().await.unwrap_err().to_string();
        assert!(missing.starts_with("the PIN is missing: no /"), "{missing}");
        std::fs::write(&path, "12 34\r\n").unwrap();
        assert_eq!(source.read().await.unwrap().expose_secret(), b"12 34");
        std::fs::write(&path, "\n").unwrap();
        let empty = source.read().await.unwrap_err();
        assert!(empty.problem.what.ends_with("pin is empty"), "{empty}");
        assert_eq!(empty.kind, TokenErrorKind::Pin);
        std::fs::write(&path, "\"1234\"\n").unwrap();
        let quoted = source.read().await.unwrap_err();
        assert!(quoted.problem.what.ends_with("is in quotes: write it without them"), "{quoted}");
    }
}
