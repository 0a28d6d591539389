//! What an import did or would do. It has keys, never a value.

use psi_proto::v1::{ImportOutcome, ImportResponse, ImportResult};
use serde::Serialize;

use crate::ctl::args::ImportOptions;
use crate::ctl::json;

/// The report as text or JSON.
pub(super) fn of(response: &ImportResponse, options: &ImportOptions, written: bool) -> String {
    if options.json {
        return as_json(response, options, written);
    }
    let would = if written { "" } else { "would be " };
    let mut text = String::new();
    for result in &response.results {
        let reason =
            if result.reason.is_empty() { String::new() } else { format!(": {}", result.reason) };
        let key = result.key.escape_debug();
        text += &match result.outcome() {
            ImportOutcome::Created | ImportOutcome::Overwritten => {
                format!("{would}{} {key}{reason}\n", name(result))
            }
            _ => format!("{} {key}{reason}\n", name(result)),
        };
    }
    let count = |outcome| response.results.iter().filter(|one| one.outcome() == outcome).count();
    let counts = [
        ImportOutcome::Created,
        ImportOutcome::Overwritten,
        ImportOutcome::Unchanged,
        ImportOutcome::Skipped,
    ];
    let counts = counts.map(|outcome| format!("{} {}", count(outcome), word(outcome))).join(", ");
    text += &format!("{}: {would}{counts}\n", response.target);
    if written && count(ImportOutcome::Created) + count(ImportOutcome::Overwritten) > 0 {
        text += "`psictl setup` registers what a workload of the config lists there\n";
    }
    text
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    written: bool,
    target: &'a str,
    secrets: Vec<Secret<'a>>,
}

#[derive(Serialize)]
struct Secret<'a> {
    key: &'a str,
    outcome: &'static str,
    reason: Option<&'a str>,
}

fn as_json(response: &ImportResponse, options: &ImportOptions, written: bool) -> String {
    let secrets = response.results.iter().map(|result| Secret {
        key: &result.key,
        outcome: name(result),
        reason: (!result.reason.is_empty()).then_some(&result.reason),
    });
    json::text(&Report {
        dry_run: options.dry_run,
        written,
        target: &response.target,
        secrets: secrets.collect(),
    })
}

fn name(result: &ImportResult) -> &'static str {
    word(result.outcome())
}

fn word(outcome: ImportOutcome) -> &'static str {
    match outcome {
        ImportOutcome::Created => "created",
        ImportOutcome::Overwritten => "overwritten",
        ImportOutcome::Unchanged => "unchanged",
        ImportOutcome::Skipped => "skipped",
        ImportOutcome::Conflicting => "conflicting",
        ImportOutcome::Rejected => "rejected",
        ImportOutcome::Failed | ImportOutcome::Unspecified => "failed",
    }
}
