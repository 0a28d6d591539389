//! When each unit was last reloaded with new files: systemd does not say. A file for each unit, with the milliseconds on
//! the boot clock, in a directory that ends with the boot.

use std::fs;
use std::path::PathBuf;

use psi_common::Paths;

use super::units::{RunningUnit, SystemdManager};
use crate::ctl::files;

/// The times of reloads.
pub(super) struct Reloads(PathBuf);

/// Those of a scope.
pub(super) fn reloads(paths: &Paths) -> Reloads {
    Reloads(paths.socket.with_file_name("reloaded"))
}

impl Reloads {
    /// The units with the time at which each last read its secrets, the one that renders their files first. A service that
    /// began after a change has the older value if the files are older.
    pub(super) fn last_reads(
        &self,
        units: Vec<RunningUnit>,
        manager: &SystemdManager,
        render: &str,
    ) -> Vec<RunningUnit> {
        let last_read = |unit: RunningUnit| {
            let reloaded = self.last(manager, &unit.name);
            unit.reloaded_at(reloaded)
        };
        let mut units: Vec<_> = units.into_iter().map(last_read).collect();
        let rendered = units.iter().find(|unit| unit.name == render);
        if let Some(rendered) = rendered.map(|unit| unit.began_boot_ms) {
            units.iter_mut().for_each(|one| one.began_boot_ms = one.began_boot_ms.min(rendered));
        }
        units.sort_by_key(|unit| unit.name != render);
        units
    }

    fn last(&self, manager: &SystemdManager, unit: &str) -> Option<u64> {
        fs::read_to_string(self.path(manager, unit)).ok()?.trim_end().parse().ok()
    }

    /// Notes that a unit was reloaded with the files of a time.
    pub(super) fn note(
        &self,
        manager: &SystemdManager,
        unit: &str,
        boot_ms: u64,
    ) -> Result<(), String> {
        let path = self.path(manager, unit);
        files::replace(&path, &format!("{boot_ms}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    fn path(&self, manager: &SystemdManager, unit: &str) -> PathBuf {
        self.0.join(manager.in_trail(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_has_the_values_of_the_time_at_which_its_files_were_rendered() {
        let directory = tempfile::tempdir().unwrap();
        let reloads = Reloads(directory.path().to_owned());
        let unit = |name: &str, began_boot_ms| RunningUnit {
            name: name.into(),
            began_boot_ms,
            is_quadlet: false,
        };
        let root = SystemdManager::System;
        let read = |units: &[(&str, u64)], manager: &SystemdManager| -> Vec<(String, u64)> {
            let units = units.iter().map(|(name, began)| unit(name, *began)).collect();
            let units = reloads.last_reads(units, manager, "psi-render@web.service").into_iter();
            units.map(|unit| (unit.name, unit.began_boot_ms)).collect()
        };
        let of = |render: u64, web: u64| {
            vec![("psi-render@web.service".to_owned(), render), ("web.service".to_owned(), web)]
        };
        let units = [("web.service", 200), ("psi-render@web.service", 100)];
        assert_eq!(read(&units, &root), of(100, 100));
        assert_eq!(read(&[("web.service", 200)], &root), [("web.service".to_owned(), 200)]);
        // Rendered again, and not reloaded yet.
        reloads.note(&root, "psi-render@web.service", 300).unwrap();
        assert_eq!(read(&units, &root), of(300, 200));
        reloads.note(&root, "web.service", 301).unwrap();
        assert_eq!(read(&units, &root), of(300, 300));
        // A user's unit of the same name is another one.
        let user = SystemdManager::UserOf { name: "anna".into(), uid: 1_000 };
        assert_eq!(read(&units, &user), of(100, 100));
        reloads.note(&user, "web.service", 50).unwrap();
        assert_eq!(read(&units, &user), of(100, 100));
    }
}
