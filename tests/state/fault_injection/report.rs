//! The table of points and outcomes: `target/fault-table.md`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::shim::How;
use psi_harness::repository;

/// The table of one operation.
pub(super) struct Report {
    name: &'static str,
    text: String,
    faults: Vec<String>,
}

impl Report {
    pub(super) fn new(name: &'static str) -> Self {
        let ways = How::ALL.map(|how| how.to_string()).join(" | ");
        let rule = "|---".repeat(How::ALL.len() + 2);
        let text = format!("### {name}\n\n| | change of the disk | {ways} |\n{rule}|\n");
        Self { name, text, faults: Vec::new() }
    }

    /// Adds a point with its outcomes, in the order of [`How::ALL`].
    pub(super) fn point(&mut self, call: &str, outcomes: Vec<Result<String, String>>) {
        let number = self.text.lines().count() - 3;
        let mut cells = Vec::new();
        for (how, outcome) in How::ALL.iter().zip(outcomes) {
            cells.push(outcome.unwrap_or_else(|why| {
                self.faults.push(format!("{how} at {number}, {call}: {why}"));
                "**WRONG**".into()
            }));
        }
        writeln!(self.text, "| {number} | {call} | {} |", cells.join(" | ")).unwrap();
    }

    /// Adds the number of disk states after power cuts, and the wrong ones.
    pub(super) fn power(&mut self, states: usize, faults: Vec<String>) {
        let wrong = faults.len();
        let verdict = if wrong == 0 { "each loads whole".into() } else { format!("{wrong} WRONG") };
        writeln!(self.text, "\nPower cuts: {states} different disks, {verdict}.").unwrap();
        self.faults.extend(faults.into_iter().map(|why| format!("power cut {why}")));
    }

    /// Writes the table; panics if anything was wrong.
    #[track_caller]
    pub(super) fn finish(self) {
        let directory = repository().join("target/fault-table");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(file_name(self.name)), &self.text).unwrap();
        let faults = self.faults.join("\n  ");
        assert!(self.faults.is_empty(), "{}:\n  {faults}", self.name);
    }
}

fn file_name(name: &str) -> PathBuf {
    PathBuf::from(name.replace(|c: char| !c.is_ascii_alphanumeric(), "-") + ".md")
}
