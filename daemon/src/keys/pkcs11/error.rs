//! Errors of tokens, by what the caller can do about them.

use cryptoki::error::{Error, RvError};
use psi_common::Problem;

/// A request to a token failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TokenError {
    /// What happened, and its remedy.
    pub problem: Problem,
    /// What it means for the caller.
    pub kind: TokenErrorKind,
}

/// What an error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenErrorKind {
    /// The token or its module is missing; it may come back.
    Absent,
    /// The PIN is missing, wrong or locked, until an admin corrects it.
    Pin,
    /// The request timed out; the next one may succeed.
    Busy,
    /// The token works, and refuses this request.
    Refused,
    /// The token works, and lacks the key that the config names.
    NoKey,
    /// The token, its module or the worker thread failed unexpectedly.
    Broken,
}

impl TokenError {
    fn new(kind: TokenErrorKind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: Problem::new(what, remedy), kind }
    }

    pub(super) fn absent(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(TokenErrorKind::Absent, what, remedy)
    }

    pub(super) fn pin(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(TokenErrorKind::Pin, what, remedy)
    }

    pub(super) fn busy(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(TokenErrorKind::Busy, what, remedy)
    }

    pub(super) fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(TokenErrorKind::Refused, what, remedy)
    }

    pub(super) fn no_key(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(TokenErrorKind::NoKey, what, remedy)
    }

    pub(super) fn broken(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(TokenErrorKind::Broken, what, remedy)
    }

    /// The worker thread panicked or has ended.
    pub(super) fn crashed() -> Self {
        Self::broken(
            "the thread that owns the token crashed",
            "the next call opens the token again; if that crashes too, report it with `journalctl -u psid`",
        )
    }

    /// A call of the module failed, in a session that is new or not open yet.
    pub(super) fn of_call(call: &str, error: &Error) -> Self {
        let what = format!("the token failed at {call}: {}", cause(error));
        if is_absence(error) {
            Self::absent(what, "plug it in; psid looks for it at the next call")
        } else {
            Self::broken(what, "check the token, its reader and pcscd with `pkcs11-tool -L`")
        }
    }
}

/// The return value of the module, if there is one.
pub(super) fn return_value(error: &Error) -> Option<RvError> {
    match error {
        Error::Pkcs11(value, _) => Some(*value),
        _ => None,
    }
}

/// The token was removed from its slot.
fn is_absence(error: &Error) -> bool {
    matches!(
        return_value(error),
        Some(
            RvError::DeviceRemoved
                | RvError::SlotIdInvalid
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
        )
    )
}

/// Whether a new session may succeed: the token was removed and reinserted, pcscd was restarted, or other code of
/// this process finalised the module.
pub(super) fn is_session_lost(error: &Error) -> bool {
    is_absence(error)
        || matches!(
            return_value(error),
            Some(
                RvError::CryptokiNotInitialized
                    | RvError::DeviceError
                    | RvError::FunctionFailed
                    | RvError::GeneralError
                    | RvError::KeyHandleInvalid
                    | RvError::ObjectHandleInvalid
                    | RvError::OperationActive
                    | RvError::OperationNotInitialized
                    | RvError::SessionClosed
                    | RvError::SessionHandleInvalid
                    | RvError::UserNotLoggedIn
            )
        )
}

/// The name of an error in the standard, such as `CKR_PIN_INCORRECT`: the text of the crate is a paragraph.
pub(super) fn cause(error: &Error) -> String {
    match error {
        Error::Pkcs11(RvError::VendorDefined(code), _) => format!("CKR_VENDOR_DEFINED {code:#x}"),
        Error::Pkcs11(RvError::UnknownErrorCode(code), _) => format!("return value {code:#x}"),
        Error::Pkcs11(value, _) => {
            let mut name = String::from("CKR");
            for letter in format!("{value:?}").chars() {
                if letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            name
        }
        other => other.to_string().replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::context::Function;

    #[test]
    fn cause_is_the_name_of_the_standard() {
        let named = |value| cause(&Error::Pkcs11(value, Function::Login));
        assert_eq!(named(RvError::PinIncorrect), "CKR_PIN_INCORRECT");
        assert_eq!(named(RvError::UserAlreadyLoggedIn), "CKR_USER_ALREADY_LOGGED_IN");
        assert_eq!(named(RvError::UnknownErrorCode(0x1234)), "return value 0x1234");
    }

    #[test]
    fn display_is_one_line_with_the_remedy() {
        let error = Error::Pkcs11(RvError::TokenNotPresent, Function::OpenSession);
        let error = TokenError::of_call("C_OpenSession", &error);
        assert_eq!(error.kind, TokenErrorKind::Absent);
        assert_eq!(
            error.to_string(),
            "the token failed at C_OpenSession: CKR_TOKEN_NOT_PRESENT; \
             plug it in; psid looks for it at the next call"
        );
    }
}
