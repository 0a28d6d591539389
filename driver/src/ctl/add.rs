//! `psictl add NAME --literal`: a podman secret whose text is a literal whatever it looks like.

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
        CliError::new(Exit::BadInput, refused.to_string(), "take another name")
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
fn value(name: &str) -> Result<SecretBytes, CliError> {
    if !std::io::stdin().is_terminal() {
        return stdio::read_value();
    }
    let quiet = EchoOff::begin();
    let _ = write!(std::io::stderr(), "value of {}: ", check::printable(name));
    let value = stdio::read_line();
    let _ = writeln!(std::io::stderr());
    drop(quiet);
    let value = value?;
    if value.is_empty() {
        return Err(CliError::new(
            Exit::BadInput,
            "no value was given",
            "type it, or pass it on stdin",
        ));
    }
    Ok(value)
}
