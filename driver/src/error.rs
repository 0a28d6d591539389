//! The error of a command: what an operator reads, and the exit status.

use std::fmt;

use psi_common::{Exit, Problem, for_own_scope};

/// An error that ends a command: an exit status and a problem with its remedy.
///
/// Displayed as one line of printable characters: `what; remedy`.
#[derive(Debug)]
pub(crate) struct CliError {
    exit: Exit,
    problem: Problem,
}

impl CliError {
    /// An error with its remedy; commands in the remedy are adapted to this process's scope.
    pub(crate) fn new(exit: Exit, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = for_own_scope(&remedy.into()).into_owned();
        Self { exit, problem: Problem::new(what, remedy) }
    }

    /// An error whose message is complete, such as psid's or podman's own.
    pub(crate) fn without_remedy(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, problem: Problem::without_remedy(message) }
    }

    /// An exit status without a message: the report on stdout or the child's stderr has it, or none is wanted.
    pub(crate) fn status_only(exit: Exit) -> Self {
        Self::without_remedy(exit, "")
    }

    /// A local read or write failed.
    pub(crate) fn io(doing: &str, cause: &std::io::Error, remedy: &str) -> Self {
        Self::new(Exit::Io, format!("{doing}: {cause}"), remedy)
    }

    /// The error with what was being done, in front of what happened.
    #[must_use]
    pub(crate) fn while_doing(mut self, doing: &str) -> Self {
        if self.has_message() {
            self.problem.what = format!("{doing}: {}", self.problem.what);
        }
        self
    }

    /// The error with another exit status.
    #[must_use]
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The problem without the exit status.
    pub(crate) fn into_problem(self) -> Problem {
        self.problem
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn has_message(&self) -> bool {
        !self.problem.what.is_empty()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}
