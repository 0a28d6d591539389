//! Runs `psid` subcommands as a child for work on keys, ciphers and file formats, which only psid has. The daemon need
//! not run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{geteuid, getpid, getppid};
use psi_common::{Exit, Finding, Paths, Problem};

use crate::ctl::podman::{About, Commands};
use crate::error::CliError;

/// Runs psid with this process's stdin, stdout and stderr. Its exit status becomes this command's, and psid prints the
/// error.
pub(super) fn run(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Result<(), CliError> {
    wait(command(paths, args))
}

/// Runs psid as [`run`] does, but as psid's own user if possible: root has nothing to add, and a permission that psid
/// lacks is found.
///
/// It is possible once psid has run since the boot, and while the helper that opens credentials for it is there.
pub(super) fn run_as_daemon(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Result<(), CliError> {
    let mut command = command(paths, args);
    let has_helper = paths.socket.with_file_name("creds.sock").exists();
    let owner = fs::metadata(&paths.run).ok().filter(|run| run.uid() != 0);
    if let Some(owner) = owner.filter(|_| has_helper && geteuid().is_root()) {
        command.uid(owner.uid()).gid(owner.gid());
    }
    wait(command)
}

fn wait(mut command: Command) -> Result<(), CliError> {
    let status = command.status().map_err(|cause| not_started(&command, &cause))?;
    match status.code().and_then(Exit::from_code) {
        Some(Exit::Ok) => Ok(()),
        Some(exit) => Err(CliError::status_only(exit)),
        None => Err(unknown_status(status)),
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
        None => Err(unknown_status(output.status)),
    }
}

/// The findings of `psid doctor`, which works without a daemon.
pub(super) fn findings(paths: &Paths, commands: &Commands, podman: Option<&About>) -> Vec<Finding> {
    let mut args = vec!["doctor".to_owned(), "--program".into()];
    args.push(commands.program().display().to_string());
    if let Some(podman) = podman {
        args.extend(["--podman".into(), podman.version.clone()]);
    }
    let failed =
        |problem: Problem| vec![Finding::error(problem.what, problem.remedy).of("psid-doctor")];
    let output = match output(paths, &args) {
        Ok(output) => output,
        Err(failure) => return failed(failure.into_problem()),
    };
    serde_json::from_slice(&output).unwrap_or_else(|_| {
        let what = "the output of `psid doctor` is not understood";
        failed(Problem::new(what, "install the psid of this psictl's version"))
    })
}

fn command(paths: &Paths, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(installed());
    command.arg("--config").arg(&paths.config).args(args);
    end_with_parent(&mut command);
    command
}

/// Ends the child when this process ends, also by a signal.
#[expect(unsafe_code, reason = "only a hook between fork and exec can set it for the child")]
fn end_with_parent(command: &mut Command) {
    let parent = getpid();
    let hook = move || {
        set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have ended before the call.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: the hook makes two system calls and does not allocate.
    unsafe {
        command.pre_exec(hook);
    }
}

pub(super) fn not_started(command: &Command, cause: &std::io::Error) -> CliError {
    let running = format!("running {}", command.get_program().display());
    CliError::io(&running, cause, "install psid beside psictl")
}

pub(super) fn unknown_status(status: ExitStatus) -> CliError {
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
