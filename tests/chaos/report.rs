//! The results of each step: `target/chaos.md`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::model::Counts;
use psi_harness::repository;

/// A row of the table.
pub(super) struct Row {
    pub(super) fault: String,
    pub(super) seconds: f64,
    pub(super) served: u64,
    pub(super) refused: u64,
    /// The lookup of an uncached secret.
    pub(super) unknown: String,
    pub(super) refresh: String,
    pub(super) provider: String,
    pub(super) calls: u64,
    pub(super) bound: u64,
}

#[derive(Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, row: Row) {
        println!("chaos: step {}: {}", self.rows.len() + 1, row.line(1));
        self.rows.push(row);
    }

    pub(super) fn note(&mut self, what: String) {
        println!("chaos: {what}");
        self.notes.push(what);
    }

    /// Writes and prints the report.
    pub(super) fn write(&self, seed: u64, counts: &Counts, memory: &str, failures: &[String]) {
        let mut text =
            format!("# Chaos\n\n{}\n\n{memory}\n\n", self.figures(seed, counts, failures.len()));
        text += "Lookups of cached secrets by 32 clients; a secret that psid never had, and \
                 `psictl cache refresh`, by exit code; requests that reached the provider, and what \
                 the bound allows.\n\n";
        text += "| fault | times | s | served | refused | not cached | refresh | psid says | calls | bound |\n";
        text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        let mut by_fault: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        self.rows.iter().for_each(|row| by_fault.entry(&row.fault).or_default().push(row));
        for rows in by_fault.values() {
            text += &sum(rows).line(rows.len());
            text.push('\n');
        }
        for note in &self.notes {
            writeln!(text, "\n{note}").unwrap();
        }
        for failure in failures {
            writeln!(text, "\nFAILED {failure}").unwrap();
        }
        std::fs::write(repository().join("target/chaos.md"), &text).unwrap();
        println!("{text}");
    }

    fn figures(&self, seed: u64, counts: &Counts, failures: usize) -> String {
        let kinds: std::collections::BTreeSet<_> = self.rows.iter().map(|row| &row.fault).collect();
        format!(
            "seed {seed}: {} steps, {} lookups ({} served, {} refused as revoked), {} faults of {} kinds, \
             failures: {failures}. The slowest lookup took {} ms.",
            self.rows.len(),
            counts.lookups,
            counts.served,
            counts.refused,
            self.rows.len(),
            kinds.len(),
            counts.slowest.as_millis()
        )
    }
}

impl Row {
    fn line(&self, times: usize) -> String {
        format!(
            "| {} | {times} | {:.1} | {} | {} | {} | {} | {} | {} | {} |",
            self.fault,
            self.seconds,
            self.served,
            self.refused,
            self.unknown,
            self.refresh,
            self.provider.replace('|', "/"),
            self.calls,
            self.bound
        )
    }
}

/// Sums, the last messages, and every exit status that occurred.
fn sum(rows: &[&Row]) -> Row {
    let codes = |cell: fn(&Row) -> &String| {
        let mut seen: Vec<&str> = rows.iter().map(|row| cell(row).as_str()).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.join(", ")
    };
    let last = rows[rows.len() - 1];
    Row {
        fault: last.fault.clone(),
        seconds: rows.iter().map(|row| row.seconds).sum(),
        served: rows.iter().map(|row| row.served).sum(),
        refused: rows.iter().map(|row| row.refused).sum(),
        unknown: codes(|row| &row.unknown),
        refresh: codes(|row| &row.refresh),
        provider: last.provider.clone(),
        calls: rows.iter().map(|row| row.calls).sum(),
        bound: rows.iter().map(|row| row.bound).sum(),
    }
}
