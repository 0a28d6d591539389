//! `daemon-reload`: quadlet makes units of the drop-ins at each one.

use std::path::Path;
use std::process::{Command, Stdio};

use psi_common::Scope;

/// What became of the reload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Reload {
    /// Nothing changed.
    #[default]
    NotNeeded,
    /// No systemd runs here, as in a container or an image that is being built (sd_booted(3)).
    NoSystemd,
    Done,
    /// Everything else is done: what to run by hand, and why.
    Failed(String),
}

impl Reload {
    pub(super) fn failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// Makes systemd read its units again.
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
            let words = String::from_utf8_lossy(&output.stderr);
            words.lines().next().map_or_else(|| output.status.to_string(), str::to_owned)
        }
        Err(cause) => cause.to_string(),
    };
    Reload::Failed(format!("systemd was not reloaded: {why}; run `systemctl {}`", args.join(" ")))
}
