//! Secrets of psi that `podman kube play` replaced by a `kind: Secret` document of its own.

use std::collections::BTreeSet;
use std::path::Path;

use psi_common::Finding;

use super::named;
use super::secrets::Inventory;
use super::workloads::Workloads;
use crate::ctl::podman::{self, FileDriver, Secret, is_kube_document, kube_document_remedy};
use crate::ctl::wording::counted;

/// The names of such secrets. A file that cannot be read tells nothing.
pub(super) fn names(
    inventory: &Inventory,
    workloads: &Workloads,
    graph_root: &Path,
) -> BTreeSet<String> {
    let is_psis = |secret: &&Secret| {
        secret.driver == "file"
            && (workloads.has(&secret.name) || inventory.was_deleted(&secret.name))
    };
    let suspects = inventory.secrets.iter().filter(is_psis);
    let replaced = suspects.filter(|secret| {
        let files = FileDriver::of_secret(secret, graph_root);
        let values = files.values(&podman::ids([*secret])).unwrap_or_default();
        values.values().any(is_kube_document)
    });
    replaced.map(|secret| secret.name.clone()).collect()
}

/// One finding for all of them.
pub(super) fn finding(names: &BTreeSet<String>) -> Option<Finding> {
    let first = names.first()?;
    let what = format!(
        "`podman kube play` replaced {} of psi by a `kind: Secret` document, which podman's file driver keeps in \
         plaintext: {}",
        counted(names.len(), "secret"),
        named(names.iter().map(String::as_str))
    );
    let remedy = format!(
        "{}; kube = true in [workloads.NAME] of the config makes a secret that `podman kube play` takes",
        kube_document_remedy(first)
    );
    let affected: Vec<&str> = names.iter().map(String::as_str).collect();
    Some(Finding::error(what, remedy).of("secret-replaced").affecting(affected))
}
