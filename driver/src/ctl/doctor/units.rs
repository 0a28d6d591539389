//! The quadlets: the secrets of their drop-ins must exist, and no unit of version 1 may interfere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use psi_common::Finding;

use super::named;
use super::secrets::Inventory;
use crate::ctl::setup::DropIn;
use crate::ctl::wording::counted;

/// The name of version 1's drop-ins.
const OLD_DROP_IN: &str = "50-secrets.conf";
/// The directory of units other than quadlets.
const UNITS: &str = "/etc/systemd/system";

/// The secrets of each unit that has a drop-in of psi.
pub(super) fn secrets(quadlets: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let all = DropIn::all_written_by_psi(quadlets).into_iter().map(|(workload, drop_in)| {
        (format!("{workload}.service"), drop_in.lines().into_keys().collect())
    });
    all.collect()
}

pub(super) fn findings(quadlets: &Path, inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (workload, drop_in) in DropIn::all_written_by_psi(quadlets) {
        let lines = drop_in.lines();
        let missing: Vec<&str> =
            lines.keys().map(String::as_str).filter(|name| !inventory.secrets.has(name)).collect();
        if !missing.is_empty() && inventory.has_podman {
            findings.push(
                Finding::error(
                    format!(
                        "{workload}.service does not start: {} has {} that podman does not have: {}",
                        drop_in.path.display(),
                        counted(missing.len(), "secret"),
                        named(missing.iter().copied())
                    ),
                    "`psictl setup` creates them",
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
                        "{} has no effect: {} does not exist",
                        drop_in.path.display(),
                        unit.display()
                    ),
                    "give the workload in the config its quadlet's name, or install the quadlet",
                )
                .of("quadlet-missing"),
            );
        }
    }
    findings.extend(of_python_psi(quadlets));
    findings
}

/// Version 1's drop-ins name the same secrets again, and its setup removes and recreates them each hour.
fn of_python_psi(quadlets: &Path) -> Vec<Finding> {
    let drop_ins = entries(quadlets).into_iter().map(|directory| directory.join(OLD_DROP_IN));
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
                    "drop-ins of psi version 1 are still installed: {}",
                    named(drop_ins.iter().map(String::as_str))
                ),
                "remove them once `psictl setup` has written psi's drop-ins",
            )
            .of("python-drop-in"),
        );
    }
    if !units.is_empty() {
        findings.push(
            Finding::warning(
                format!(
                    "units of psi version 1 are still installed and recreate podman's secrets: {}",
                    named(units.iter().map(String::as_str))
                ),
                "stop them with `systemctl disable --now`, then remove them",
            )
            .of("python-unit"),
        );
    }
    findings
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}
