//! The session: login, and use of the key.

use std::sync::Arc;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session as CryptokiSession, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use psi_common::SecretBytes;

use super::call_monitor::CallMonitor;
use super::error::{TokenError, cause, is_session_lost, return_value};
use super::library::{Library, label_of};
use super::pin::{PinGuard, PinSource, REFUSED_REMEDY};
use super::types::{PinStatus, Unwrapping};
use super::{KeyChoice, TokenConfig};

/// A session with the token.
pub(super) struct Session {
    pub(super) pkcs11: Pkcs11,
    pub(super) slot: Slot,
    pub(super) monitor: Arc<CallMonitor>,
    pub(super) choice: KeyChoice,
    /// The handle of the private key, once found. It is valid as long as the session.
    pub(super) key: Option<ObjectHandle>,
    session: CryptokiSession,
    login: Login,
    /// Whether a job succeeded: after that, a failure means that the session is no longer valid.
    pub(super) is_proven: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    No,
    /// The token reports a login by other code. It counts as a login until a use of the key fails.
    Claimed,
    Yes,
}

/// A job failed.
pub(super) enum JobError {
    /// A new session may succeed.
    Retryable(TokenError),
    /// Any session would fail in the same way.
    Permanent(TokenError),
}

impl JobError {
    /// The error of a call without specific errors.
    pub(super) fn of_call(call: &str, error: &Error) -> Self {
        let token_error = TokenError::of_call(call, error);
        if is_session_lost(error) {
            Self::Retryable(token_error)
        } else {
            Self::Permanent(token_error)
        }
    }
}

impl Session {
    /// Finds the token and opens a session with it.
    pub(super) fn open(
        library: &Library,
        config: &TokenConfig,
        monitor: &Arc<CallMonitor>,
    ) -> Result<Self, TokenError> {
        let slot = library.find(&config.token)?;
        let pkcs11 = library.pkcs11().clone();
        let session = monitor
            .watch("C_OpenSession", || pkcs11.open_ro_session(slot))
            .map_err(|error| TokenError::of_call("C_OpenSession", &error))?;
        Ok(Self {
            pkcs11,
            slot,
            monitor: Arc::clone(monitor),
            choice: config.key.clone(),
            key: None,
            session,
            login: Login::No,
            is_proven: false,
        })
    }

    pub(super) fn is_logged_in(&self) -> bool {
        self.login != Login::No
    }

    /// Whether only the token reports that a user is logged in.
    pub(super) fn is_login_claimed(&self) -> bool {
        self.login == Login::Claimed
    }

