//! The units of the workloads: started at the end, so that `psictl init` ends with a container that has its secrets.

use std::fs;
use std::time::UNIX_EPOCH;

use psi_common::Exit;

use super::plan::WorkloadUnit;
use super::settings::Settings;
use super::{Session, service};
use crate::ctl::setup::DropIn;
use crate::error::CliError;

impl Session<'_> {
    /// The units of the workloads whose quadlets are there, if they are to be started: by `--start`, or at a terminal.
    pub(super) fn units_to_start(&self, settings: &Settings) -> Vec<WorkloadUnit> {
        let Some(manager) = self.host.manager else { return Vec::new() };
        if !self.options.start && self.terminal.is_none() {
            return Vec::new();
        }
        let has_quadlet =
            |name: &&str| self.paths.quadlets.join(format!("{name}.container")).exists();
        let names = settings.below("workloads").into_iter().filter(has_quadlet);
        names
            .map(|name| WorkloadUnit {
                name: name.to_owned(),
                has_secrets: self.has_secrets(manager, name),
            })
            .collect()
    }

    /// Whether a unit was started after the drop-in with its secrets was written.
    fn has_secrets(&self, manager: service::Manager, name: &str) -> bool {
        let drop_ins = DropIn::all_written_by_psi(&self.paths.quadlets);
        let written = drop_ins.get(name).and_then(|drop_in| {
            let written = fs::metadata(&drop_in.path).and_then(|about| about.modified()).ok()?;
            Some(written.duration_since(UNIX_EPOCH).ok()?.as_secs())
        });
        let since = manager.active_since(&format!("{name}.service"));
        written.zip(since).is_some_and(|(written, since)| since >= written)
    }

    /// Starts them. A container that runs is not stopped without a word: a person is asked.
    pub(super) fn start_workloads(&self, settings: &Settings) -> Result<String, CliError> {
        let Some(manager) = self.host.manager else { return Ok(String::new()) };
        let mut lines = Vec::new();
        for WorkloadUnit { name, has_secrets } in self.units_to_start(settings) {
            let unit = format!("{name}.service");
            let restart = manager.command(&["restart", &name]);
            if has_secrets {
                lines.push(format!("{name} was started since the registration"));
            } else if self.may_start(manager, &unit)? {
                manager.call(&["restart", &unit]).map_err(|why| failed(manager, &name, &why))?;
                lines.push(format!("{name} runs"));
            } else {
                lines.push(format!("{name} runs without its secrets until `{restart}`"));
            }
        }
        Ok(lines.join("\n"))
    }

    fn may_start(&self, manager: service::Manager, unit: &str) -> Result<bool, CliError> {
        match &self.terminal {
            Some(terminal) if !self.options.start && manager.active_since(unit).is_some() => {
                terminal.confirm(&format!("  {unit} runs: restart it now?"))
            }
            _ => Ok(true),
        }
    }
}

fn failed(manager: service::Manager, name: &str, why: &str) -> CliError {
    let log = manager.journal(&format!("{name}.service"));
    CliError::new(Exit::Io, format!("starting {name}: {why}"), format!("see `{log}`"))
}
