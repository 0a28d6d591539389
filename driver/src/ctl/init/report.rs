//! What `psictl init` prints: each step with its plain command, and what to do next.

use serde::Serialize;

use super::plan::{InitStep, StepKind};
use crate::ctl::json;
use crate::error::CliError;
use crate::stdio;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StepState {
    /// A dry run.
    Planned,
    /// It was done already.
    Skipped,
    Done,
    Failed,
}

/// The steps so far.
pub(super) struct Report {
    is_json: bool,
    ended: Vec<(InitStep, StepState)>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    changed: bool,
    steps: Vec<JsonStep<'a>>,
    undo: Vec<&'a str>,
}

#[derive(Serialize)]
struct JsonStep<'a> {
    step: &'static str,
    state: StepState,
    title: &'a str,
    command: &'a str,
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, ended: Vec::new() }
    }

    /// Prints lines of text, unless JSON is wanted.
    pub(super) fn text(&self, text: &str) -> Result<(), CliError> {
        if self.is_json { Ok(()) } else { stdio::write_text(text) }
    }

    /// Prints what a step does and the command that does the same.
    pub(super) fn begins(
        &self,
        number: usize,
        total: usize,
        step: &InitStep,
    ) -> Result<(), CliError> {
        let InitStep { title, command, .. } = step;
        self.text(&format!("\n[{number}/{total}] {title}\n  $ {command}\n"))
    }

    /// Prints how it ended, and keeps it.
    pub(super) fn ended(
        &mut self,
        step: &InitStep,
        state: StepState,
        lines: &str,
    ) -> Result<(), CliError> {
        // The step is kept even if nobody reads the line.
        self.ended.push((step.clone(), state));
        let label = match state {
            StepState::Planned => return Ok(()),
            StepState::Skipped => "done already: ",
            StepState::Done => "ok: ",
            StepState::Failed => return self.text(&indented(lines)),
        };
        let mut lines = lines.lines();
        let first = lines.next().unwrap_or("done");
        let rest: Vec<&str> = lines.collect();
        self.text(&format!("  {label}{first}\n{}", indented(&rest.join("\n"))))
    }

    /// The commands that undo what was done, the last one first.
    fn undo(&self) -> Vec<&str> {
        let done = self.ended.iter().rev().filter(|(_, state)| *state == StepState::Done);
        done.filter_map(|(step, _)| step.undo.as_deref()).collect()
    }

    /// Prints what is left behind after a failure.
    pub(super) fn failed(&self) -> Result<(), CliError> {
        let undo = self.undo();
        let text = if undo.is_empty() {
            "\nnothing was changed\n".into()
        } else {
            let commands: String = undo.iter().map(|command| format!("  $ {command}\n")).collect();
            format!("\n`psictl init` goes on from here. What was done is undone by:\n{commands}")
        };
        self.text(&text)?;
        self.json()
    }

    /// Prints the JSON, if it is wanted.
    pub(super) fn json(&self) -> Result<(), CliError> {
        if !self.is_json {
            return Ok(());
        }
        let changes = |step: &InitStep| {
            !matches!(step.kind, StepKind::LogIn | StepKind::Open | StepKind::Prove)
        };
        let steps = self.ended.iter().map(|(step, state)| JsonStep {
            step: name(&step.kind),
            state: *state,
            title: &step.title,
            command: &step.command,
        });
        // What `refresh` and `setup` change is theirs to report.
        let ran_again = [StepKind::Refresh, StepKind::Register];
        let changed = |(step, state): &(InitStep, StepState)| {
            *state == StepState::Done && changes(step) && !ran_again.contains(&step.kind)
        };
        stdio::write_text(&json::text(&JsonReport {
            changed: self.ended.iter().any(changed),
            steps: steps.collect(),
            undo: self.undo(),
        }))
    }
}

fn name(kind: &StepKind) -> &'static str {
    match kind {
        StepKind::LogIn => "login",
        StepKind::Seal(_) => "seal",
        StepKind::WriteConfig => "config",
        StepKind::Open => "open",
        StepKind::MakeKey => "key",
        StepKind::Start => "start",
        StepKind::Install => "install",
        StepKind::Prove => "prove",
        StepKind::Refresh => "refresh",
        StepKind::Register => "register",
        StepKind::StartWorkloads => "start-workloads",
    }
}

/// Each line below the step's.
pub(super) fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("      {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: StepKind, undo: Option<&str>) -> InitStep {
        let undo = undo.map(str::to_owned);
        InitStep { kind, title: String::new(), command: String::new(), done: None, undo }
    }

    #[test]
    fn undo_names_what_was_done_the_last_first() {
        let mut report = Report::new(true);
        for (kind, undo, state) in [
            (StepKind::Seal("a".into()), Some("rm a"), StepState::Done),
            (StepKind::WriteConfig, Some("rm b"), StepState::Done),
            (StepKind::MakeKey, Some("rm c"), StepState::Skipped),
            (StepKind::Prove, None, StepState::Done),
            (StepKind::Install, Some("rm d"), StepState::Failed),
        ] {
            report.ended.push((step(kind, undo), state));
        }
        assert_eq!(report.undo(), ["rm b", "rm a"]);
    }

    #[test]
    fn indented_moves_each_line() {
        assert_eq!(indented("a\nb\n"), "      a\n      b\n");
        assert_eq!(indented(""), "");
    }
}