    /// Logs in, unless that could lock the PIN.
    pub(super) fn log_in(
        &mut self,
        pin: &SecretBytes,
        config: &TokenConfig,
        guard: &mut PinGuard,
    ) -> Result<(), JobError> {
        let info = self.token_info()?;
        let subject = identity_of(&info);
        let pin_status = PinStatus::of(&info);
        let objection = length_fault(pin, &info, &config.pin)
            .or_else(|| guard.objection(&subject, pin))
            .or_else(|| pin_status.objection());
        if let Some(objection) = objection {
            return Err(JobError::Permanent(objection));
        }
        let copy = RawAuthPin::new(Box::new(pin.expose_secret().to_vec()));
        let login = self.watch("C_Login", |session| session.login_with_raw(UserType::User, &copy));
        drop(copy);
        let Err(error) = login else {
            self.login = Login::Yes;
            guard.record_accepted(&subject);
            return Ok(());
        };
        match LoginFailure::of(return_value(&error)) {
            LoginFailure::LoggedIn => {
                self.login = Login::Claimed;
                Ok(())
            }
            LoginFailure::NotSent => Err(JobError::of_call("C_Login", &error)),
            LoginFailure::Refused => {
                let refused = refused_pin(&error, &config.pin);
                guard.record_refused(&subject, pin, &refused.problem.what);
                Err(JobError::Permanent(refused))
            }
            LoginFailure::Unclear => {
                // Decides by the token's own counter; without one, a second such failure counts as refused.
                if pin_status == PinStatus::CountLow || guard.has_failed(&subject, pin) {
                    let refused = refused_pin(&error, &config.pin);
                    guard.record_refused(&subject, pin, &refused.problem.what);
                    return Err(JobError::Permanent(refused));
                }
                guard.record_unclear(&subject, pin, &cause(&error));
                let failed = guard.objection(&subject, pin);
                Err(JobError::Permanent(
                    failed.unwrap_or_else(|| TokenError::of_call("C_Login", &error)),
                ))
            }
        }
    }

    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub(super) fn unwrap_key(&mut self, wrapped: &[u8]) -> Result<SecretBytes, JobError> {
        let key = self.private_key()?;
        let mechanism = Unwrapping::oaep_sha256();
        let opened = self.watch("C_Decrypt", |session| session.decrypt(&mechanism, key, wrapped));
        opened.map(SecretBytes::new).map_err(|error| match return_value(&error) {
            Some(
                RvError::ArgumentsBad
                | RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::MechanismInvalid
                | RvError::MechanismParamInvalid,
            ) => JobError::Permanent(self.cannot_unwrap(key, &error)),
            Some(
                RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange,
            ) => JobError::Permanent(not_for_this_key(&error)),
            // Some modules report a wrong padding this way.
            Some(RvError::DeviceError | RvError::FunctionFailed | RvError::GeneralError) => {
                JobError::Retryable(not_for_this_key(&error))
            }
            _ => JobError::of_call("C_Decrypt", &error),
        })
    }

    /// `CKM_SHA256_RSA_PKCS`
    pub(super) fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>, JobError> {
        let key = self.private_key()?;
        let sign =
            |session: &CryptokiSession| session.sign(&Mechanism::Sha256RsaPkcs, key, message);
        self.watch("C_Sign", sign).map_err(|error| match return_value(&error) {
            Some(
                RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::MechanismInvalid,
            ) => JobError::Permanent(TokenError::refused(
                format!(
                    "the token's key with the {} does not sign with CKM_SHA256_RSA_PKCS: {}",
                    self.named(),
                    cause(&error)
                ),
                "generate one that may sign and decrypt, with \
                 `pkcs11-tool --login --keypairgen --key-type rsa:2048 --usage-sign --usage-decrypt`",
            )),
            _ => JobError::of_call("C_Sign", &error),
        })
    }

    fn cannot_unwrap(&self, key: ObjectHandle, error: &Error) -> TokenError {
        let can = self.unwrapping(key).map_or_else(|_| String::new(), |can| format!("; {can}"));
        TokenError::refused(
            format!(
                "the token does not decrypt RSA-OAEP with SHA-256 with its key with the {}: {}{can}",
                self.named(),
                cause(error),
            ),
            "use a token or a newer module that does, and a key that may decrypt",
        )
    }

    pub(super) fn token_info(&self) -> Result<TokenInfo, JobError> {
        let info = self.monitor.watch("C_GetTokenInfo", || self.pkcs11.get_token_info(self.slot));
        info.map_err(|error| JobError::of_call("C_GetTokenInfo", &error))
    }

    pub(super) fn watch<T>(
        &self,
        call: &'static str,
        run: impl FnOnce(&CryptokiSession) -> T,
    ) -> T {
        self.monitor.watch(call, || run(&self.session))
    }
}

fn not_for_this_key(error: &Error) -> TokenError {
    TokenError::refused(
        format!("the token cannot decrypt the data: {}", cause(error)),
        "it was wrapped for another key, or is damaged: check key_label, key_id and the token",
    )
}

fn refused_pin(error: &Error, source: &PinSource) -> TokenError {
    if return_value(error) == Some(RvError::PinLocked) {
        return PinStatus::locked();
    }
    TokenError::pin(
        format!(
            "the token refused the PIN in {source} ({}), and psid will not retry it",
            cause(error)
        ),
        REFUSED_REMEDY,
    )
}

