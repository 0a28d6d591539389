//! Groups findings by cause: one cause is one finding.

use std::collections::{BTreeMap, BTreeSet};

use psi_common::{Finding, Severity};

/// Causes that exist once: `psid doctor` and the running psid report them in different words.
const UNIQUE_CAUSES: [&str; 2] = ["key", "config"];

/// The findings, worst first, each cause once.
pub(super) fn by_cause(findings: Vec<Finding>) -> Vec<Finding> {
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
            }
            None => grouped.push(finding),
        }
    }
    for finding in &mut grouped {
        let names: BTreeSet<String> = finding.affects.drain(..).collect();
        finding.affects = names.into_iter().collect();
    }
    grouped.sort_by_key(|finding| finding.severity);
    grouped
}

/// The units that do not start, with the causes; `units` has the secrets of each.
pub(super) fn stopped(
    units: &BTreeMap<String, BTreeSet<String>>,
    findings: &[Finding],
) -> BTreeMap<String, BTreeSet<String>> {
    let stops = |finding: &&Finding| finding.severity == Severity::Error;
    let causes = |names: &BTreeSet<String>| -> BTreeSet<String> {
        let of_it = findings
            .iter()
            .filter(stops)
            .filter(|finding| finding.affects.iter().any(|name| names.contains(name)));
        of_it.map(|finding| finding.cause.clone()).collect()
    };
    let all = units.iter().map(|(unit, names)| (unit.clone(), causes(names)));
    all.filter(|(_, causes)| !causes.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_one_cause_are_merged() {
        let findings = vec![
            Finding::warning("the disk is old", "").of("other"),
            Finding::error("the key in /x does not open: a", "recover it").of("key"),
            Finding::warning("the key in /x does not open: a; recover it", "")
                .of("key")
                .affecting(["b", "a"]),
            Finding::error("secret a is damaged", "").of("secret-unusable").affecting(["a"]),
            Finding::error("secret a is damaged", "").of("secret-unusable").affecting(["c"]),
            Finding::error("secret d is damaged otherwise", "").of("secret-unusable"),
        ];
        let grouped = by_cause(findings);
        let found: Vec<_> =
            grouped.iter().map(|it| (it.cause.as_str(), it.severity, it.affects.len())).collect();
        let (error, warning) = (Severity::Error, Severity::Warning);
        assert_eq!(
            found,
            [
                ("key", error, 2),
                ("secret-unusable", error, 2),
                ("secret-unusable", error, 0),
                ("other", warning, 0)
            ]
        );
        assert_eq!(grouped[0].problem.remedy, "recover it");
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let units = BTreeMap::from([
            ("app.service".to_owned(), names(&["a", "z"])),
            ("db.service".to_owned(), names(&["z"])),
        ]);
        let stopped = stopped(&units, &grouped);
        assert_eq!(stopped.len(), 1);
        assert_eq!(stopped["app.service"], names(&["key", "secret-unusable"]));
    }
}
