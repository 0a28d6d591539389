//! `psi-driver doctor`: what would keep a container from starting now, and where secrets are in clear; each
//! with what to do.

mod daemon;
mod disk;
mod secrets;
mod units;

use psi_common::{Exit, Finding, Paths, Severity};
use serde_json::json;

use crate::args::DoctorOptions;
use crate::failure::Failure;
use crate::podman::{self, Commands};
use crate::stdio;

/// A line of names is cut after so many.
const NAMED: usize = 10;

pub(crate) fn run(paths: &Paths, options: &DoctorOptions) -> Result<(), Failure> {
    let quadlets = options.quadlets.clone().unwrap_or_else(|| paths.quadlets.clone());
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let about = podman::about();
    let mut findings = daemon::of_psid(paths, &commands, about.as_ref().ok());
    findings.extend(daemon::running(paths));
    match &about {
        Ok(about) => {
            let seen = secrets::Seen::look(paths);
            findings.extend(seen.findings(&commands));
            findings.extend(disk::findings(about, &seen));
            findings.extend(units::findings(&quadlets, &seen));
        }
        Err(failure) => findings.push(Finding::error(failure.to_string(), "")),
    }
    findings.sort_by_key(|finding| finding.severity);
    stdio::write_text(&if options.json { as_json(&findings) } else { as_text(&findings) })?;
    if is_well(&findings) { Ok(()) } else { Err(Failure::silent(Exit::Drift)) }
}

fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity == Severity::Note)
}

fn as_text(findings: &[Finding]) -> String {
    let mut text: String = findings.iter().map(line).collect();
    if is_well(findings) {
        text.push_str("nothing is wrong\n");
    }
    text
}

fn as_json(findings: &[Finding]) -> String {
    let all = findings.iter().map(|Finding { severity, what, remedy }| {
        json!({"severity": severity.name(), "what": what, "remedy": remedy})
    });
    let report = json!({"well": is_well(findings), "findings": all.collect::<Vec<_>>()});
    format!("{report:#}\n")
}

/// One line, as a failure is.
fn line(Finding { severity, what, remedy }: &Finding) -> String {
    format!("{}: {}\n", severity.name(), Failure::new(Exit::Ok, what.as_str(), remedy.as_str()))
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
