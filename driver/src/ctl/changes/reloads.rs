//! When units were last reloaded with new files: systemd does not say. A file for each unit, with the milliseconds on the
//! boot clock, in a directory that ends with the boot.

use std::fs;
use std::path::PathBuf;

use psi_common::Paths;

use crate::ctl::files;

/// The times of reloads.
pub(super) struct Reloads(PathBuf);

/// Those of a scope.
pub(super) fn reloads(paths: &Paths) -> Reloads {
    Reloads(paths.socket.with_file_name("reloaded"))
}

impl Reloads {
    /// When the last reload of a unit began.
    pub(super) fn last(&self, unit: &str) -> Option<u64> {
        fs::read_to_string(self.0.join(unit)).ok()?.trim_end().parse().ok()
    }

    /// Notes a reload. Its files may be older than a value that psid saw after it began.
    pub(super) fn note(&self, unit: &str, begun_boot_ms: u64) -> Result<(), String> {
        let path = self.0.join(unit);
        let written = files::replace(&path, &format!("{begun_boot_ms}\n"));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }
}
