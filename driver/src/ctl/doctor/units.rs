//! The quadlets: what their drop-ins name must be there, and nothing of the Python PSI's may work against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use psi_common::Finding;

use super::secrets::Seen;
use super::{counted, named};
use crate::ctl::setup::DropIn;

/// What the Python PSI called its drop-ins.
const OLD_DROP_IN: &str = "50-secrets.conf";
/// Where units are, besides the quadlets.
const UNITS: &str = "/etc/systemd/system";

/// The secrets of each unit that has a drop-in of psi's.
pub(super) fn secrets(quadlets: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let all = DropIn::all_of_ours(quadlets).into_iter().map(|(workload, drop_in)| {
        (format!("{workload}.service"), drop_in.lines().into_keys().collect())
    });
    all.collect()
}

pub(super) fn findings(quadlets: &Path, seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (workload, drop_in) in DropIn::all_of_ours(quadlets) {
        let lines = drop_in.lines();
        let missing: Vec<&str> =
            lines.keys().map(String::as_str).filter(|name| !seen.secrets.has(name)).collect();
        if !missing.is_empty() && seen.sees_podman {
            findings.push(
                Finding::error(
                    format!(
                        "{workload}.service does not start: {} names {} that podman has not: {}",
                        drop_in.path.display(),
                        counted(missing.len(), "secret"),
                        named(missing.iter().copied())
                    ),
                    "`psictl setup` registers them",
                )
                .of("secret-missing")
                .affecting(missing),
            );
        }
        let unit = quadlets.join(format!("{workload}.container"));
        if !unit.exists() {
            findings.push(
                Finding::warning(
                    format!(
                        "{} is of no use: there is no {}",
                        drop_in.path.display(),
                        unit.display()
                    ),
                    "name the workload of the config as its quadlet, or put that there",
                )
                .of("quadlet-missing"),
            );
        }
    }
    findings.extend(of_python(quadlets));
    findings
}

/// Its drop-ins name the same secrets once more, and its setup removes and makes them anew each hour.
fn of_python(quadlets: &Path) -> Vec<Finding> {
    let drop_ins = entries(quadlets).into_iter().map(|folder| folder.join(OLD_DROP_IN));
    let drop_ins: Vec<String> =
        drop_ins.filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    let units = [quadlets, Path::new(UNITS)].into_iter().flat_map(entries);
    let units = units.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let units: Vec<String> = units
        .filter(|name| name.starts_with("psi-secrets") || name.starts_with("psi-tls"))
        .collect();
    let mut findings = Vec::new();
    if !drop_ins.is_empty() {
        findings.push(
            Finding::warning(
                format!(
                    "the Python PSI's drop-ins name secrets besides psi's own: {}",
                    named(drop_ins.iter().map(String::as_str))
                ),
                "remove them once `psictl setup` has written psi's",
            )
            .of("python-drop-in"),
        );
    }
    if !units.is_empty() {
        findings.push(
            Finding::warning(
                format!(
                    "units of the Python PSI are still there, and make podman's secrets anew: {}",
                    named(units.iter().map(String::as_str))
                ),
                "stop, disable and remove them",
            )
            .of("python-unit"),
        );
    }
    findings
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}
