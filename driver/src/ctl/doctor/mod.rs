//! `psictl doctor`: finds problems that would keep a container from starting and secrets stored in plaintext, and
//! prints each with its remedy, and each unit that does not start with the command that fixes it.

mod daemon;
mod disk;
mod group;
mod python_psi;
mod replaced;
mod report;
mod secrets;
mod units;
mod users;
mod workloads;

use psi_common::{Exit, Finding, Paths, Problem};

use crate::client::{Client, Deadline};
use crate::ctl::args::DoctorOptions;
use crate::ctl::changes::{self, Changes, ReportedUnit};
use crate::ctl::names;
use crate::ctl::podman::{self, Commands};
use crate::ctl::{install, psid, status, wording};
use crate::error::CliError;
use crate::stdio;
use secrets::Inventory;
use units::Units;
use workloads::Workloads;

/// The names in one line; more are counted.
const MAX_NAMES: usize = 10;

pub(crate) fn run(paths: &Paths, options: &DoctorOptions) -> Result<(), CliError> {
    let quadlets = options.quadlets.clone().unwrap_or_else(|| paths.quadlets.clone());
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let about = podman::about();
    let status = Client::new(paths, Deadline::Probe).status(false);
    let inventory = Inventory::load(paths, &status);
    let running = daemon::running(&status, &inventory);
    let mut findings = psid::findings(paths, &commands, about.as_ref().ok());
    findings
        .retain(|finding| finding.cause != "rekey" || running.iter().all(|it| it.cause != "rekey"));
    findings.extend(running);
    let workloads = Workloads::load(paths, &quadlets, &status);
    let graph_root = about.as_ref().map(|about| about.graph_root.as_path()).unwrap_or(&paths.state);
    let replaced = replaced::names(&inventory, &workloads, graph_root);
    findings.extend(inventory.findings(&commands, &workloads, &replaced));
    findings.extend(replaced::finding(&replaced));
    findings.extend(inventory.left_by_install().filter(|_| !install::is_running(paths)));
    let containers = podman::containers().unwrap_or_else(|failure| {
        findings.push(of_podman(failure, Finding::warning));
        Vec::new()
    });
    match about {
        Ok(about) => {
            names::report_secrets(paths, &inventory.secrets, &about.graph_root);
            findings.extend(disk::findings(&about, &inventory, &containers));
        }
        Err(failure) => findings.push(of_podman(failure, Finding::error)),
    }
    let units = Units::load(paths, options, &containers, &inventory);
    findings.extend(units.findings(&inventory, &workloads));
    findings.extend(workloads.findings(&units.quadlets));
    findings.extend(users::findings(&units.of_users, &inventory, &workloads));
    findings.extend(python_psi::findings(&quadlets));
    findings.extend(outdated(&changes::look(paths, Deadline::Probe)));
    let findings = group::by_cause(findings, &units.own);
    let stopped = group::stopped(&units.own, &findings);
    let report = if options.json { report::as_json } else { report::as_text };
    stdio::write_text(&report(&findings, &stopped))?;
    match report::is_well(&findings) {
        true => Ok(()),
        false => Err(CliError::status_only(Exit::Drift)),
    }
}

/// The units that run with an older value.
fn outdated(changes: &Changes) -> Vec<Finding> {
    let finding = |unit: &ReportedUnit<'_>| {
        let Problem { what, remedy } = unit.problem(status::now());
        Finding::warning(what, remedy)
            .of("outdated-value")
            .affecting(unit.secrets.iter().map(String::as_str))
            .on_units([unit.unit])
    };
    changes.units().iter().map(finding).collect()
}

fn of_podman(failure: CliError, finding: fn(String, String) -> Finding) -> Finding {
    let Problem { what, remedy } = failure.into_problem();
    finding(what, remedy).of("podman")
}

/// The names in one line; more are counted.
fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    wording::named(names, MAX_NAMES)
}
