//! `psictl exec -- COMMAND`: replaces this process by the command, with a workload's secrets in its environment.

mod program;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use psi_common::{Exit, Paths, SecretBytes};

use super::{client, variables};
use crate::ctl::args::{self, ExecOptions};
use crate::error::CliError;

pub(crate) fn run(paths: &Paths, options: &ExecOptions) -> Result<(), CliError> {
    let Some((name, args)) = options.command.split_first() else {
        return Err(CliError::new(Exit::Usage, "no command is given", "add one after --"));
    };
    // Searched in the caller's PATH, before any secret is fetched.
    let program = program::find(name, args::search_path().as_deref())?;
    let variables = variables::of(&client(paths), &options.workload, &options.allow, "exec")?;
    let mut command = Command::new(&program);
    command.arg0(name).args(args);
    command.envs(variables.iter().map(|(name, value)| (name, as_text(value))));
    let cause = command.exec();
    Err(program::exec_error(&program, &cause))
}

fn as_text(value: &SecretBytes) -> OsString {
    OsStr::from_bytes(value.expose_secret()).to_owned()
}
