//! The plan, done: psid first, then podman, then the drop-ins; what is removed goes last. A failure costs the
//! secret that it is about, and no other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use psi_common::{Exit, Paths, Scope, SecretBytes};
use psi_proto::v1::StoreKind;

use super::reconcile::{Action, Found, Gone, Plan, Step};
use super::systemd::{self, Reload};
use crate::client::{Client, Deadline};
use crate::ctl::files;
use crate::ctl::podman::{self, Store, ids};
use crate::ctl::progress::Progress;
use crate::error::CliError;

/// Podmans at once: one starts while another is under podman's lock.
const AT_ONCE: usize = 2;

/// What became of a plan.
#[derive(Default)]
pub(super) struct Done {
    /// How often podman's record of its secrets was written.
    pub(super) podman_writes: usize,
    /// Registrations that were made or changed in psid alone.
    pub(super) psid_writes: usize,
    /// Drop-ins that were written or removed.
    pub(super) drop_ins: Vec<PathBuf>,
    /// Secrets that were removed.
    pub(super) removed: BTreeSet<String>,
    /// Secrets that are gone and stay, and why.
    pub(super) kept: BTreeMap<String, String>,
    /// What failed, by secret or by file, and why.
    pub(super) failed: BTreeMap<String, String>,
    /// Whether systemd has read the drop-ins.
    pub(super) reload: Reload,
    /// Secrets that podman has now.
    created: BTreeSet<String>,
}

/// Does what the plans say.
pub(super) fn apply(
    found: &Found,
    plans: &[Plan],
    paths: &Paths,
    prune: bool,
) -> Result<Done, CliError> {
    let mut done = Done::default();
    done.tell_psid(plans, paths)?;
    done.create(found, plans, paths)?;
    done.correct_commands(found, plans);
    for plan in plans {
        done.write_drop_in(found, plan, prune);
    }
    if !done.drop_ins.is_empty() {
        done.reload = systemd::reload(Scope::of_this_process());
    }
    if prune {
        done.remove(plans)?;
    }
    Ok(done)
}

impl Done {
    pub(super) fn has_created(&self) -> bool {
        !self.created.is_empty()
    }

    /// Registrations change in psid alone: podman keeps the id, and the name is there all the while.
    fn tell_psid(&mut self, plans: &[Plan], paths: &Paths) -> Result<(), CliError> {
        let client = Client::new(paths, Deadline::Admin);
        for Step { secret, action, id, .. } in plans.iter().flat_map(|plan| &plan.steps) {
            let Some(id) = *id else { continue };
            let told = match action {
                Action::Register => {
                    let data = SecretBytes::new(secret.reference.clone().into_bytes());
                    client.store(id, &data, StoreKind::Reference)
                }
                Action::Repoint => client.repoint(id, &secret.reference),
                Action::Keep | Action::Create => continue,
            };
            match told {
                Ok(()) => self.psid_writes += 1,
                Err(failure) if failure.exit() == Exit::NoDaemon => return Err(failure),
                Err(failure) => {
                    self.failed.insert(secret.name.clone(), failure.to_string());
                }
            }
        }
        Ok(())
    }

    /// Podman writes its record once for each new secret; there is no way to make several at once.
    fn create(&mut self, found: &Found, plans: &[Plan], paths: &Paths) -> Result<(), CliError> {
        let steps = plans.iter().flat_map(|plan| &plan.steps);
        let new: Vec<_> = steps.filter(|step| step.action == Action::Create).collect();
        let progress = Progress::of("secrets registered with podman", new.len());
        let options = found.commands.options();
        let mut running = VecDeque::new();
        for (count, Step { secret, .. }) in new.into_iter().enumerate() {
            if running.len() >= AT_ONCE
                && let Some((name, made)) = running.pop_front()
            {
                self.note_created(name, made, paths)?;
            }
            progress.show(count);
            let data = SecretBytes::new(secret.reference.clone().into_bytes());
            let made = podman::create(&secret.name, &data, &options);
            running.push_back((&secret.name, made));
        }
        running.into_iter().try_for_each(|(name, made)| self.note_created(name, made, paths))
    }

