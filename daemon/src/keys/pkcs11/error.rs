//! What goes wrong with tokens, in words and by what the caller can do.

use std::fmt;

use cryptoki::error::{Error, RvError};

/// Why the token did not do what was asked, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    /// What happened, with its cause.
    pub what: String,
    /// What to do.
    pub remedy: String,
    /// What it means for the caller.
    pub kind: TokenErrorKind,
}

/// What an error means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenErrorKind {
    /// The token or its module is not there; it may come back by itself.
    Absent,
    /// The PIN is missing, wrong or locked: nothing changes before somebody sees to it.
    Pin,
    /// The answer was not there in time; the next one may be.
    Busy,
    /// The token is there, and will not do this.
    Refused,
    /// The token is there, and has not the key that the config names.
    NoKey,
    /// The token, its module or the thread that owns it failed in a way that it should not.
    Broken,
}

impl TokenError {
    fn new(kind: TokenErrorKind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), kind }
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

    /// The thread that owns the token panicked, or is gone.
    pub(super) fn died() -> Self {
        Self::broken(
            "the thread that owns the token crashed",
            "the next call opens the token anew; if that crashes again, report it with psid's log",
        )
    }

    /// A call of the module failed, in a session that was new or in its making.
    pub(super) fn of_call(call: &str, error: &Error) -> Self {
        let what = format!("the token failed at {call}: {}", cause(error));
        if is_absence(error) {
            Self::absent(what, "plug it in; psid looks for it again at the next call")
        } else {
            Self::broken(what, "check the token, its reader and pcscd with `pkcs11-tool -L`")
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for TokenError {}

/// The module's return value, when it gave one.
pub(super) fn return_value(error: &Error) -> Option<RvError> {
    match error {
        Error::Pkcs11(value, _) => Some(*value),
        _ => None,
    }
}

/// Nothing is in the slot, or no longer what was.
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

/// The session may be of yesterday: the token was pulled out and put back, pcscd was restarted, or the
/// module was finalised by somebody else. A new one may do better.
pub(super) fn is_loss(error: &Error) -> bool {
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

/// An error in the words of the standard: `CKR_PIN_INCORRECT`. The crate's own text is a paragraph.
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
    fn return_values_have_the_standard_s_names() {
        let named = |value| cause(&Error::Pkcs11(value, Function::Login));
        assert_eq!(named(RvError::PinIncorrect), "CKR_PIN_INCORRECT");
        assert_eq!(named(RvError::UserAlreadyLoggedIn), "CKR_USER_ALREADY_LOGGED_IN");
        assert_eq!(named(RvError::UnknownErrorCode(0x1234)), "return value 0x1234");
    }

    #[test]
    fn an_error_is_one_line_with_its_remedy() {
        let error = Error::Pkcs11(RvError::TokenNotPresent, Function::OpenSession);
        let error = TokenError::of_call("C_OpenSession", &error);
        assert_eq!(error.kind, TokenErrorKind::Absent);
        assert_eq!(
            error.to_string(),
            "the token failed at C_OpenSession: CKR_TOKEN_NOT_PRESENT; \
             plug it in; psid looks for it again at the next call"
        );
    }
}
