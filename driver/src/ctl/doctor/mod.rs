//! `psictl doctor`: what would keep a container from starting now, and where secrets are in clear; each
//! with what to do.

mod daemon;
mod disk;
mod group;
mod secrets;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use psi_common::{Exit, Finding, Paths, Problem, Severity, check, for_own_scope};
use serde::Serialize;

use crate::client::{Client, Deadline};
use crate::ctl::args::DoctorOptions;
use crate::ctl::podman::{self, Commands};
use crate::ctl::{json, names};
use crate::error::CliError;
use crate::stdio;
use secrets::Seen;

/// A line of names is cut after so many.
const NAMED: usize = 10;

pub(crate) fn run(paths: &Paths, options: &DoctorOptions) -> Result<(), CliError> {
    let quadlets = options.quadlets.clone().unwrap_or_else(|| paths.quadlets.clone());
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let about = podman::about();
    let status = Client::new(paths, Deadline::Probe).status(false);
    let seen = Seen::look(paths, &status);
    let mut findings = daemon::of_psid(paths, &commands, about.as_ref().ok());
    findings.extend(daemon::running(&status, &seen));
    findings.extend(seen.findings(&commands));
    match &about {
        Ok(about) => {
            names::note_secrets(paths, &seen.secrets, &about.graph_root);
            findings.extend(disk::findings(about, &seen));
        }
        Err(failure) => findings.push(Finding::error(failure.to_string(), "").of("podman")),
    }
    findings.extend(units::findings(&quadlets, &seen));
    let findings = group::by_cause(findings);
    let stopped = group::stopped(&units::secrets(&quadlets), &findings);
    let report = if options.json { as_json } else { as_text };
    stdio::write_text(&report(&findings, &stopped))?;
    if is_well(&findings) { Ok(()) } else { Err(CliError::status_only(Exit::Drift)) }
}

fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity == Severity::Note)
}

/// The units that do not start, and the causes of that.
type Stopped = BTreeMap<String, BTreeSet<String>>;

fn as_text(findings: &[Finding], stopped: &Stopped) -> String {
    let mut text: String = findings.iter().map(line).collect();
    for (unit, causes) in stopped {
        let causes: Vec<&str> = causes.iter().map(String::as_str).collect();
        let what = format!("{unit} does not start [{}]", causes.join(", "));
        text += &format!("unit: {}\n", check::printable(&what));
    }
    if is_well(findings) {
        text.push_str("nothing is wrong\n");
    }
    text
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    well: bool,
    findings: &'a [Finding],
    units: Vec<StoppedUnit<'a>>,
}

#[derive(Serialize)]
struct StoppedUnit<'a> {
    unit: &'a str,
    causes: &'a BTreeSet<String>,
}

fn as_json(findings: &[Finding], stopped: &Stopped) -> String {
    let units = stopped.iter().map(|(unit, causes)| StoppedUnit { unit, causes });
    json::text(&Report { well: is_well(findings), findings, units: units.collect() })
}

/// One line with the finding and its cause, and one more with the secrets that it concerns, unless it names them
/// itself.
fn line(Finding { severity, cause, problem, affects }: &Finding) -> String {
    let remedy = for_own_scope(&problem.remedy);
    let problem = Problem::new(problem.what.as_str(), remedy);
    let mut text = format!("{}: {problem} [{cause}]\n", severity.name());
    if affects.iter().any(|name| !problem.what.contains(name.as_str())) {
        let names = named(affects.iter().map(String::as_str));
        text += &format!(
            "    it concerns {}: {}\n",
            counted(affects.len(), "secret"),
            check::printable(&names)
        );
    }
    text
}

/// Some names, and how many more there are.
fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let more = names.len().saturating_sub(NAMED);
    let shown = names[..names.len().min(NAMED)].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// "1 secret", "2 secrets".
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_counts_read_well() {
        let names: Vec<String> = (0..12).map(|number| format!("n{number}")).collect();
        let told = named(names.iter().map(String::as_str));
        assert!(told.ends_with("n8, n9 and 2 more"), "{told}");
        assert_eq!(
            (named(["a"]), counted(1, "secret"), counted(2, "secret")),
            ("a".into(), "1 secret".into(), "2 secrets".into())
        );
    }
}
