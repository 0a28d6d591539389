//! `psictl add NAME`: creates one podman secret, a reference to a key of a provider or a literal.

use std::io::IsTerminal;

use psi_common::{Exit, Paths, SecretBytes, check};
use serde_json::json;

use super::{keys, names};
use crate::client::{Client, Deadline, Key};
use crate::ctl::args::AddOptions;
use crate::ctl::podman::{self, Commands};
use crate::error::CliError;
use crate::stdio;

/// The provider that has projects.
const PROVIDER: &str = "infisical";

pub(crate) fn run(paths: &Paths, options: &AddOptions) -> Result<(), CliError> {
    let name = &options.name;
    check::foreign_secret_name(name).map_err(|refused| {
        CliError::new(Exit::BadInput, refused.to_string(), "choose another name")
    })?;
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let what = match (&options.project, &options.key) {
        (Some(project), Some(key)) => {
            let path = options.path.as_deref().unwrap_or("/");
            let reference = reference(paths, project, path, key)?;
            podman::create(name, &reference, &commands.options())?.finish()?;
            format!("a reference to {key} of {project}:{path}")
        }
        _ => {
            let value = value(name)?;
            podman::create(name, &value, &commands.literal_options())?.finish()?;
            "a literal that psid encrypts".to_owned()
        }
    };
    if let (Ok(secrets), Ok(about)) = (podman::secrets(), podman::about()) {
        names::report_secrets(paths, &secrets, &about.graph_root);
    }
    stdio::write_text(&format!("created podman secret {name}, {what}\n"))
}

/// The reference to a key that psid can look up now.
fn reference(paths: &Paths, project: &str, path: &str, key: &str) -> Result<SecretBytes, CliError> {
    check::project(project).and(check::path(path)).and(check::key(key)).map_err(|refused| {
        CliError::new(Exit::BadInput, refused.to_string(), "correct it; nothing was created")
    })?;
    let reference =
        json!({"provider": PROVIDER, "project": project, "path": path, "key": key}).to_string();
    let value = Client::new(paths, Deadline::Admin).lookup(&Key::Name(reference.clone()))?;
    if value.is_empty() {
        crate::ctl::note("add", &format!("the value of {} is empty now", check::excerpt(key)));
    }
    Ok(SecretBytes::new(reference.into_bytes()))
}

/// Reads stdin to its end; at a terminal, one line without an echo.
fn value(name: &str) -> Result<SecretBytes, CliError> {
    if !std::io::stdin().is_terminal() {
        return stdio::read_value();
    }
    keys::read_secret_line(&format!("value of {}", check::printable(name)), "value")
}
