//! `systemctl daemon-reload`, at which quadlet generates units from the drop-ins.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use psi_common::Scope;

use crate::ctl::systemctl;

/// The outcome of the reload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Reload {
    /// Nothing changed.
    #[default]
    NotNeeded,
    /// systemd does not run here, as in a container or an image build (sd_booted(3)).
    NoSystemd,
    Done,
    /// It failed: the cause, and the command to run by hand.
    Failed(String),
}

impl Reload {
    pub(super) fn failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// Those of the units that systemd has files of, also generated ones; `None` if it does not answer.
pub(super) fn existing(scope: Scope, units: &[String]) -> Option<BTreeSet<String>> {
    let units = units.iter().map(String::as_str).collect::<Vec<_>>();
    let args =
        [manager(scope), &["list-unit-files", "--no-legend", "--full", "--"], &units].concat();
    // It fails if it has none of them.
    let mut command = Command::new("systemctl");
    let output = command.args(args).stdin(Stdio::null()).output().ok();
    let output = output.filter(|output| output.stderr.is_empty())?;
    let listed = String::from_utf8(output.stdout).ok()?;
    Some(
        listed
            .lines()
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect(),
    )
}

fn manager(scope: Scope) -> &'static [&'static str] {
    match scope {
        Scope::System => &[],
        Scope::User { .. } => &["--user"],
    }
}

/// Reloads the units of the scope's systemd.
pub(super) fn reload(scope: Scope) -> Reload {
    if !Path::new("/run/systemd/system").is_dir() {
        return Reload::NoSystemd;
    }
    let args = [manager(scope), &["daemon-reload"]].concat();
    match systemctl::call(&args) {
        Ok(_) => Reload::Done,
        Err(why) => Reload::Failed(format!(
            "systemd was not reloaded: {why}; run `systemctl {}`",
            args.join(" ")
        )),
    }
}
