//! Podman's secrets, by its command. For psictl only: podman waits for psi-driver, so nothing that
//! podman runs may come here.

mod command;
mod commands;
mod directory;
mod file_driver;
mod lock;
mod lookup;
mod record;
mod secrets;
mod store;

use std::collections::BTreeSet;
use std::path::PathBuf;

use psi_common::Exit;
use serde_json::Value;

use crate::error::CliError;

pub(crate) use command::{Running, create, remove};
pub(crate) use commands::Commands;
pub(crate) use directory::Directory;
pub(crate) use file_driver::FileDriver;
pub(crate) use lookup::resolve;
pub(crate) use record::{IN_A_HOME, Record, nameless, record_in_home, record_of};
pub(crate) use secrets::{Secret, Secrets, doubled, ids};
pub(crate) use store::Store;

/// Every secret; with the driver's options, without a value.
pub(crate) fn secrets() -> Result<Secrets, CliError> {
    let listed = command::secrets()?;
    let parsed = listed.iter().map(|secret| secrets::parse(secret).ok_or_else(|| strange(secret)));
    parsed.collect()
}

/// Every container.
pub(crate) fn containers() -> Result<Vec<Container>, CliError> {
    Ok(command::containers()?.iter().map(Container::of).collect())
}

/// Where podman keeps its store, and its version.
pub(crate) fn about() -> Result<About, CliError> {
    let info = command::info()?;
    let root = info["store"]["graphRoot"].as_str().map(PathBuf::from);
    let version = info["version"]["Version"].as_str();
    match (root, version) {
        (Some(graph_root), Some(version)) => Ok(About { graph_root, version: version.to_owned() }),
        _ => Err(strange(&info)),
    }
}

/// A podman's place and version.
pub(crate) struct About {
    /// Where its containers, images and secrets are.
    pub(crate) graph_root: PathBuf,
    pub(crate) version: String,
}

/// A container, as far as it is about secrets.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) is_running: bool,
    /// The secrets that it mounts, and every word of the command that made it: podman tells nowhere else of
    /// secrets that are variables.
    pub(crate) words: BTreeSet<String>,
}

impl Container {
    fn of(told: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let config = &told["Config"];
        let mounted = config["Secrets"].as_array().into_iter().flatten();
        let mounted = mounted.filter_map(|secret| secret["Name"].as_str());
        let made_by = config["CreateCommand"].as_array().into_iter().flatten();
        let words = made_by.filter_map(Value::as_str).flat_map(|arg| arg.split(['=', ',']));
        Self {
            id: text(&told["Id"]),
            name: text(&told["Name"]),
            is_running: told["State"]["Running"].as_bool().unwrap_or_default(),
            words: mounted.chain(words).map(str::to_owned).collect(),
        }
    }
}

fn strange(answer: &Value) -> CliError {
    let answer: String = answer.to_string().chars().take(200).collect();
    CliError::new(
        Exit::Protocol,
        format!("podman answers what psictl does not understand: {answer}"),
        "report it, with the version of podman",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_of_another_form_is_reported_in_one_line() {
        assert!(secrets::parse(&json!({"ID": "x", "Spec": {}})).is_none());
        let words = strange(&json!({"ID": "x\ny"})).to_string();
        assert!(words.contains(r#"{"ID":"x\ny"}"#) && !words.contains('\n'), "{words}");
    }
}
