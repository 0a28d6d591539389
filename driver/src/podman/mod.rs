//! Podman's secrets: over its API socket where that answers, by its command otherwise. For people's commands
//! only: podman waits for psi-driver, so nothing that podman runs may come here.

mod api;
mod command;
mod commands;
mod file_driver;
mod guarded;
mod http;
mod lookup;
mod service;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use psi_common::{Exit, Paths, SecretId};
use serde_json::Value;

use crate::args;
use crate::failure::Failure;
use api::Api;
use service::Service;

pub(crate) use commands::Commands;
pub(crate) use file_driver::FileDriver;
pub(crate) use guarded::{IN_A_HOME, ids_in_home};
pub(crate) use lookup::resolve;
pub(crate) use store::Store;

/// A podman.
pub(crate) struct Podman {
    /// None: it is called by its command.
    api: Option<Api>,
    /// What serves the API, when nobody but us asked for that.
    own: Option<Service>,
}

/// From so many calls on, a service of our own is faster than as many commands.
const MANY: usize = 8;

/// A secret as podman knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) id: SecretId,
    pub(crate) name: String,
    /// "shell", "file" or "pass".
    pub(crate) driver: String,
    /// What the driver was told when the secret was made.
    pub(crate) options: BTreeMap<String, String>,
}

impl Podman {
    /// The podman whose secrets containers of this scope see.
    pub(crate) fn find(paths: &Paths) -> Self {
        let api = api_socket(paths).and_then(|socket| Api::connect(&socket));
        Self { api, own: None }
    }

    /// Makes ready for so many calls: a service that is started for them reads podman's configuration once.
    pub(crate) fn expect(&mut self, calls: usize) {
        if calls >= MANY
            && self.api.is_none()
            && let Some((api, service)) = Service::start()
        {
            (self.api, self.own) = (Some(api), Some(service));
        }
    }

    /// Every secret, by name; with the driver's options, without a value.
    pub(crate) fn secrets(&self) -> Result<BTreeMap<String, Secret>, Failure> {
        let listed = self.api.as_ref().map_or_else(command::secrets, Api::secrets)?;
        let secrets = listed.iter().map(|secret| parse(secret).ok_or_else(|| strange(secret)));
        let secrets = secrets.map(|secret| secret.map(|secret| (secret.name.clone(), secret)));
        secrets.collect()
    }

    /// Makes a secret with psi as its driver, whatever podman's config says.
    pub(crate) fn create(
        &self,
        name: &str,
        data: &str,
        commands: &Commands,
    ) -> Result<(), Failure> {
        let made = self.api.as_ref().map(|api| api.create(name, data, commands));
        match (made, &self.own) {
            (None, _) => command::create(name, data, commands),
            // What psi-driver said to a service of ours is lost; to the command, it is told.
            (Some(Err(_)), Some(_)) => command::create(name, data, commands),
            (Some(made), _) => made,
        }
    }

    /// Removes a secret.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        match &self.api {
            Some(api) => api.remove(name),
            None => command::remove(name),
        }
    }

    /// Every container.
    pub(crate) fn containers(&self) -> Result<Vec<Container>, Failure> {
        let containers = self.api.as_ref().map_or_else(command::containers, Api::containers)?;
        Ok(containers.iter().map(Container::of).collect())
    }

    /// What podman tells of itself.
    pub(crate) fn about(&self) -> Result<About, Failure> {
        let info = self.api.as_ref().map_or_else(command::info, Api::info)?;
        let root = info["store"]["graphRoot"].as_str().map(PathBuf::from);
        let version = info["version"]["Version"].as_str();
        let major = version.and_then(|version| version.split('.').next()?.parse().ok());
        match (root, version, major) {
            (Some(graph_root), Some(version), Some(major)) => {
                Ok(About { graph_root, version: version.to_owned(), major })
            }
            _ => Err(strange(&info)),
        }
    }
}

/// A podman's place and version.
pub(crate) struct About {
    /// Where its containers, images and secrets are.
    pub(crate) graph_root: PathBuf,
    pub(crate) version: String,
    pub(crate) major: u32,
}

/// Podman's own variables come first: they may name another store than the socket's service has.
fn api_socket(paths: &Paths) -> Option<PathBuf> {
    match args::variable("CONTAINER_HOST") {
        Some(host) => Some(Path::new(host.to_str()?.strip_prefix("unix://")?).to_owned()),
        None => {
            let elsewhere =
                ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF"];
            let stays = elsewhere.iter().all(|name| args::variable(name).is_none());
            stays.then(|| paths.podman_socket.clone())
        }
    }
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

/// As `podman secret inspect` and the API have it.
fn parse(secret: &Value) -> Option<Secret> {
    let spec = &secret["Spec"];
    let driver = &spec["Driver"];
    let options = driver["Options"].as_object().into_iter().flatten();
    Some(Secret {
        id: secret["ID"].as_str()?.parse().ok()?,
        name: spec["Name"].as_str()?.to_owned(),
        driver: driver["Name"].as_str()?.to_owned(),
        options: options
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect::<Option<_>>()?,
    })
}

fn strange(answer: &Value) -> Failure {
    let answer: String = answer.to_string().chars().take(200).collect();
    Failure::new(
        Exit::Protocol,
        format!("podman answers what psi-driver does not understand: {answer}"),
        "report it, with the version of podman",
    )
}

impl Secret {
    /// Whether it is psi's, this psi's or a former one's: its commands name psi.
    pub(crate) fn names_psi(&self) -> bool {
        let words = self.options.values();
        let mut words = words.flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
        self.driver == "shell" && words.any(|word| word == "psi")
    }
}

/// The ids of some secrets.
pub(crate) fn ids<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> BTreeSet<SecretId> {
    secrets.into_iter().map(|secret| secret.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(driver: &str, lookup: &str) -> Secret {
        let told = json!({
            "ID": "0123456789abcdef012345678",
            "Spec": {"Name": "a", "Driver": {"Name": driver, "Options": {"lookup": lookup}}},
        });
        parse(&told).unwrap()
    }

    #[test]
    fn the_python_psi_s_commands_are_known_and_others_are_not() {
        for lookup in [
            "exec /usr/bin/psi-driver lookup",
            "curl -sf --unix-socket /run/psi/psi.sock http://localhost/lookup/$SECRET_ID",
            "podman run --rm ghcr.io/quickvm/psi:latest secret lookup",
        ] {
            assert!(secret("shell", lookup).names_psi(), "{lookup}");
        }
        assert!(!secret("shell", "pass show /epsilon/$SECRET_ID").names_psi());
        assert!(!secret("file", "/var/lib/psi").names_psi());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert!(parse(&json!({"ID": "x", "Spec": {}})).is_none());
        let words = strange(&json!({"ID": "x\ny"})).to_string();
        assert!(words.contains(r#"{"ID":"x\ny"}"#) && !words.contains('\n'), "{words}");
    }
}
