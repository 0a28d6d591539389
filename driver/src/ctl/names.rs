//! Podman's names of secrets, which psid does not learn from podman.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use psi_common::{Exit, Paths, SecretId};
use psi_proto::v1::SecretName;

use crate::client::{Client, Deadline, Key};
use crate::ctl::podman::{Record, Secrets};
use crate::error::CliError;

/// The names of one call: psid accepts at most 1 MiB, and a path has up to 4 KiB.
const MAX_NAMES: usize = 200;

/// Calls with the key that `name` denotes: an id, a name that psid knows (WORKLOAD--KEY or a reference), or else the
/// id that podman has for the name.
///
/// It runs `podman`, which finds the right store in every configuration. Podman itself must never wait for this.
pub(crate) fn by_any_name<T>(
    name: &str,
    call: impl Fn(&Key) -> Result<T, CliError>,
) -> Result<T, CliError> {
    if let Ok(id) = name.parse::<SecretId>() {
        return call(&Key::Id(id));
    }
    match call(&Key::Name(name.to_owned())) {
        Err(unknown) if unknown.exit() == Exit::NoSuchSecret && !name.starts_with('{') => {
            call(&Key::Id(podman_id(name).ok_or(unknown)?))
        }
        result => result,
    }
}

fn podman_id(name: &str) -> Option<SecretId> {
    let output = Command::new("podman")
        .args(["secret", "inspect", "--format", "{{.ID}}", "--", name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The podman names of registered ids, as far as psid remembers them.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<String, String>);

impl Known {
    /// The names of these ids; psid is called only if there are any, and a failure leaves the ids without names.
    pub(super) fn of<'a>(paths: &Paths, ids: impl IntoIterator<Item = &'a String>) -> Self {
        let ids: BTreeSet<&String> = ids.into_iter().collect();
        if ids.is_empty() {
            return Self::default();
        }
        let registered = Client::new(paths, Deadline::Probe).registrations().unwrap_or_default();
        let named = registered.into_iter().filter(|one| !one.name.is_empty());
        Self(named.filter(|one| ids.contains(&one.id)).map(|one| (one.id, one.name)).collect())
    }

    /// `NAME (ID)`, or the id.
    pub(super) fn shown(&self, id: &str) -> String {
        self.0.get(id).map_or_else(|| id.to_owned(), |name| format!("{name} ({id})"))
    }

    /// All of them, each as [`Known::shown`].
    pub(super) fn list(&self, ids: &[String]) -> String {
        ids.iter().map(|id| self.shown(id)).collect::<Vec<_>>().join(", ")
    }

    /// The names by id.
    pub(super) fn by_id(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// Reports the names of the secrets in these stores to psid, as hints for people and for gc. Failures are ignored,
/// because nothing depends on them.
pub(super) fn report(paths: &Paths, stores: &BTreeMap<PathBuf, Record>) {
    let all = stores.iter().flat_map(|(root, record)| {
        record.iter().map(|(id, name)| SecretName {
            id: id.to_string(),
            name: name.clone(),
            store: root.display().to_string(),
        })
    });
    let names: Vec<SecretName> = all.collect();
    for names in names.chunks(MAX_NAMES) {
        if Client::new(paths, Deadline::Probe).note_names(names.to_vec()).is_err() {
            return;
        }
    }
}

/// Reports the names of podman's secrets to psid.
pub(super) fn report_secrets(paths: &Paths, secrets: &Secrets, graph_root: &Path) {
    let of_psi = secrets.iter().filter(|secret| secret.names_psi());
    let record = of_psi.map(|secret| (secret.id, secret.name.clone())).collect();
    report(paths, &BTreeMap::from([(graph_root.to_owned(), record)]));
}
