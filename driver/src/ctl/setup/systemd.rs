//! `systemctl daemon-reload`, at which quadlet generates units from the drop-ins.

use std::path::Path;
use std::process::{Command, Stdio};

use psi_common::Scope;

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

/// Reloads the units of the scope's systemd.
pub(super) fn reload(scope: Scope) -> Reload {
    if !Path::new("/run/systemd/system").is_dir() {
        return Reload::NoSystemd;
    }
    let args: &[&str] = match scope {
        Scope::System => &["daemon-reload"],
        Scope::User { .. } => &["--user", "daemon-reload"],
    };
    let output = Command::new("systemctl").args(args).stdin(Stdio::null()).output();
    let why = match output {
        Ok(output) if output.status.success() => return Reload::Done,
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            stderr.lines().next().map_or_else(|| output.status.to_string(), str::to_owned)
        }
        Err(cause) => cause.to_string(),
    };
    Reload::Failed(format!("systemd was not reloaded: {why}; run `systemctl {}`", args.join(" ")))
}
