//! When the units of a workload were last reloaded with new files: systemd does not say. A file for each workload, with
//! the milliseconds on the boot clock, in a directory that ends with the boot.

use std::fs;
use std::path::PathBuf;

use psi_common::Paths;

use super::units::boot_ms;
use crate::ctl::files;

/// The times of reloads.
pub(super) struct Reloads(PathBuf);

/// Those of a scope.
pub(super) fn reloads(paths: &Paths) -> Reloads {
    Reloads(paths.socket.with_file_name("reloaded"))
}

impl Reloads {
    /// When a workload's units were last reloaded.
    pub(super) fn last(&self, workload: &str) -> Option<u64> {
        fs::read_to_string(self.0.join(workload)).ok()?.trim_end().parse().ok()
    }

    /// Notes that they were reloaded now.
    pub(super) fn note(&self, workload: &str) -> Result<(), String> {
        let path = self.0.join(workload);
        let written = boot_ms().and_then(|now| files::replace(&path, &format!("{now}\n")));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }
}