    fn note_created(
        &mut self,
        name: &str,
        made: Result<podman::Running, CliError>,
        paths: &Paths,
    ) -> Result<(), CliError> {
        match made.and_then(podman::Running::finish) {
            Ok(()) => {
                self.podman_writes += 1;
                self.created.insert(name.to_owned());
            }
            Err(failure) => {
                self.failed.insert(name.to_owned(), failure.to_string());
                // Without psid, each of the others would take podman ten seconds.
                Client::new(paths, Deadline::Probe).health()?;
            }
        }
        Ok(())
    }

    /// One write for all: podman has no update, so its record is corrected under its lock.
    fn correct_commands(&mut self, found: &Found, plans: &[Plan]) {
        let steps = plans.iter().flat_map(|plan| &plan.steps);
        let right = |step: &&Step| step.stale && !self.failed.contains_key(&step.secret.name);
        let stale: Vec<_> = steps.filter(right).map(|step| step.secret.name.as_str()).collect();
        if stale.is_empty() {
            return;
        }
        let stale_ids = ids(stale.iter().filter_map(|name| found.secrets.only(name)));
        let store = Store::of(&found.graph_root);
        let corrected = store.hand_to_psi(&stale_ids, &found.commands);
        match corrected {
            Ok(corrected) => self.podman_writes += usize::from(!corrected.is_empty()),
            Err(failure) => {
                let why = failure.to_string();
                self.failed.extend(stale.into_iter().map(|name| (name.to_owned(), why.clone())));
            }
        }
    }

    fn write_drop_in(&mut self, found: &Found, plan: &Plan, prune: bool) {
        let there = |name: &str| found.secrets.has(name) || self.created.contains(name);
        let text = plan.text(there, prune);
        if !plan.may_write() || text == plan.drop_in.text() {
            return;
        }
        let path = &plan.drop_in.path;
        let written =
            if text.is_empty() { remove_drop_in(path) } else { files::replace(path, &text) };
        match written {
            Ok(()) => self.drop_ins.push(path.clone()),
            Err(cause) => {
                let why = format!("{cause}; run it as the owner of the quadlets");
                self.failed.insert(path.display().to_string(), why);
            }
        }
    }

    /// What a container still has is needed at its next exec or healthcheck, so it stays.
    fn remove(&mut self, plans: &[Plan]) -> Result<(), CliError> {
        let mut doomed: Vec<&str> = Vec::new();
        for plan in plans {
            let path = plan.drop_in.path.display().to_string();
            let is_named = self.failed.contains_key(&path) || self.reload.failed();
            let in_podman = plan.gone.iter().filter(|gone| gone.in_podman);
            for Gone { name, .. } in in_podman {
                match &plan.incomplete {
                    Some(_) => self.keep(name, "its sources are not known completely"),
                    None if plan.doubted.is_some() => {}
                    None if is_named => self.keep(name, "its unit still names it"),
                    None if plan.may_prune() => doomed.push(name),
                    None => {}
                }
            }
        }
        if doomed.is_empty() {
            return Ok(());
        }
        let used = podman::containers()?;
        let progress = Progress::of("secrets removed from podman", doomed.len());
        for (count, name) in doomed.into_iter().enumerate() {
            progress.show(count);
            if let Some(container) = used.iter().find(|container| container.words.contains(name)) {
                let container = &container.name;
                self.keep(
                    name,
                    &format!("container {container} has it; restart it, then prune again"),
                );
                continue;
            }
            match podman::remove(name) {
                Ok(()) => {
                    self.podman_writes += 1;
                    self.removed.insert(name.to_owned());
                }
                Err(failure) => {
                    self.failed.insert(name.to_owned(), failure.to_string());
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, why: &str) {
        self.kept.insert(name.to_owned(), why.to_owned());
    }
}

/// Its folder goes too, when nothing else is in it.
fn remove_drop_in(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)?;
    if let Some(folder) = path.parent() {
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}
