//! Where podman itself leaves secrets in clear: with any driver, and whatever psi does.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;
use psi_common::Finding;

use super::secrets::Seen;
use super::{counted, named};
use crate::ctl::files;
use crate::ctl::podman::{self, About, Container, FileDriver};

pub(super) fn findings(about: &About, seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(left_by_file_driver(about, seen));
    match podman::containers() {
        Ok(containers) => {
            let uses = |it: &&Container| it.words.iter().any(|word| seen.secrets.has(word));
            let using: Vec<&Container> = containers.iter().filter(uses).collect();
            findings.extend(copies(&about.graph_root, &using));
            findings.extend(shown(about, &using));
        }
        Err(failure) => findings.push(Finding::warning(failure.to_string(), "").of("podman")),
    }
    findings
}

/// `podman secret create --replace` deletes by the new driver, so the file driver keeps the old value for ever.
fn left_by_file_driver(about: &About, seen: &Seen) -> Option<Finding> {
    let files = FileDriver::of(&about.graph_root);
    let of_files = seen.secrets.iter().filter(|secret| secret.driver == "file");
    let known = podman::ids(of_files);
    let left = match files.ids() {
        Ok(ids) => ids.difference(&known).count(),
        Err(failure) => {
            return Some(Finding::warning(failure.to_string(), "").of("file-driver-unreadable"));
        }
    };
    if left == 0 || !seen.sees_podman {
        return None;
    }
    let (file, values) = (files.path(), counted(left, "value"));
    let path = file.display();
    if seen.secrets.iter().next().is_none() {
        let what = format!(
            "{path} holds {values} in clear, and podman knows no secret at all: its record of them may be lost"
        );
        let remedy =
            "bring that record back from a backup, or move the file away once nothing needs it";
        return Some(Finding::warning(what, remedy).of("podman-empty"));
    }
    let what = format!("{path} holds {values} in clear of secrets that are elsewhere or gone");
    let remedy = "`psictl gc` removes those that psi serves the same, and with --remove-plaintext the others";
    Some(Finding::warning(what, remedy).of("file-driver-left"))
}

/// `userdata/secrets/NAME` of what is mounted, `userdata/config.json` of what is a variable, from a container's
/// creation to its removal.
fn copies(graph_root: &Path, using: &[&Container]) -> Vec<Finding> {
    let with_copies: Vec<(&&Container, PathBuf)> = using
        .iter()
        .filter_map(|container| Some((container, copy_of(graph_root, &container.id)?)))
        .filter(|(_, folder)| !is_in_ram(folder))
        .collect();
    let (running, stopped): (Vec<_>, Vec<_>) =
        with_copies.into_iter().partition(|(container, _)| container.is_running);
    let told = |of: &[(&&Container, PathBuf)], state: &str| {
        let names = named(of.iter().map(|(container, _)| container.name.as_str()));
        let place = of.first().and_then(|(_, folder)| folder.parent()?.parent());
        let place = place.unwrap_or(graph_root).display();
        format!(
            "podman keeps the secrets of {} in clear below {place} (userdata/secrets, userdata/config.json): {names}",
            counted(of.len(), &format!("{state} container"))
        )
    };
    let mut findings = Vec::new();
    if !stopped.is_empty() {
        let remedy =
            "`podman rm` removes the copies too; quadlet's containers are removed when they stop";
        findings.push(Finding::warning(told(&stopped, "stopped"), remedy).of("plaintext-copies"));
    }
    if !running.is_empty() {
        let remedy = "podman with --transient-store, and a tmpfs on that folder, keep them in RAM";
        findings.push(Finding::note(told(&running, "running"), remedy).of("plaintext-copies"));
    }
    findings
}

/// The folder of a container's files, if any of them may hold a secret: `DRIVER-containers/ID/userdata`.
fn copy_of(graph_root: &Path, id: &str) -> Option<PathBuf> {
    let folders = fs::read_dir(graph_root).ok()?.flatten();
    let mut folders = folders.filter(|folder| {
        folder.file_name().to_str().is_some_and(|name| name.ends_with("-containers"))
    });
    let folder = folders.find_map(|folder| {
        let userdata = folder.path().join(id).join("userdata");
        userdata.is_dir().then_some(userdata)
    })?;
    let holds = folder.join("config.json").exists() || folder.join("secrets").is_dir();
    holds.then_some(folder)
}

fn is_in_ram(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|it| files::is_in_ram(&it))
}

/// Podman before 5.3 shows variables that are secrets to whoever may inspect a container.
fn shown(about: &About, using: &[&Container]) -> Option<Finding> {
    let mut numbers = about.version.split(['.', '-']).map(|number| number.parse().unwrap_or(0_u32));
    let version = (numbers.next()?, numbers.next()?);
    (version < (5, 3) && !using.is_empty()).then(|| {
        Finding::note(
            format!(
                "podman {} shows secrets that are variables in `podman inspect`",
                about.version
            ),
            "mount them, or upgrade podman to 5.3",
        )
        .of("shown-by-inspect")
    })
}
