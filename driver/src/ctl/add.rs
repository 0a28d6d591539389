//! `psictl add NAME --literal`: creates a podman secret that is always a literal.

use std::io::IsTerminal;

use psi_common::{Exit, Paths, SecretBytes, check};

use super::{keys, names};
use crate::ctl::args::AddOptions;
use crate::ctl::podman::{self, Commands};
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, options: &AddOptions) -> Result<(), CliError> {
    let name = &options.name;
    check::foreign_secret_name(name).map_err(|refused| {
        CliError::new(Exit::BadInput, refused.to_string(), "choose another name")
    })?;
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let value = value(name)?;
    podman::create(name, &value, &commands.literal_options())?.finish()?;
    if let (Ok(secrets), Ok(about)) = (podman::secrets(), podman::about()) {
        names::report_secrets(paths, &secrets, &about.graph_root);
    }
    stdio::write_text(&format!("created podman secret {name}, a literal that psid encrypts\n"))
}

/// Reads stdin to its end; at a terminal, one line without an echo.
fn value(name: &str) -> Result<SecretBytes, CliError> {
    if !std::io::stdin().is_terminal() {
        return stdio::read_value();
    }
    keys::read_secret_line(&format!("value of {}", check::printable(name)), "value")
}
