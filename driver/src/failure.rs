//! What went wrong, in the words that the operator gets.

use std::fmt;

use psi_common::{Exit, check, for_own_scope};

/// A failure: an exit code, what happened with its cause, and what to do.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: Exit,
    what: String,
    remedy: String,
}

impl CliError {
    /// A failure with its remedy.
    pub(crate) fn new(exit: Exit, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (what, remedy) = (what.into(), remedy.into());
        Self { exit, what, remedy: for_own_scope(&remedy).into_owned() }
    }

    /// A failure in the daemon's words, which hold the remedy already.
    pub(crate) fn told(exit: Exit, line: impl Into<String>) -> Self {
        Self::new(exit, line, "")
    }

    /// A failure that must not be heard: podman goes on after it, and succeeds.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "", "")
    }

    /// Reading or writing locally failed.
    pub(crate) fn io(doing: &str, cause: &std::io::Error, remedy: &str) -> Self {
        Self::new(Exit::Io, format!("{doing}: {cause}"), remedy)
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.what.is_empty()
    }
}

/// One line, whatever a cause holds: it may be for a terminal, which takes some characters for orders.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&check::printable(&self.what))?;
        if self.remedy.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", check::printable(&self.remedy))
    }
}
