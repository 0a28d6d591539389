//! The report of a preflight, as text and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::StepResult;
use crate::cli::error::CommandError;

/// The outcomes, in the order of the steps.
pub struct PreflightReport<'a> {
    steps: Vec<(Step, Outcome)>,
    print: &'a dyn Fn(&str),
}

/// A step; it needs those before it.
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
    Passed(String),
    Skipped(String),
    Failed(CommandError),
}

impl<'a> PreflightReport<'a> {
    /// An empty report; `print` gets one line per step.
    pub(super) fn new(print: &'a dyn Fn(&str)) -> Self {
        Self { steps: Vec::new(), print }
    }

    /// Records a step and returns its value, if it passed.
    pub(super) fn record<T>(&mut self, step: Step, result: StepResult<T>) -> Option<T> {
        let (value, outcome) = match result {
            Ok((value, sentence)) => (Some(value), Outcome::Passed(sentence)),
            Err(error) => (None, Outcome::Failed(error)),
        };
        self.push(step, outcome);
        value
    }

    pub(super) fn skip(&mut self, step: Step, why: &str) {
        self.push(step, Outcome::Skipped(why.into()));
    }

    /// Records the steps after a failure as skipped.
    pub(super) fn skip_rest(&mut self) {
        for step in &Step::ALL[self.steps.len()..] {
            self.skip(*step, "not reached");
        }
    }

    fn push(&mut self, step: Step, outcome: Outcome) {
        (self.print)(&format!("{:<8} {:<11} {outcome}\n", outcome.name(), step.name()));
        self.steps.push((step, outcome));
    }

    /// The name and the error of the failed step, if there is one.
    pub fn failure(&self) -> Option<(&'static str, &CommandError)> {
        self.steps.iter().find_map(|(step, outcome)| match outcome {
            Outcome::Failed(error) => Some((step.name(), error)),
            _ => None,
        })
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(step, outcome)| {
                let (detail, remedy) = match outcome {
                    Outcome::Passed(text) | Outcome::Skipped(text) => (text, None),
                    Outcome::Failed(CommandError { problem, .. }) => {
                        (&problem.what, Some(&problem.remedy))
                    }
                };
                let result = outcome.name().to_ascii_lowercase();
                json!({"step": step.name(), "result": result, "detail": detail, "remedy": remedy})
            })
            .collect();
        format!("{:#}\n", json!({"ok": self.failure().is_none(), "steps": steps}))
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
            Self::Passed(_) => "ok",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(text) | Self::Skipped(text) => f.write_str(text),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
