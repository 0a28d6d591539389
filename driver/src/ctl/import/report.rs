//! What an import did or would do. Keys, never a value.

use psi_proto::v1::{ImportFate, ImportOutcome, ImportResponse};
use serde_json::json;

use crate::args::ImportOptions;

/// In the form that was asked for.
pub(super) fn of(told: &ImportResponse, options: &ImportOptions, written: bool) -> String {
    if options.json {
        return as_json(told, options, written);
    }
    let would = if written { "" } else { "would be " };
    let mut text = String::new();
    for outcome in &told.outcomes {
        let why = if outcome.why.is_empty() { String::new() } else { format!(": {}", outcome.why) };
        let key = outcome.key.escape_debug();
        text += &match outcome.fate() {
            ImportFate::Created | ImportFate::Overwritten => {
                format!("{would}{} {key}{why}\n", name(outcome))
            }
            _ => format!("{} {key}{why}\n", name(outcome)),
        };
    }
    let count = |fate| told.outcomes.iter().filter(|one| one.fate() == fate).count();
    let counts =
        [ImportFate::Created, ImportFate::Overwritten, ImportFate::Unchanged, ImportFate::Skipped];
    let counts = counts.map(|fate| format!("{} {}", count(fate), word(fate))).join(", ");
    text += &format!("{}: {would}{counts}\n", told.target);
    if written && count(ImportFate::Created) + count(ImportFate::Overwritten) > 0 {
        text += "`psi-driver setup` registers what a workload of the config lists there\n";
    }
    text
}

fn as_json(told: &ImportResponse, options: &ImportOptions, written: bool) -> String {
    let outcomes = told.outcomes.iter().map(|outcome| {
        let why = (!outcome.why.is_empty()).then_some(&outcome.why);
        json!({"key": outcome.key, "fate": name(outcome), "why": why})
    });
    let report = json!({
        "dry_run": options.dry_run,
        "written": written,
        "target": told.target,
        "secrets": outcomes.collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

fn name(outcome: &ImportOutcome) -> &'static str {
    word(outcome.fate())
}

fn word(fate: ImportFate) -> &'static str {
    match fate {
        ImportFate::Created => "created",
        ImportFate::Overwritten => "overwritten",
        ImportFate::Unchanged => "unchanged",
        ImportFate::Skipped => "skipped",
        ImportFate::Conflicting => "conflicting",
        ImportFate::Unfit => "unfit",
        ImportFate::Failed | ImportFate::Unspecified => "failed",
    }
}
