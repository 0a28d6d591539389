//! The error of a command.

use psi_common::{Exit, Problem};

use crate::config::ConfigError;
use crate::keys::pkcs11::{TokenError, TokenErrorKind};

/// A failed command: its exit status and its message.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct CommandError {
    /// The exit status.
    pub exit: Exit,
    /// What happened, and its remedy.
    pub problem: Problem,
}

impl CommandError {
    /// The config, the command line or the set-up of the token must be corrected.
    pub(super) fn bad_input(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::BadInput, problem: Problem::new(what, remedy) }
    }

    /// A device or a service is missing.
    pub(super) fn absent(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::NoDaemon, problem: Problem::new(what, remedy) }
    }

    /// A local read or write failed.
    pub(super) fn io(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::Io, problem: Problem::new(what, remedy) }
    }

    /// `problem`, which ends with the exit status `exit`.
    pub(super) fn of(exit: Exit) -> impl FnOnce(Problem) -> Self {
        move |problem| Self { exit, problem }
    }
}

/// The config is unusable; for other commands than `psid check`.
impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::bad_input(error.to_string(), "correct it, and run `psid check`")
    }
}

impl From<TokenError> for CommandError {
    fn from(error: TokenError) -> Self {
        let exit = match error.kind {
            TokenErrorKind::Absent | TokenErrorKind::Busy | TokenErrorKind::Broken => {
                Exit::NoDaemon
            }
            TokenErrorKind::Pin | TokenErrorKind::Refused | TokenErrorKind::NoKey => Exit::BadInput,
        };
        Self { exit, problem: error.problem }
    }
}
