//! `psictl install`: writes the podman drop-in.

use std::fs;

use psi_common::Paths;

use super::files;
use crate::ctl::args::InstallOptions;
use crate::ctl::podman::Commands;
use crate::error::CliError;
use crate::stdio;

const TITLE: &str = "install";

pub(crate) fn run(paths: &Paths, options: &InstallOptions) -> Result<(), CliError> {
    let commands = Commands::of(Some(&options.program), paths)?;
    let text = commands.drop_in();
    if options.stdout {
        return stdio::write_text(&text);
    }
    let target = &paths.podman_drop_in;
    if fs::read_to_string(target).is_ok_and(|present| present == text) {
        return stdio::write_text(&format!("{} is up to date\n", target.display()));
    }
    files::replace(target, &text).map_err(|cause| {
        CliError::io(
            &format!("writing {}", target.display()),
            &cause,
            "run it as the owner of podman's config",
        )
    })?;
    let program = commands.program();
    if !program.exists() {
        let note = format!("{} does not exist yet; install psi-driver there", program.display());
        crate::ctl::note(TITLE, &note);
    }
    stdio::write_text(&format!(
        "wrote {}\npodman now creates new secrets with psi; existing secrets keep their driver\n",
        target.display()
    ))
}
