//! psid, run as a child for what needs a key, a cipher or a file format: only psid has those. No daemon need run.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use psi_common::{Exit, Paths};

use crate::error::CliError;

/// Runs psid with this process's stdin, stdout and stderr. Its exit status becomes this command's; its own message
/// says why.
pub(super) fn run(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Result<(), CliError> {
    let mut command = command(paths, args);
    let status = command.status().map_err(|cause| not_started(&command, &cause))?;
    match status.code().and_then(Exit::from_code) {
        Some(Exit::Ok) => Ok(()),
        Some(exit) => Err(CliError::status_only(exit)),
        None => Err(ended_oddly(status)),
    }
}

/// Runs psid and returns its stdout. If it fails, the last line of its stderr is the error.
pub(super) fn output(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Result<Vec<u8>, CliError> {
    let mut command = command(paths, args);
    let output = command.output().map_err(|cause| not_started(&command, &cause))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    match String::from_utf8_lossy(&output.stderr).lines().last() {
        Some(line) => Err(CliError::without_remedy(Exit::BadInput, line)),
        None => Err(ended_oddly(output.status)),
    }
}

fn command(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(installed());
    command.arg("--config").arg(&paths.config).args(args);
    command
}

pub(super) fn not_started(command: &Command, cause: &std::io::Error) -> CliError {
    let running = format!("running {}", command.get_program().display());
    CliError::io(&running, cause, "install psid beside psictl")
}

pub(super) fn ended_oddly(status: ExitStatus) -> CliError {
    CliError::new(
        Exit::Protocol,
        format!("psid ended with {status}, without a message"),
        "check that psid and psictl are of one version",
    )
}

/// The psid of psictl's own directory, else the packaged one.
pub(super) fn installed() -> PathBuf {
    std::env::current_exe()
        .map(|psictl| psictl.with_file_name("psid"))
        .ok()
        .filter(|psid| psid.exists())
        .unwrap_or_else(|| "/usr/bin/psid".into())
}
