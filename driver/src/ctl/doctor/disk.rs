//! Secrets that podman itself stores in plaintext, with any driver.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;
use psi_common::Finding;

use super::named;
use super::secrets::Inventory;
use crate::ctl::files;
use crate::ctl::podman::{self, About, Container, FileDriver};
use crate::ctl::wording::counted;

pub(super) fn findings(
    about: &About,
    inventory: &Inventory,
    containers: &[Container],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(left_by_file_driver(about, inventory));
    let uses = |it: &&Container| it.words.iter().any(|word| inventory.secrets.has(word));
    let using: Vec<&Container> = containers.iter().filter(uses).collect();
    findings.extend(copies(&about.graph_root, &using));
    findings.extend(shown(about, &using));
    findings
}

/// Values that the file driver keeps: `podman secret create --replace` deletes by the new driver, not by the old one.
fn left_by_file_driver(about: &About, inventory: &Inventory) -> Option<Finding> {
    let files = FileDriver::of(&about.graph_root);
    let of_files = inventory.secrets.iter().filter(|secret| secret.driver == "file");
    let known = podman::ids(of_files);
    let left = match files.ids() {
        Ok(ids) => ids.difference(&known).count(),
        Err(failure) => {
            return Some(Finding::warning(failure.to_string(), "").of("file-driver-unreadable"));
        }
    };
    if left == 0 || !inventory.has_podman {
        return None;
    }
    let (file, values) = (files.path(), counted(left, "value"));
    let path = file.display();
    if inventory.secrets.iter().next().is_none() {
        let what = format!(
            "{path} holds {values} in plaintext, but podman has no secret at all: its record of secrets may be lost"
        );
        let remedy =
            "restore podman's secrets.json from a backup, or remove the file once nothing needs it";
        return Some(Finding::warning(what, remedy).of("podman-empty"));
    }
    let what = format!(
        "{path} holds {values} in plaintext of secrets that are in another driver or deleted"
    );
    let remedy =
        "`psictl gc` removes the values that psid serves, with --remove-plaintext also the others";
    Some(Finding::warning(what, remedy).of("file-driver-left"))
}

/// Podman's copies of a container's secrets, from its creation to its removal: `userdata/secrets/NAME` of mounts and
/// `userdata/config.json` of variables.
fn copies(graph_root: &Path, using: &[&Container]) -> Vec<Finding> {
    let with_copies: Vec<(&&Container, PathBuf)> = using
        .iter()
        .filter_map(|container| Some((container, copy_of(graph_root, &container.id)?)))
        .filter(|(_, directory)| !is_in_ram(directory))
        .collect();
    let (running, stopped): (Vec<_>, Vec<_>) =
        with_copies.into_iter().partition(|(container, _)| container.is_running);
    let message = |of: &[(&&Container, PathBuf)], state: &str| {
        let names = named(of.iter().map(|(container, _)| container.name.as_str()));
        let place = of.first().and_then(|(_, directory)| directory.parent()?.parent());
        let place = place.unwrap_or(graph_root).display();
        format!(
            "podman keeps the secrets of {} in plaintext below {place} (userdata/secrets, userdata/config.json): {names}",
            counted(of.len(), &format!("{state} container"))
        )
    };
    let mut findings = Vec::new();
    if !stopped.is_empty() {
        let remedy = "`podman rm` removes the containers with the copies; quadlet removes its containers when they stop";
        findings
            .push(Finding::warning(message(&stopped, "stopped"), remedy).of("plaintext-copies"));
    }
    if !running.is_empty() {
        let remedy =
            "mount a tmpfs there and run podman with --transient-store to keep them in RAM";
        findings.push(Finding::note(message(&running, "running"), remedy).of("plaintext-copies"));
    }
    findings
}

/// The directory `DRIVER-containers/ID/userdata` of a container, if it may hold a secret.
fn copy_of(graph_root: &Path, id: &str) -> Option<PathBuf> {
    let directories = fs::read_dir(graph_root).ok()?.flatten();
    let mut directories = directories.filter(|directory| {
        directory.file_name().to_str().is_some_and(|name| name.ends_with("-containers"))
    });
    let userdata = directories.find_map(|directory| {
        let userdata = directory.path().join(id).join("userdata");
        userdata.is_dir().then_some(userdata)
    })?;
    let may_hold_a_secret =
        userdata.join("config.json").exists() || userdata.join("secrets").is_dir();
    may_hold_a_secret.then_some(userdata)
}

fn is_in_ram(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|it| files::is_in_ram(&it))
}

/// Podman before 5.3 shows the values of secret variables in `podman inspect`.
fn shown(about: &About, using: &[&Container]) -> Option<Finding> {
    (about.is_before(5, 3) && !using.is_empty()).then(|| {
        Finding::note(
            format!(
                "podman {} shows the values of secret variables in `podman inspect`",
                about.version
            ),
            "mount the secrets instead, or upgrade podman to 5.3",
        )
        .of("shown-by-inspect")
    })
}
