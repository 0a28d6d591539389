//! The one session: opened, logged in, and made to use the key.

use std::sync::Arc;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use psi_common::SecretBytes;

use super::call_monitor::CallMonitor;
use super::describe::{PinStatus, Unwrapping};
use super::error::{TokenError, cause, is_loss, return_value};
use super::library::{Library, label_of};
use super::pin::{AFTER_REFUSAL, PinGuard, PinSource};
use super::{KeyChoice, TokenConfig};

/// A session with the token.
pub(super) struct Connection {
    pub(super) pkcs11: Pkcs11,
    pub(super) slot: Slot,
    pub(super) board: Arc<CallMonitor>,
    pub(super) choice: KeyChoice,
    /// The private key, once it was found; a handle holds as long as the session.
    pub(super) key: Option<ObjectHandle>,
    session: Session,
    login: Login,
    /// It did something that was asked of it: a failure now means that it has grown old.
    pub(super) is_proven: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    No,
    /// The token says that the user is logged in already, and it was not us: so be it, until a use of
    /// the key shows that it is not so.
    Claimed,
    Yes,
}

/// Why a job was not done.
pub(super) enum Trouble {
    /// Another session may do better.
    Lost(TokenError),
    /// Any session would do the same.
    Final(TokenError),
}

impl Trouble {
    /// Of a call that has no failures of its own.
    pub(super) fn of_call(call: &str, error: &Error) -> Self {
        let told = TokenError::of_call(call, error);
        if is_loss(error) { Self::Lost(told) } else { Self::Final(told) }
    }
}

