//! `psictl install`: makes psi podman's driver for new secrets.
//!
//! It refuses where psid could not store a secret (`trial`), writes podman's drop-in, and has podman create a secret
//! (`podman::probe`): what podman does with it counts, not what its config seems to say. `psictl init` runs the same.

mod trial;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::Flock;
use psi_common::{Exit, Paths, Problem, file_lock};

use super::{files, psid};
use crate::ctl::args::InstallOptions;
use crate::ctl::podman::{self, Commands, ProbeFailure};
use crate::error::CliError;
use crate::stdio;
pub(crate) use trial::is_trial;

const TITLE: &str = "install";
/// How long another install may take.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(paths: &Paths, options: &InstallOptions) -> Result<(), CliError> {
    let commands = Commands::of(Some(&options.program), paths)?;
    if options.stdout {
        return stdio::write_text(&commands.drop_in());
    }
    let installer = Installer::lock(paths, &commands)?;
    let checked = installer.check_store();
    match checked {
        Err(refusal) if !options.force => Err(refused(refusal)),
        Err(refusal) => {
            let note = format!(
                "psid could not store a secret now, and podman's config changes all the same (--force): {refusal}"
            );
            crate::ctl::note(TITLE, &note);
            stdio::write_text(&installer.write()?)?;
            stdio::write_text("not proven: podman can create no secret until psid stores one\n")
        }
        Ok(()) => {
            stdio::write_text(&installer.write()?)?;
            stdio::write_text(&format!("{}\n", installer.prove()?))
        }
    }
}

/// The error of an install that changed nothing.
fn refused(refusal: CliError) -> CliError {
    let exit = refusal.exit();
    let Problem { what, remedy } = refusal.into_problem();
    let first = if remedy.is_empty() { String::new() } else { format!("{remedy}, then ") };
    CliError::new(
        exit,
        format!("podman's config was not changed, since psid could not store a secret now: {what}"),
        format!("{first}run `psictl install` again, or add --force"),
    )
}

/// An install that excludes others: a trial or probe that is there belongs to an install that was interrupted.
pub(crate) struct Installer<'a> {
    paths: &'a Paths,
    commands: &'a Commands,
    _lock: Flock<File>,
}

impl<'a> Installer<'a> {
    pub(crate) fn lock(paths: &'a Paths, commands: &'a Commands) -> Result<Self, CliError> {
        let lock = lock(paths, LOCK_LIMIT).map_err(|cause| {
            let remedy = match cause.kind() {
                ErrorKind::TimedOut => "wait for that install, then run it again",
                _ => "run it as the owner of podman's config",
            };
            CliError::io("locking the directory of podman's config", &cause, remedy)
        })?;
        Ok(Self { paths, commands, _lock: lock })
    }

    /// Checks that psid can store a secret now, and removes what an interrupted install left.
    pub(crate) fn check_store(&self) -> Result<(), CliError> {
        let program = self.commands.program();
        if !program.exists() {
            let what = format!("{} does not exist", program.display());
            return Err(CliError::new(Exit::BadInput, what, "install psi-driver there"));
        }
        trial::store_and_delete(self.paths)
    }

    /// Writes the drop-in, and reports what was done.
    pub(crate) fn write(&self) -> Result<String, CliError> {
        let (target, text) = (&self.paths.podman_drop_in, self.commands.drop_in());
        if fs::read_to_string(target).is_ok_and(|present| present == text) {
            return Ok(format!("{} is up to date\n", target.display()));
        }
        files::replace(target, &text).map_err(|cause| {
            let doing = format!("writing {}", target.display());
            CliError::io(&doing, &cause, "run it as the owner of podman's config")
        })?;
        Ok(format!("wrote {}\nexisting secrets keep their driver\n", target.display()))
    }

    /// Proves by a secret that podman creates that new secrets go to psi. If they do not, the error names the file of
    /// podman's config that decides otherwise.
    pub(crate) fn prove(&self) -> Result<String, CliError> {
        if let Err(failure) = podman::remove_probes() {
            return Err(self.explained(&format!("podman lists no secrets: {failure}")));
        }
        match podman::probe(self.commands) {
            Ok(()) => {
                Ok("podman creates new secrets with psi: one was created, looked up and removed"
                    .into())
            }
            Err(ProbeFailure::Elsewhere(what)) => Err(self.explained(&what)),
            Err(ProbeFailure::NotCreated(failure)) => {
                Err(self.explained(&format!("podman creates no new secret: {failure}")))
            }
            Err(ProbeFailure::Other(failure)) => Err(failure),
        }
    }

    /// The failure with the finding of `psid doctor` about podman's config.
    fn explained(&self, what: &str) -> CliError {
        let about = podman::about().ok();
        let findings = psid::findings(self.paths, self.commands, about.as_ref());
        let of_config = findings.into_iter().find(|finding| finding.cause == "containers-conf");
        match of_config.map(|finding| finding.problem) {
            Some(Problem { what: why, remedy }) => {
                CliError::new(Exit::BadInput, format!("{what}: {why}"), remedy)
            }
            None => CliError::new(
                Exit::BadInput,
                what,
                "`podman --log-level=debug info` names each file of podman's config that it reads",
            ),
        }
    }
}

/// Whether an install runs now.
pub(crate) fn is_running(paths: &Paths) -> bool {
    lock(paths, Duration::ZERO).is_err_and(|cause| cause.kind() == ErrorKind::TimedOut)
}

/// Locks the directory of the drop-in, or the nearest one above it that exists.
fn lock(paths: &Paths, limit: Duration) -> std::io::Result<Flock<File>> {
    let directories = paths.podman_drop_in.ancestors().skip(1);
    let nearest = directories.into_iter().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    file_lock::lock_directory(File::open(nearest)?, limit)
}
