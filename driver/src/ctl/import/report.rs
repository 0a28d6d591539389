//! What an import did or would do. Keys, never a value.

use psi_proto::v1::{ImportOutcome, ImportResponse, ImportResult};
use serde_json::json;

use crate::ctl::args::ImportOptions;

/// In the form that was asked for.
pub(super) fn of(told: &ImportResponse, options: &ImportOptions, written: bool) -> String {
    if options.json {
        return as_json(told, options, written);
    }
    let would = if written { "" } else { "would be " };
    let mut text = String::new();
    for result in &told.results {
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
    let count = |outcome| told.results.iter().filter(|one| one.outcome() == outcome).count();
    let counts = [
        ImportOutcome::Created,
        ImportOutcome::Overwritten,
        ImportOutcome::Unchanged,
        ImportOutcome::Skipped,
    ];
    let counts = counts.map(|outcome| format!("{} {}", count(outcome), word(outcome))).join(", ");
    text += &format!("{}: {would}{counts}\n", told.target);
    if written && count(ImportOutcome::Created) + count(ImportOutcome::Overwritten) > 0 {
        text += "`psictl setup` registers what a workload of the config lists there\n";
    }
    text
}

fn as_json(told: &ImportResponse, options: &ImportOptions, written: bool) -> String {
    let results = told.results.iter().map(|result| {
        let reason = (!result.reason.is_empty()).then_some(&result.reason);
        json!({"key": result.key, "outcome": name(result), "reason": reason})
    });
    let report = json!({
        "dry_run": options.dry_run,
        "written": written,
        "target": told.target,
        "secrets": results.collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
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
