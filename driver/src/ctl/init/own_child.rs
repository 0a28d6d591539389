//! psictl as a child of `psictl init`: a step that is a plain command runs that command.

use std::process::{Command, Stdio};

use psi_common::Exit;

use crate::error::CliError;

/// How a psictl ended.
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) stdout: String,
    pub(super) error: String,
}

/// Runs the plain command that does the step.
pub(super) fn psictl(args: &[&str]) -> Result<Ended, CliError> {
    let own = std::env::current_exe()
        .map_err(|cause| CliError::io("reading /proc/self/exe", &cause, "mount /proc"))?;
    let output = Command::new(own).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|cause| CliError::io("running psictl", &cause, "run it again"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let prefix = format!(
        "{}: {}: ",
        crate::ctl::PROGRAM,
        args.iter().take_while(|arg| !arg.starts_with('-')).copied().collect::<Vec<_>>().join(" ")
    );
    Ok(Ended {
        exit: output.status.code().and_then(Exit::from_code).unwrap_or(Exit::Protocol),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: line.strip_prefix(&prefix).unwrap_or(line).to_owned(),
    })
}
