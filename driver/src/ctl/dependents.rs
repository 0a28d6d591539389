//! `psictl dependents`: the podman secrets that psi serves, and the containers that use them.
//!
//! The packages run it before psi is removed. It reads podman's records, so that it needs no psid and finds the stores of
//! all users.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use psi_common::{Exit, Paths};
use serde::Serialize;

use super::json;
use super::podman::{self, OfDriver, Record, STORE_IN_HOME};
use super::wording::{counted, named};
use crate::client::{Client, Deadline};
use crate::ctl::args::DependentsOptions;
use crate::error::CliError;
use crate::stdio;

/// The names in one line; more are counted.
const MAX_NAMES: usize = 10;
/// The usual store of root's podman.
const USUAL_STORE: &str = "/var/lib/containers/storage";

/// The secrets and containers that fail without psi.
#[derive(Default, Serialize)]
pub(super) struct Dependents {
    /// The secrets of psi's driver, by store.
    stores: BTreeMap<PathBuf, Vec<String>>,
    /// The containers of the caller's podman that use one of its secrets.
    containers: Vec<String>,
    /// The stores, or podman, that could not be read, with the reason.
    unknown: BTreeMap<PathBuf, String>,
}

pub(crate) fn run(paths: &Paths, options: &DependentsOptions) -> Result<(), CliError> {
    let found = Dependents::find(paths);
    stdio::write_text(&if options.json { json::text(&found) } else { found.as_text() })?;
    // Not knowing is not knowing that there is none.
    if found.is_none() && found.unknown.is_empty() {
        return Ok(());
    }
    Err(CliError::status_only(Exit::Drift))
}

impl Dependents {
    pub(super) fn find(paths: &Paths) -> Self {
        let mut found = Self::default();
        match podman::about() {
            Ok(about) => {
                found.note(&about.graph_root, podman::record_of(&about.graph_root, OfDriver::Psi));
                found.find_containers(&about.graph_root);
            }
            Err(failure) => {
                if podman::is_installed() {
                    found.unknown.insert("podman".into(), failure.to_string());
                }
                let usual = Path::new(USUAL_STORE);
                found.note(usual, podman::record_of(usual, OfDriver::Psi));
            }
        }
        for home in podman::homes() {
            let record = podman::record_in_home(&home, OfDriver::Psi);
            found.note(&home.join(STORE_IN_HOME), record);
        }
        // psid may know stores at other paths. It need not run.
        let registered = Client::new(paths, Deadline::Probe).registrations().unwrap_or_default();
        let stores: BTreeSet<PathBuf> =
            registered.into_iter().map(|one| PathBuf::from(one.store)).collect();
        for root in stores.iter().filter(|root| root.is_absolute()) {
            found.note(root, podman::record_of(root, OfDriver::Psi));
        }
        found
    }

    /// Notes a store with its secrets, by name.
    fn note(&mut self, root: &Path, record: io::Result<Option<Record>>) {
        match record {
            Ok(record) => {
                let mut names: Vec<String> = record.unwrap_or_default().into_values().collect();
                names.sort_unstable();
                if !names.is_empty() {
                    self.stores.insert(root.to_owned(), names);
                }
            }
            Err(cause) => {
                self.unknown.insert(root.to_owned(), cause.to_string());
            }
        }
    }

    fn find_containers(&mut self, graph_root: &Path) {
        let Some(names) = self.stores.get(graph_root) else { return };
        match podman::containers() {
            Ok(containers) => {
                let using =
                    |words: &BTreeSet<String>| names.iter().any(|name| words.contains(name));
                let using = containers.into_iter().filter(|container| using(&container.words));
                self.containers = using.map(|container| container.name).collect();
                self.containers.sort_unstable();
            }
            Err(failure) => {
                self.unknown.insert("podman".into(), failure.to_string());
            }
        }
    }

    /// Whether no secret was found.
    pub(super) fn is_none(&self) -> bool {
        self.stores.is_empty()
    }

    pub(super) fn as_text(&self) -> String {
        let mut text = String::new();
        for (root, names) in &self.stores {
            let count = counted(names.len(), "secret");
            let names = named(names.iter().map(String::as_str), MAX_NAMES);
            text += &format!("psi serves {count} of {}: {names}\n", root.display());
        }
        if !self.containers.is_empty() {
            let count = counted(self.containers.len(), "container");
            let names = named(self.containers.iter().map(String::as_str), MAX_NAMES);
            text += &format!("used by {count}: {names}\n");
        }
        for (what, why) in &self.unknown {
            text += &format!("not read: {}: {why}\n", what.display());
        }
        if text.is_empty() { "no podman secret depends on psi\n".into() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_counts_secrets_by_store_and_containers() {
        let mut found = Dependents::default();
        assert_eq!(found.as_text(), "no podman secret depends on psi\n");
        let record = |names: &[&str]| {
            let names = names.iter().enumerate();
            let named =
                names.map(|(at, name)| (format!("{at:025x}").parse().unwrap(), (*name).to_owned()));
            Ok(Some(named.collect()))
        };
        found.note(Path::new("/a"), record(&["db", "tls"]));
        found.note(Path::new("/b"), record(&["x"]));
        found.note(Path::new("/c"), record(&[]));
        found.note(Path::new("/d"), Err(io::ErrorKind::TimedOut.into()));
        found.containers = vec!["web".into()];
        assert_eq!(
            found.as_text(),
            "psi serves 2 secrets of /a: db, tls\npsi serves 1 secret of /b: x\n\
             used by 1 container: web\nnot read: /d: timed out\n"
        );
    }
}
