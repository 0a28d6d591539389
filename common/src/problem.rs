//! Problems: what happened, with its cause, and the remedy.

use serde::{Deserialize, Serialize};

use crate::check;

/// A problem: what happened, with its cause, and the command or the change that fixes it.
///
/// Displayed as one line, `what; remedy`, in printable characters only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}", self.line())]
pub struct Problem {
    /// What happened, with its cause.
    pub what: String,
    /// The remedy; empty if `what` includes it or there is none.
    pub remedy: String,
}

impl Problem {
    /// A problem with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    /// A problem without a remedy of its own.
    pub fn without_remedy(what: impl Into<String>) -> Self {
        Self::new(what, "")
    }

    fn line(&self) -> String {
        let what = check::printable(&self.what);
        match self.remedy.as_str() {
            "" => what.into_owned(),
            remedy => format!("{what}; {}", check::printable(remedy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_printable_line() {
        let problem = Problem::new("reading \u{1b}[2J failed\nEIO", "check the disk");
        assert_eq!(problem.to_string().lines().count(), 1);
        assert!(!problem.to_string().contains('\u{1b}'));
        assert!(problem.to_string().ends_with("; check the disk"));
        assert_eq!(Problem::without_remedy("no key").to_string(), "no key");
    }
}
