//! Groups findings by cause, and names the units that each of them stops.

use std::collections::{BTreeMap, BTreeSet};

use psi_common::{Finding, Problem, Severity, for_own_scope};
use serde::Serialize;

use super::units::{Unit, UnitKind};

/// Causes that exist once: `psid doctor` and the running psid report them in different words.
const UNIQUE_CAUSES: [&str; 2] = ["key", "config"];
/// Causes with which a unit starts, but without its secrets.
const WITHOUT_SECRETS: [&str; 3] = ["drop-in-missing", "drop-in-empty", "drop-in-foreign"];

/// A unit that does not start, or starts without its secrets.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Stopped {
    pub(super) unit: String,
    kind: UnitKind,
    /// Whether it starts, without its secrets.
    starts: bool,
    pub(super) causes: Vec<String>,
    /// The command that ends the first cause; null if no command does.
    pub(super) fix: Option<String>,
}

/// The findings, worst first, each cause once, with the units that need a secret of it.
pub(super) fn by_cause(findings: Vec<Finding>, units: &[Unit]) -> Vec<Finding> {
    let mut grouped: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = grouped.iter_mut().find(|it| {
            it.cause == finding.cause
                && (UNIQUE_CAUSES.contains(&it.cause.as_str()) || it.problem == finding.problem)
        });
        match same {
            Some(same) => {
                same.severity = same.severity.min(finding.severity);
                same.affects.extend(finding.affects);
                same.units.extend(finding.units);
            }
            None => grouped.push(finding),
        }
    }
    for finding in &mut grouped {
        finding.affects = sorted(std::mem::take(&mut finding.affects));
        if finding.severity == Severity::Error {
            let needs = |unit: &&Unit| finding.affects.iter().any(|it| unit.secrets.contains(it));
            finding.units.extend(units.iter().filter(needs).map(|unit| unit.name.clone()));
        }
        finding.units = sorted(std::mem::take(&mut finding.units));
    }
    grouped.sort_by_key(|finding| finding.severity);
    grouped
}

fn sorted(names: Vec<String>) -> Vec<String> {
    names.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The units that do not start, with the causes.
pub(super) fn stopped(units: &[Unit], findings: &[Finding]) -> Vec<Stopped> {
    let mut by_unit: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Error) {
        for unit in &finding.units {
            by_unit.entry(unit).or_default().push(finding);
        }
    }
    let kind = |name: &str| units.iter().find(|unit| unit.name == name).map(|unit| unit.kind);
    let all = by_unit.into_iter().map(|(unit, findings)| {
        let causes = sorted(findings.iter().map(|finding| finding.cause.clone()).collect());
        Stopped {
            unit: unit.to_owned(),
            // Units of other users are quadlets and services.
            kind: kind(unit).unwrap_or(UnitKind::Service),
            starts: causes.iter().all(|cause| WITHOUT_SECRETS.contains(&cause.as_str())),
            causes,
            fix: findings.iter().find_map(|finding| command_of(&finding.problem)),
        }
    });
    all.collect()
}

/// The first command of a remedy; a message that is complete has its remedy in itself.
fn command_of(problem: &Problem) -> Option<String> {
    let of_what = problem.what.split_once("; ").map_or("", |(_, remedy)| remedy);
    let command =
        [problem.remedy.as_str(), of_what].into_iter().find_map(|text| text.split('`').nth(1));
    let command = format!("`{}`", command?);
    Some(for_own_scope(&command).trim_matches('`').to_owned())
}

impl Stopped {
    /// What happens to it.
    pub(super) fn fails(&self) -> &'static str {
        match (self.starts, self.kind) {
            (true, _) => "starts without its secrets",
            (false, UnitKind::Quadlet | UnitKind::Service) => "does not start",
            (false, UnitKind::Compose | UnitKind::Container) => "does not start again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, kind: UnitKind, secrets: &[&str]) -> Unit {
        let secrets = secrets.iter().map(ToString::to_string).collect();
        Unit { name: name.into(), kind, path: None, user: None, secrets }
    }

    #[test]
    fn findings_of_one_cause_are_merged() {
        let findings = vec![
            Finding::warning("the disk is old", "").of("other").affecting(["z"]),
            Finding::error("the key in /x does not open: a", "`recover` it").of("key"),
            Finding::warning("the key in /x does not open: a; recover it", "")
                .of("key")
                .affecting(["b", "a"]),
            Finding::error("secret a is damaged", "").of("secret-unusable").affecting(["a"]),
            Finding::error("secret a is damaged", "").of("secret-unusable").affecting(["c"]),
            Finding::error("secret d is damaged otherwise", "").of("secret-unusable"),
            Finding::error("no drop-in; `setup` writes it", "")
                .of("drop-in-missing")
                .on_units(["web.service"]),
        ];
        let units = [
            unit("app.service", UnitKind::Quadlet, &["a", "z"]),
            unit("container b", UnitKind::Container, &["b"]),
            unit("db.service", UnitKind::Service, &["z"]),
        ];
        let grouped = by_cause(findings, &units);
        let found: Vec<_> = grouped
            .iter()
            .map(|it| (it.cause.as_str(), it.severity, it.affects.len(), it.units.len()))
            .collect();
        let (error, warning) = (Severity::Error, Severity::Warning);
        assert_eq!(
            found,
            [
                ("key", error, 2, 2),
                ("secret-unusable", error, 2, 1),
                ("secret-unusable", error, 0, 0),
                ("drop-in-missing", error, 0, 1),
                ("other", warning, 1, 0)
            ]
        );
        assert_eq!(grouped[0].problem.remedy, "`recover` it");
        let stopped = stopped(&units, &grouped);
        let lines: Vec<_> = stopped
            .iter()
            .map(|it| (it.unit.as_str(), it.fails(), it.causes.join(" "), it.fix.as_deref()))
            .collect();
        assert_eq!(
            lines,
            [
                ("app.service", "does not start", "key secret-unusable".into(), Some("recover")),
                ("container b", "does not start again", "key".into(), Some("recover")),
                (
                    "web.service",
                    "starts without its secrets",
                    "drop-in-missing".into(),
                    Some("setup")
                ),
            ]
        );
    }
}
