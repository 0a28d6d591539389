//! `psictl add NAME --literal`: creates a podman secret that is always a literal.

use std::io::{IsTerminal, Write};

use psi_common::{Exit, Paths, SecretBytes, check};

use super::keys::EchoOff;
use super::names;
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
    let echo_off = EchoOff::begin();
    let _ = write!(std::io::stderr(), "value of {}: ", check::printable(name));
    let value = stdio::read_line();
    let _ = writeln!(std::io::stderr());
    drop(echo_off);
    let value = value?;
    if value.is_empty() {
        return Err(CliError::new(
            Exit::BadInput,
            "the value is empty",
            "type it, or pass it on stdin",
        ));
    }
    Ok(value)
}
