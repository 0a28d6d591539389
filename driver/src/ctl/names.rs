//! Names that only podman knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use psi_common::{Exit, Paths, SecretId};
use psi_proto::v1::SecretName;

use crate::client::{Client, Deadline, Key};
use crate::ctl::podman::{Record, Secrets};
use crate::error::CliError;

/// Of one call: psid takes no more than 1 MiB, and a path has up to 4 KiB.
const AT_ONCE: usize = 200;

/// Calls with the key that `name` means: an id as it is; a name as psid knows it (WORKLOAD--KEY, a
/// reference); else the id that podman has for the name.
///
/// Podman is asked by its command, which finds the right store in every configuration. So this is
/// for people and scripts: podman itself must never be made to wait for it.
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
        answer => answer,
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

/// Tells psid the names of what stores have, and the stores. It is a hint, for people and for gc, so that nothing
/// depends on whether psid takes it.
pub(super) fn note(paths: &Paths, stores: &BTreeMap<PathBuf, Record>) {
    let all = stores.iter().flat_map(|(root, record)| {
        record.iter().map(|(id, name)| SecretName {
            id: id.to_string(),
            name: name.clone(),
            store: root.display().to_string(),
        })
    });
    let names: Vec<SecretName> = all.collect();
    for names in names.chunks(AT_ONCE) {
        if Client::new(paths, Deadline::Probe).note_names(names.to_vec()).is_err() {
            return;
        }
    }
}

/// Tells psid the names of one podman's secrets.
pub(super) fn note_secrets(paths: &Paths, secrets: &Secrets, graph_root: &Path) {
    let of_psi = secrets.iter().filter(|secret| secret.names_psi());
    let record = of_psi.map(|secret| (secret.id, secret.name.clone())).collect();
    note(paths, &BTreeMap::from([(graph_root.to_owned(), record)]));
}
