//! psid, run in psi-driver's place.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use psi_common::Paths;

use crate::failure::Failure;

/// Becomes psid with these arguments; comes back only when that fails.
pub(super) fn instead(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Failure {
    let psid = installed();
    let cause = Command::new(&psid).arg("--config").arg(&paths.config).args(args).exec();
    Failure::io(&format!("running {}", psid.display()), &cause, "install psid beside psi-driver")
}

/// The psid that was installed with this psi-driver.
fn installed() -> PathBuf {
    std::env::current_exe()
        .map(|driver| driver.with_file_name("psid"))
        .ok()
        .filter(|psid| psid.exists())
        .unwrap_or_else(|| "/usr/bin/psid".into())
}