impl Connection {
    /// Finds the token and opens a session with it.
    pub(super) fn open(
        library: &Library,
        config: &TokenConfig,
        board: &Arc<CallMonitor>,
    ) -> Result<Self, TokenError> {
        let slot = library.find(&config.token)?;
        let pkcs11 = library.pkcs11().clone();
        let session = board
            .during("C_OpenSession", || pkcs11.open_ro_session(slot))
            .map_err(|error| TokenError::of_call("C_OpenSession", &error))?;
        Ok(Self {
            pkcs11,
            slot,
            board: Arc::clone(board),
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

    /// Nobody but the token knows whether somebody is logged in.
    pub(super) fn is_login_claimed(&self) -> bool {
        self.login == Login::Claimed
    }

    /// Logs in, unless that could lock the token.
    pub(super) fn log_in(
        &mut self,
        pin: &SecretBytes,
        config: &TokenConfig,
        guard: &mut PinGuard,
    ) -> Result<(), Trouble> {
        let info = self.token_info()?;
        let subject = subject_of(&info);
        let standing = PinStatus::of(&info);
        let objection = length_fault(pin, &info, &config.pin)
            .or_else(|| guard.objection(&subject, pin))
            .or_else(|| standing.objection());
        if let Some(objection) = objection {
            return Err(Trouble::Final(objection));
        }
        let copy = RawAuthPin::new(Box::new(pin.expose_secret().to_vec()));
        let login = self.during("C_Login", |session| session.login_with_raw(UserType::User, &copy));
        drop(copy);
        let Err(error) = login else {
            self.login = Login::Yes;
            guard.accept(&subject);
            return Ok(());
        };
        match LoginFailure::of(return_value(&error)) {
            LoginFailure::LoggedIn => {
                self.login = Login::Claimed;
                Ok(())
            }
            LoginFailure::NotSent => Err(Trouble::of_call("C_Login", &error)),
            LoginFailure::Refused => {
                let refusal = refusal(&error, &config.pin);
                guard.refuse(&subject, pin, &refusal.what);
                Err(Trouble::Final(refusal))
            }
            LoginFailure::Unclear => {
                // The token's own count decides; without one, a second such failure does.
                if standing == PinStatus::CountLow || guard.has_failed(&subject, pin) {
                    let refusal = refusal(&error, &config.pin);
                    guard.refuse(&subject, pin, &refusal.what);
                    return Err(Trouble::Final(refusal));
                }
                guard.suspend(&subject, pin, &cause(&error));
                let failed = guard.objection(&subject, pin);
                Err(Trouble::Final(
                    failed.unwrap_or_else(|| TokenError::of_call("C_Login", &error)),
                ))
            }
        }
    }

    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub(super) fn unwrap_key(&mut self, wrapped: &[u8]) -> Result<SecretBytes, Trouble> {
        let key = self.private_key()?;
        let mechanism = Unwrapping::oaep_sha256();
        let opened = self.during("C_Decrypt", |session| session.decrypt(&mechanism, key, wrapped));
        opened.map(SecretBytes::new).map_err(|error| match return_value(&error) {
            Some(
                RvError::ArgumentsBad
                | RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::MechanismInvalid
                | RvError::MechanismParamInvalid,
            ) => Trouble::Final(self.cannot_unwrap(key, &error)),
            Some(
                RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange,
            ) => Trouble::Final(not_for_this_key(&error)),
            // Some modules have no better word for a padding that does not fit.
            Some(RvError::DeviceError | RvError::FunctionFailed | RvError::GeneralError) => {
                Trouble::Lost(not_for_this_key(&error))
            }
            _ => Trouble::of_call("C_Decrypt", &error),
        })
    }

    /// `CKM_SHA256_RSA_PKCS`
    pub(super) fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>, Trouble> {
        let key = self.private_key()?;
        let sign = |session: &Session| session.sign(&Mechanism::Sha256RsaPkcs, key, message);
        self.during("C_Sign", sign).map_err(|error| match return_value(&error) {
            Some(
                RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::MechanismInvalid,
            ) => Trouble::Final(TokenError::refused(
                format!(
                    "the token's key with the {} does not sign with CKM_SHA256_RSA_PKCS: {}",
                    self.named(),
                    cause(&error)
                ),
                "make one that may sign and decrypt, with \
                 `pkcs11-tool --login --keypairgen --key-type rsa:2048 --usage-sign --usage-decrypt`",
            )),
            _ => Trouble::of_call("C_Sign", &error),
        })
    }

    fn cannot_unwrap(&self, key: ObjectHandle, error: &Error) -> TokenError {
        let can = self.unwrapping(key).map_or_else(|_| String::new(), |can| format!("; {can}"));
        TokenError::refused(
            format!(
                "the token does not undo RSA-OAEP with SHA-256 with its key with the {}: {}{can}",
                self.named(),
                cause(error),
            ),
            "use a token, or a newer module, that does, and a key that may decrypt",
        )
    }

    pub(super) fn token_info(&self) -> Result<TokenInfo, Trouble> {
        let info = self.board.during("C_GetTokenInfo", || self.pkcs11.get_token_info(self.slot));
        info.map_err(|error| Trouble::of_call("C_GetTokenInfo", &error))
    }

    pub(super) fn during<T>(&self, call: &'static str, make: impl FnOnce(&Session) -> T) -> T {
        self.board.during(call, || make(&self.session))
    }
}

fn not_for_this_key(error: &Error) -> TokenError {
    TokenError::refused(
        format!("the token does not open what it was given: {}", cause(error)),
        "it was wrapped for another key, or is damaged: check key_label, key_id and the token",
    )
}

fn refusal(error: &Error, source: &PinSource) -> TokenError {
    if return_value(error) == Some(RvError::PinLocked) {
        return PinStatus::locked();
    }
    TokenError::pin(
        format!(
            "the token refused the PIN in {source} ({}), and psid does not try it again",
            cause(error)
        ),
        AFTER_REFUSAL,
    )
}

/// A token, by what stays the same in whichever slot and process it is.
fn subject_of(info: &TokenInfo) -> String {
    let name = format!(
        "PIN of the token '{}', {} {}, serial {}",
        label_of(info),
        info.manufacturer_id(),
        info.model(),
        info.serial_number()
    );
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A PIN of a length that the token does not take, as far as it says which it takes.
fn length_fault(pin: &SecretBytes, info: &TokenInfo, source: &PinSource) -> Option<TokenError> {
    let (shortest, longest) = (info.min_pin_length(), info.max_pin_length());
    // Some modules say nothing, or something impossible.
    let says = longest > 0 && shortest <= longest;
    if pin.len() <= LONGEST_PIN && (!says || (shortest..=longest).contains(&pin.len())) {
        return None;
    }
    let takes = if says { (shortest, longest.min(LONGEST_PIN)) } else { (1, LONGEST_PIN) };
    Some(TokenError::pin(
        format!(
            "the PIN in {source} has a length that the token does not take: {} to {} bytes",
            takes.0, takes.1
        ),
        "put the right one there; it was not tried",
    ))
}

/// Longer than any PIN: another file was taken for it.
const LONGEST_PIN: usize = 255;

/// What a failure of C_Login says of the tries that the token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginFailure {
    /// The user is logged in already.
    LoggedIn,
    /// The module gave up before the PIN was sent to the token.
    NotSent,
    /// The token refused the PIN, or it is locked.
    Refused,
    /// It may have cost a try. Some modules answer so to a wrong PIN.
    Unclear,
}

impl LoginFailure {
    fn of(value: Option<RvError>) -> Self {
        let Some(value) = value else { return Self::Unclear };
        match value {
            RvError::UserAlreadyLoggedIn => Self::LoggedIn,
            // There is no instance of the module, or it has no such function.
            RvError::CryptokiNotInitialized | RvError::FunctionNotSupported
            // There is no session, or one that is not of this slot.
            | RvError::SessionHandleInvalid | RvError::SessionClosed | RvError::SlotIdInvalid
            // There is nothing in the slot. (DeviceRemoved says that it went during the call.)
            | RvError::TokenNotPresent | RvError::TokenNotRecognized
            // The module refuses the kind of login, whatever the PIN is.
            | RvError::UserAnotherAlreadyLoggedIn | RvError::UserTooManyTypes
            | RvError::UserTypeInvalid | RvError::SessionReadOnlyExists
            // There is no PIN that a wrong one could be compared with.
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
        // A failure of the crate's own, after the call.
        assert_eq!(LoginFailure::of(None), LoginFailure::Unclear);
    }
}