/// Identifies a token by what does not depend on its slot or on the process.
fn identity_of(info: &TokenInfo) -> String {
    let name = format!(
        "PIN of the token '{}', {} {}, serial {}",
        label_of(info),
        info.manufacturer_id(),
        info.model(),
        info.serial_number()
    );
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The error for a PIN whose length the token does not accept, if the token reports its limits.
fn length_fault(pin: &SecretBytes, info: &TokenInfo, source: &PinSource) -> Option<TokenError> {
    let (shortest, longest) = (info.min_pin_length(), info.max_pin_length());
    // Some modules report no limits, or impossible ones.
    let is_reported = longest > 0 && shortest <= longest;
    if pin.len() <= MAX_PIN && (!is_reported || (shortest..=longest).contains(&pin.len())) {
        return None;
    }
    let limits = if is_reported { (shortest, longest.min(MAX_PIN)) } else { (1, MAX_PIN) };
    Some(TokenError::pin(
        format!(
            "the PIN in {source} has a length that the token does not accept; it accepts {} to {} bytes",
            limits.0, limits.1
        ),
        "store the right PIN there; it was not tried",
    ))
}

/// A longer PIN is probably another file.
const MAX_PIN: usize = 255;

/// What an error of C_Login means for the attempts that the token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginFailure {
    /// The user is logged in already.
    LoggedIn,
    /// The module failed before it sent the PIN to the token.
    NotSent,
    /// The token refused the PIN, or the PIN is locked.
    Refused,
    /// The token may have counted an attempt: some modules return these errors for a wrong PIN.
    Unclear,
}

impl LoginFailure {
    fn of(value: Option<RvError>) -> Self {
        let Some(value) = value else { return Self::Unclear };
        match value {
            RvError::UserAlreadyLoggedIn => Self::LoggedIn,
            // The module is not initialised, or lacks the function.
            RvError::CryptokiNotInitialized | RvError::FunctionNotSupported
            // There is no session of this slot.
            | RvError::SessionHandleInvalid | RvError::SessionClosed | RvError::SlotIdInvalid
            // The slot is empty. (DeviceRemoved: the token was removed during the call.)
            | RvError::TokenNotPresent | RvError::TokenNotRecognized
            // The module refuses this kind of login with any PIN.
            | RvError::UserAnotherAlreadyLoggedIn | RvError::UserTooManyTypes
            | RvError::UserTypeInvalid | RvError::SessionReadOnlyExists
            // The token has no PIN to compare with.
            | RvError::UserPinNotInitialized => Self::NotSent,
            RvError::PinExpired
            | RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinLocked => Self::Refused,
            _ => Self::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_failures_count_as_tries_unless_the_pin_was_not_sent() {
        let of = |value| LoginFailure::of(Some(value));
        for value in [
            RvError::GeneralError,
            RvError::FunctionFailed,
            RvError::DeviceError,
            RvError::DeviceRemoved,
            RvError::DeviceMemory,
            RvError::HostMemory,
            RvError::ArgumentsBad,
            RvError::FunctionCanceled,
            RvError::OperationActive,
            RvError::VendorDefined(7),
            RvError::UnknownErrorCode(7),
        ] {
            assert_eq!(of(value), LoginFailure::Unclear, "{value:?}");
        }
        for value in
            [RvError::TokenNotPresent, RvError::SessionHandleInvalid, RvError::UserTypeInvalid]
        {
            assert_eq!(of(value), LoginFailure::NotSent, "{value:?}");
        }
        for value in [RvError::PinIncorrect, RvError::PinLenRange, RvError::PinLocked] {
            assert_eq!(of(value), LoginFailure::Refused, "{value:?}");
        }
        assert_eq!(of(RvError::UserAlreadyLoggedIn), LoginFailure::LoggedIn);
        // An error of the crate itself, after the call.
        assert_eq!(LoginFailure::of(None), LoginFailure::Unclear);
    }
}
