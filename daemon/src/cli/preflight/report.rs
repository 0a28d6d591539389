//! What a walk along the chain found, for people and for programs.

use std::fmt;

use psi_common::Exit;
use serde_json::{Value, json};

use super::Found;
use crate::keys::pkcs11::{TokenError, TokenErrorKind};

/// What was found, in the order of the steps.
pub struct PreflightReport<'a> {
    steps: Vec<(Step, Outcome)>,
    tell: &'a dyn Fn(&str),
}

/// A link; each takes those before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Config,
    Module,
    Socket,
    Token,
    Pin,
    Key,
    Mechanisms,
    RoundTrip,
}

enum Outcome {
    Good(String),
    Skipped(String),
    Failed(StepFault),
}

/// What is wrong with a link.
pub struct StepFault {
    what: String,
    remedy: String,
    /// How the program ends for it.
    pub exit: Exit,
}

impl<'a> PreflightReport<'a> {
    /// An empty report; `tell` gets a line a step.
    pub(super) fn new(tell: &'a dyn Fn(&str)) -> Self {
        Self { steps: Vec::new(), tell }
    }

    /// Takes note of a step, and hands its value on; none when the link is broken.
    pub(super) fn take<T>(&mut self, step: Step, found: Found<T>) -> Option<T> {
        let (value, outcome) = match found {
            Ok((value, words)) => (Some(value), Outcome::Good(words)),
            Err(fault) => (None, Outcome::Failed(fault)),
        };
        self.note(step, outcome);
        value
    }

    pub(super) fn skip(&mut self, step: Step, why: &str) {
        self.note(step, Outcome::Skipped(why.into()));
    }

    /// What lies behind a broken link was not tried.
    pub(super) fn skip_rest(&mut self) {
        for step in &Step::ALL[self.steps.len()..] {
            self.skip(*step, "not reached");
        }
    }

    fn note(&mut self, step: Step, outcome: Outcome) {
        (self.tell)(&format!("{:<8} {:<11} {outcome}\n", outcome.name(), step.name()));
        self.steps.push((step, outcome));
    }

    /// The link that is broken, by its name; none when the chain holds.
    pub fn fault(&self) -> Option<(&'static str, &StepFault)> {
        self.steps.iter().find_map(|(step, outcome)| match outcome {
            Outcome::Failed(fault) => Some((step.name(), fault)),
            _ => None,
        })
    }

    /// All of it as JSON.
    pub fn to_json(&self) -> String {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(step, outcome)| {
                let (detail, remedy) = match outcome {
                    Outcome::Good(words) | Outcome::Skipped(words) => (words, None),
                    Outcome::Failed(fault) => (&fault.what, Some(&fault.remedy)),
                };
                let result = outcome.name().to_ascii_lowercase();
                json!({"step": step.name(), "result": result, "detail": detail, "remedy": remedy})
            })
            .collect();
        format!("{:#}\n", json!({"ok": self.fault().is_none(), "steps": steps}))
    }
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Config,
        Self::Module,
        Self::Socket,
        Self::Token,
        Self::Pin,
        Self::Key,
        Self::Mechanisms,
        Self::RoundTrip,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Module => "module",
            Self::Socket => "socket",
            Self::Token => "token",
            Self::Pin => "pin",
            Self::Key => "key",
            Self::Mechanisms => "mechanisms",
            Self::RoundTrip => "round-trip",
        }
    }
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Good(_) => "ok",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(words) | Self::Skipped(words) => f.write_str(words),
            Self::Failed(fault) => fault.fmt(f),
        }
    }
}

impl StepFault {
    /// A fault that the config or the token's set-up is to be changed for.
    pub(super) fn of_config(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), exit: Exit::BadInput }
    }

    /// Something is not there that should be.
    pub(super) fn of_absence(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), exit: Exit::NoDaemon }
    }
}

impl From<TokenError> for StepFault {
    fn from(error: TokenError) -> Self {
        match error.kind {
            TokenErrorKind::Absent | TokenErrorKind::Busy | TokenErrorKind::Broken => {
                Self::of_absence(error.problem.what, error.problem.remedy)
            }
            TokenErrorKind::Pin | TokenErrorKind::Refused | TokenErrorKind::NoKey => {
                Self::of_config(error.problem.what, error.problem.remedy)
            }
        }
    }
}

/// One line, whatever a cause holds.
impl fmt::Display for StepFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{}; {}", self.what, self.remedy).replace(['\n', '\r'], " "))
    }
}
