//! Reports as JSON.

use serde::Serialize;
use serde_json::json;

/// A report as indented JSON with sorted keys, and a newline at its end.
pub(crate) fn text(report: &impl Serialize) -> String {
    format!("{:#}\n", json!(report))
}
