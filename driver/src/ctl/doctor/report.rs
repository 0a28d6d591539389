//! The report of the doctor, as text and as JSON.

use psi_common::{Finding, Problem, Severity, check, for_own_scope};
use serde::Serialize;

use super::group::Stopped;
use super::named;
use crate::ctl::json;
use crate::ctl::wording::counted;

pub(super) fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity == Severity::Note)
}

pub(super) fn as_text(findings: &[Finding], stopped: &[Stopped]) -> String {
    let mut text: String = findings.iter().map(line).collect();
    for unit in stopped {
        let (name, causes, fails) = (&unit.unit, unit.causes.join(", "), unit.fails());
        let fix = unit.fix.as_ref().map_or_else(String::new, |fix| format!("; `{fix}`"));
        let line = format!("unit: {name} {fails} [{causes}]{fix}");
        text += &format!("{}\n", check::printable(&line));
    }
    if is_well(findings) {
        text.push_str("no problem found\n");
    }
    text
}

#[derive(Serialize)]
struct Report<'a> {
    well: bool,
    findings: Vec<Finding>,
    units: &'a [Stopped],
}

pub(super) fn as_json(findings: &[Finding], stopped: &[Stopped]) -> String {
    let well = is_well(findings);
    let findings = findings.iter().cloned().map(|mut finding| {
        finding.problem = for_this_scope(&finding.problem);
        finding
    });
    json::text(&Report { well, findings: findings.collect(), units: stopped })
}

fn for_this_scope(problem: &Problem) -> Problem {
    Problem::new(for_own_scope(&problem.what), for_own_scope(&problem.remedy))
}

/// One line with the finding and its cause, and one more for the secrets and the units that it concerns, unless it
/// names them itself.
fn line(finding: &Finding) -> String {
    let Finding { severity, cause, problem, affects, units } = finding;
    let mut text = format!("{}: {} [{cause}]\n", severity.name(), for_this_scope(problem));
    for (noun, names) in [("secret", affects), ("unit", units)] {
        if names.iter().any(|name| !problem.what.contains(name.as_str())) {
            let list = named(names.iter().map(String::as_str));
            let list = check::printable(&list);
            text += &format!("    it concerns {}: {list}\n", counted(names.len(), noun));
        }
    }
    text
}
