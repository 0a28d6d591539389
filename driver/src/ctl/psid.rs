//! psid, run in psi-driver's place.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use psi_common::{Exit, Paths};

use crate::error::CliError;

/// Becomes psid with these arguments; comes back only when that fails.
pub(super) fn instead(paths: &Paths, args: &[impl AsRef<OsStr>]) -> CliError {
    let psid = installed();
    let cause = Command::new(&psid).arg("--config").arg(&paths.config).args(args).exec();
    CliError::io(&format!("running {}", psid.display()), &cause, "install psid beside psi-driver")
}

/// What psid writes to stdout with these arguments; when it fails, its own words are why.
pub(super) fn output(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Result<Vec<u8>, CliError> {
    let psid = installed();
    let mut command = Command::new(&psid);
    command.arg("--config").arg(&paths.config).args(args);
    let output = command.output().map_err(|cause| {
        let running = format!("running {}", psid.display());
        CliError::io(&running, &cause, "install psid beside psi-driver")
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().last().unwrap_or("psid failed without a word");
    Err(CliError::without_remedy(Exit::BadInput, last))
}

/// The psid that was installed with this psi-driver.
fn installed() -> PathBuf {
    std::env::current_exe()
        .map(|driver| driver.with_file_name("psid"))
        .ok()
        .filter(|psid| psid.exists())
        .unwrap_or_else(|| "/usr/bin/psid".into())
}
