//! psictl: the commands for admins. psi-driver uses none of it.

mod add;
pub(crate) mod args;
mod cache;
mod changes;
mod client;
pub(crate) mod complete;
mod config_in_force;
mod delete;
mod dependents;
mod doctor;
mod drill;
mod export;
mod files;
mod gc;
mod get;
mod hsm;
mod import;
mod init;
mod install;
mod json;
mod keys;
mod login;
mod metrics;
mod migrate;
mod names;
mod plaintext;
mod podman;
mod progress;
mod psid;
mod quadlet;
mod random;
mod restore;
mod seal;
mod secrets;
mod setup;
mod status;
mod systemctl;
mod wording;

use psi_common::Paths;

use crate::error::CliError;
use crate::{stdio, verbs};
use args::{Command, DriverCommand};

/// The program's name in messages.
pub(crate) const PROGRAM: &str = "psictl";

/// Runs one command.
pub(crate) fn run(paths: &Paths, command: &Command) -> Result<(), CliError> {
    match command {
        Command::Driver(DriverCommand::Delete { id: Some(id), force }) => {
            delete::run(paths, id, *force)
        }
        Command::Driver(DriverCommand::Get { name }) => get::run(paths, name),
        Command::Driver(command) => verbs::run(paths, &command.verb()),
        Command::Restore { id, all } => restore::run(paths, id.as_deref(), *all),
        Command::Init(options) => init::run(paths, options),
        Command::Seal(options) => seal::run(paths, options),
        Command::Status(options) => status::run(paths, options.verify, options.json),
        Command::Secrets(options) => secrets::run(paths, options),
        Command::Add(options) => add::run(paths, options),
        Command::Install(options) => install::run(paths, options),
        Command::Login(options) => login::run(paths, options),
        Command::Setup(options) => setup::run(paths, options),
        Command::Doctor(options) => doctor::run(paths, options),
        Command::Dependents(options) => dependents::run(paths, options),
        Command::Gc(options) => gc::run(paths, options),
        Command::Migrate(options) => migrate::run(paths, options),
        Command::Import { command } => import::run(paths, command),
        Command::ApplyChanges(options) => changes::apply::run(paths, options),
        Command::Exec(options) => export::exec::run(paths, options),
        Command::Env(options) => export::env::run(paths, options),
        Command::Render(options) => export::render::run(paths, options),
        Command::Cache { command } => cache::run(paths, command),
        Command::Hsm { command } => hsm::run(paths, command),
        Command::Drill(options) => drill::run(paths, options),
        Command::Metrics => metrics::run(paths),
    }
}

/// Writes a note about a command that succeeds, as one line on stderr.
fn note(title: &str, text: &str) {
    stdio::print_line(PROGRAM, title, text);
}

/// What [`crate::testing`] exports.
#[cfg(feature = "testing")]
pub(crate) mod testing {
    use std::collections::BTreeMap;

    use clap::ValueEnum;
    use psi_common::SecretBytes;

    use super::args::{EnvFileFormat, Escape};
    use super::{export, import};

    /// The variables of an env-file, or the number of the line that refuses it and the message.
    pub fn env_file(dialect: &str, text: &[u8]) -> import::ParsedEnvFile {
        let format = EnvFileFormat::from_str(dialect, false).map_err(|error| (0, error))?;
        import::parse_env_file(text, format)
    }

    /// A template with the value of each key, or the line and the column that refuse it and the message.
    pub fn template(
        text: &str,
        escape: &str,
        values: BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<u8>, (usize, usize, String)> {
        let escape = Escape::from_str(escape, false).map_err(|error| (0, 0, error))?;
        let values =
            values.into_iter().map(|(key, value)| (key, SecretBytes::new(value))).collect();
        let filled = export::fill_for_tests(text, escape, &values);
        filled.map_err(|fault| (fault.at.line, fault.at.column, fault.what))
    }
}
