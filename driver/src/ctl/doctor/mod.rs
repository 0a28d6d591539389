//! `psictl doctor`: finds problems that would keep a container from starting and secrets stored in plaintext, and
//! prints each with its remedy.

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
use crate::ctl::wording::{self, counted};
use crate::ctl::{json, names};
use crate::error::CliError;
use crate::stdio;
use secrets::Inventory;

/// The names in one line; more are counted.
const MAX_NAMES: usize = 10;

pub(crate) fn run(paths: &Paths, options: &DoctorOptions) -> Result<(), CliError> {
    let quadlets = options.quadlets.clone().unwrap_or_else(|| paths.quadlets.clone());
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let about = podman::about();
    let status = Client::new(paths, Deadline::Probe).status(false);
    let inventory = Inventory::load(paths, &status);
    let mut findings = daemon::of_psid(paths, &commands, about.as_ref().ok());
    findings.extend(daemon::running(&status, &inventory));
    findings.extend(inventory.findings(&commands));
    match &about {
        Ok(about) => {
            names::report_secrets(paths, &inventory.secrets, &about.graph_root);
            findings.extend(disk::findings(about, &inventory));
        }
        Err(failure) => findings.push(Finding::error(failure.to_string(), "").of("podman")),
    }
    findings.extend(units::findings(&quadlets, &inventory));
    let findings = group::by_cause(findings);
    let stopped = group::stopped(&units::secrets(&quadlets), &findings);
    let report = if options.json { as_json } else { as_text };
    stdio::write_text(&report(&findings, &stopped))?;
    if is_well(&findings) { Ok(()) } else { Err(CliError::status_only(Exit::Drift)) }
}

fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity == Severity::Note)
}

/// The units that do not start, with the causes.
type Stopped = BTreeMap<String, BTreeSet<String>>;

fn as_text(findings: &[Finding], stopped: &Stopped) -> String {
    let mut text: String = findings.iter().map(line).collect();
    for (unit, causes) in stopped {
        let causes: Vec<&str> = causes.iter().map(String::as_str).collect();
        let what = format!("{unit} does not start [{}]", causes.join(", "));
        text += &format!("unit: {}\n", check::printable(&what));
    }
    if is_well(findings) {
        text.push_str("no problem found\n");
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

/// The names in one line; more are counted.
fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    wording::named(names, MAX_NAMES)
}
