//! Podman's secrets, by the `podman` command and by podman's files.
//!
//! For psictl only: podman holds its lock while it runs psi-driver, so psi-driver must never wait for podman.

mod command;
mod commands;
mod directory;
mod file_driver;
mod kube_document;
mod lock;
mod lookup;
mod probe;
mod record;
mod secrets;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use psi_common::Exit;
use serde_json::Value;

use crate::ctl::args;
use crate::error::CliError;

pub(crate) use command::{Running, create, remove};
pub(crate) use commands::Commands;
pub(crate) use directory::Directory;
pub(crate) use file_driver::FileDriver;
pub(crate) use kube_document::{is_kube_document, remedy as kube_document_remedy};
pub(crate) use lookup::resolve;
pub(crate) use probe::{ProbeFailure, is_probe, probe, remove_probes};
pub(crate) use record::{
    OfDriver, Record, STORE_IN_HOME, homes, nameless, record_in_home, record_of,
};
pub(crate) use secrets::{Secret, Secrets, duplicate_names, ids};
pub(crate) use store::Store;

/// Every secret, with its driver's options and without its value.
pub(crate) fn secrets() -> Result<Secrets, CliError> {
    let listed = command::secrets()?;
    let parsed =
        listed.iter().map(|secret| secrets::parse(secret).ok_or_else(|| unrecognized(secret)));
    parsed.collect()
}

/// The names of the secrets, by one call of podman.
pub(crate) fn names() -> Result<Vec<String>, CliError> {
    Ok(command::names()?.lines().map(str::to_owned).collect())
}

/// Every container.
pub(crate) fn containers() -> Result<Vec<Container>, CliError> {
    Ok(command::containers()?.iter().map(Container::of).collect())
}

/// Whether the caller's PATH has podman.
pub(crate) fn is_installed() -> bool {
    let path = args::search_path().unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join("podman").is_file())
}

/// The place of podman's store, and podman's version.
pub(crate) fn about() -> Result<About, CliError> {
    let info = command::info()?;
    let root = info["store"]["graphRoot"].as_str().map(PathBuf::from);
    let version = info["version"]["Version"].as_str();
    match (root, version) {
        (Some(graph_root), Some(version)) => Ok(About { graph_root, version: version.to_owned() }),
        _ => Err(unrecognized(&info)),
    }
}

/// A podman's store and version.
pub(crate) struct About {
    /// The directory of its containers, images and secrets.
    pub(crate) graph_root: PathBuf,
    pub(crate) version: String,
}

impl About {
    /// Whether it is older than this version.
    pub(crate) fn is_before(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self.version.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
    }
}

/// What a container says about secrets.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) is_running: bool,
    /// The secrets that it mounts, and every word of the command that created it: podman shows secrets that are
    /// variables nowhere else.
    pub(crate) words: BTreeSet<String>,
    /// The arguments of the command that created it.
    pub(crate) created_by: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Container {
    fn of(inspected: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let config = &inspected["Config"];
        let mounted = config["Secrets"].as_array().into_iter().flatten();
        let mounted = mounted.filter_map(|secret| secret["Name"].as_str());
        let created_by = config["CreateCommand"].as_array().into_iter().flatten();
        let created_by: Vec<String> = created_by.map(text).collect();
        let words = created_by.iter().flat_map(|arg| arg.split(['=', ',']));
        let labels = config["Labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(name, value)| (name.clone(), text(value)));
        Self {
            id: text(&inspected["Id"]),
            name: text(&inspected["Name"]),
            is_running: inspected["State"]["Running"].as_bool().unwrap_or_default(),
            words: mounted.chain(words).map(str::to_owned).collect(),
            labels: labels.collect(),
            created_by,
        }
    }
}

fn unrecognized(answer: &Value) -> CliError {
    let answer: String = answer.to_string().chars().take(200).collect();
    CliError::new(
        Exit::Protocol,
        format!("podman's output is not understood: {answer}"),
        "report it, with the output of `podman version`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn is_before_compares_numbers() {
        let about = |version: &str| About { graph_root: PathBuf::new(), version: version.into() };
        assert!(about("4.3.1").is_before(5, 0) && about("5.4.2").is_before(5, 10));
        assert!(!about("5.0.0-dev").is_before(5, 0) && !about("10.0.0").is_before(5, 3));
    }

    #[test]
    fn unrecognized_output_is_reported_in_one_line() {
        assert!(secrets::parse(&json!({"ID": "x", "Spec": {}})).is_none());
        let message = unrecognized(&json!({"ID": "x\ny"})).to_string();
        assert!(message.contains(r#"{"ID":"x\ny"}"#) && !message.contains('\n'), "{message}");
    }
}
