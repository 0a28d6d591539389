//! `psi-driver add NAME --literal`: a podman secret whose text is a literal whatever it looks like.

use std::io::IsTerminal;

use psi_common::{Exit, Paths, SecretBytes, check};

use super::{keys, names};
use crate::args::AddOptions;
use crate::failure::Failure;
use crate::podman::{self, Commands};
use crate::stdio;

pub(crate) fn run(paths: &Paths, options: &AddOptions) -> Result<(), Failure> {
    let name = &options.name;
    check::foreign_secret_name(name).map_err(|refused| {
        Failure::new(Exit::BadInput, refused.to_string(), "take another name")
    })?;
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let value = value(name)?;
    podman::create(name, &value, &commands.literal_options())?.finish()?;
    if let (Ok(secrets), Ok(about)) = (podman::secrets(), podman::about()) {
        names::note_secrets(paths, &secrets, &about.graph_root);
    }
    stdio::write_text(&format!("podman secret {name} is a literal, sealed by psid\n"))
}

/// Stdin to its end; at a terminal one line, without an echo.
fn value(name: &str) -> Result<SecretBytes, Failure> {
    if !std::io::stdin().is_terminal() {
        return stdio::read_value();
    }
    keys::ask(&format!("value of {}", check::printable(name)), "value")
}
