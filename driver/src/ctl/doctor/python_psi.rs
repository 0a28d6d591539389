//! Quadlet drop-ins and units of psi version 1, which interfere with this psi's.

use std::fs;
use std::path::{Path, PathBuf};

use psi_common::Finding;

use super::named;

/// The name of version 1's drop-ins.
const OLD_DROP_IN: &str = "50-secrets.conf";
/// The directory of units other than quadlets.
const UNITS: &str = "/etc/systemd/system";

/// Version 1's drop-ins name the same secrets again, and its setup removes and recreates them each hour.
pub(super) fn findings(quadlets: &Path) -> Vec<Finding> {
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
