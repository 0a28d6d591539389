//! `psi-driver exec -- COMMAND`: becomes the command, with a workload's secrets in its environment.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use psi_common::{Exit, Paths};

use super::{client, value, workloads};
use crate::args::ExecOptions;
use crate::failure::Failure;
use crate::stdio;

const TITLE: &str = "exec";

pub(crate) fn run(paths: &Paths, options: &ExecOptions) -> Result<(), Failure> {
    let Some((program, args)) = options.command.split_first() else {
        return Err(Failure::new(Exit::Usage, "there is no command", "give one after --"));
    };
    let client = client(paths);
    let mut command = Command::new(program);
    command.args(args);
    for workload in workloads(&client, &options.workload, TITLE)? {
        // Of several workloads, the later one wins, as the later source does.
        for secret in workload.secrets.iter().filter(|secret| !secret.mount) {
            if !secret.error.is_empty() {
                stdio::note(TITLE, &format!("left out: {}", secret.error));
                continue;
            }
            let value = value(&client, secret)?;
            if value.expose_secret().contains(&0) {
                return Err(Failure::new(
                    Exit::BadInput,
                    format!("the value of {} holds a NUL, and no variable can", secret.key),
                    format!(
                        "add it to mount of [workloads.\"{}\"], and use `psi-driver render`",
                        workload.name
                    ),
                ));
            }
            command.env(&secret.key, OsStr::from_bytes(value.expose_secret()));
        }
    }
    let cause = command.exec();
    Err(Failure::io(
        &format!("running {}", program.to_string_lossy().escape_debug()),
        &cause,
        "name a program that is there",
    ))
}
