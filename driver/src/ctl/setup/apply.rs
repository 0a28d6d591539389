//! Applies the plan: psid first, then podman, then the drop-ins; removals come last. A failure affects only its own
//! secret.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use psi_common::{Exit, Paths, Scope, SecretBytes};
use psi_proto::v1::StoreKind;

use super::reconcile::{Action, ActualState, Plan, Step, UnlistedSecret};
use super::systemd::{self, Reload};
use super::unit_of;
use super::users::{Outsiders, WorkloadUser};
use crate::client::{Client, Deadline};
use crate::ctl::files;
use crate::ctl::podman::{self, Store, ids};
use crate::ctl::progress::Progress;
use crate::error::CliError;

/// Podman processes at a time: one starts while another holds podman's lock.
const MAX_PROCESSES: usize = 2;

/// The outcome of a plan.
#[derive(Default)]
pub(super) struct Applied {
    /// The number of writes of podman's record of secrets.
    pub(super) podman_writes: usize,
    /// The number of registrations that were changed in psid alone.
    pub(super) psid_writes: usize,
    /// The drop-ins that were written or removed.
    pub(super) drop_ins: Vec<PathBuf>,
    /// The secrets that were removed.
    pub(super) removed: BTreeSet<String>,
    /// The secrets that are no longer listed and were kept, each with the reason.
    pub(super) kept: BTreeMap<String, String>,
    /// The secrets and files that failed, each with the cause.
    pub(super) failed: BTreeMap<String, String>,
    /// Whether systemd has read the drop-ins.
    pub(super) reload: Reload,
    /// Which of the workloads' units systemd has; `None` if it was not asked.
    pub(super) units: Option<BTreeSet<String>>,
    /// The users that were made members of the group that may connect to psid.
    pub(super) admitted: Vec<WorkloadUser>,
    /// The secrets that podman created.
    created: BTreeSet<String>,
}

/// Applies the plans.
pub(super) fn apply(
    found: &ActualState,
    plans: &[Plan],
    paths: &Paths,
    prune: bool,
) -> Result<Applied, CliError> {
    let mut applied = Applied::default();
    applied.admit(&found.outsiders);
    applied.register(plans, paths)?;
    applied.create(found, plans, paths)?;
    applied.correct_commands(found, plans);
    for plan in plans {
        applied.write_drop_ins(found, plan, prune);
    }
    if !applied.drop_ins.is_empty() {
        let scope = Scope::of_this_process();
        applied.reload = systemd::reload(scope);
        if applied.reload == Reload::Done {
            let units: Vec<String> = plans.iter().map(|plan| unit_of(&plan.name)).collect();
            applied.units = systemd::existing(scope, &units);
        }
    }
    if prune {
        applied.remove(plans)?;
    }
    Ok(applied)
}

impl Applied {
    pub(super) fn has_created(&self) -> bool {
        !self.created.is_empty()
    }

    fn admit(&mut self, outsiders: &Outsiders) {
        if let Some(problem) = &outsiders.problem {
            self.failed.insert("users".into(), problem.to_string());
        }
        for user in &outsiders.users {
            match user.admit() {
                Ok(()) => self.admitted.push(user.clone()),
                Err(why) => {
                    self.failed.insert(format!("user {}", user.name), why);
                }
            }
        }
    }

    /// Changes registrations in psid alone: podman keeps the id and the name.
    fn register(&mut self, plans: &[Plan], paths: &Paths) -> Result<(), CliError> {
        let client = Client::new(paths, Deadline::Admin);
        for Step { secret, action, id, .. } in plans.iter().flat_map(|plan| &plan.steps) {
            let Some(id) = *id else { continue };
            let stored = match action {
                Action::Register => {
                    let data = SecretBytes::new(secret.reference.clone().into_bytes());
                    client.store(id, &data, StoreKind::Reference)
                }
                Action::Repoint => client.repoint(id, &secret.reference),
                Action::Keep | Action::Create => continue,
            };
            match stored {
                Ok(()) => self.psid_writes += 1,
                Err(failure) if failure.exit() == Exit::NoDaemon => return Err(failure),
                Err(failure) => {
                    self.failed.insert(secret.name.clone(), failure.to_string());
                }
            }
        }
        Ok(())
    }

    /// Creates podman secrets. Podman writes its record once for each; it cannot create several at once.
    fn create(
        &mut self,
        found: &ActualState,
        plans: &[Plan],
        paths: &Paths,
    ) -> Result<(), CliError> {
        let steps = plans.iter().flat_map(|plan| &plan.steps);
        let new: Vec<_> = steps.filter(|step| step.action == Action::Create).collect();
        let progress = Progress::of("secrets registered with podman", new.len());
        let options = found.commands.options();
        let mut running = VecDeque::new();
        for (count, Step { secret, .. }) in new.into_iter().enumerate() {
            if running.len() >= MAX_PROCESSES
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
                // Without psid, podman would wait ten seconds for each of the others.
                Client::new(paths, Deadline::Probe).health()?;
            }
        }
        Ok(())
    }

    /// Corrects the commands of secrets by one write of podman's record, because podman has no update.
    fn correct_commands(&mut self, found: &ActualState, plans: &[Plan]) {
        let steps = plans.iter().flat_map(|plan| &plan.steps);
        let is_stale = |step: &&Step| step.stale && !self.failed.contains_key(&step.secret.name);
        let stale: Vec<_> = steps.filter(is_stale).map(|step| step.secret.name.as_str()).collect();
        if stale.is_empty() {
            return;
        }
        let stale_ids = ids(stale.iter().filter_map(|name| found.secrets.only(name)));
        let store = Store::of(&found.podman.graph_root);
        let corrected = store.hand_to_psi(&stale_ids, &found.commands);
        match corrected {
            Ok(corrected) => self.podman_writes += usize::from(!corrected.is_empty()),
            Err(failure) => {
                let why = failure.to_string();
                self.failed.extend(stale.into_iter().map(|name| (name.to_owned(), why.clone())));
            }
        }
    }

    fn write_drop_ins(&mut self, found: &ActualState, plan: &Plan, prune: bool) {
        let is_in_podman = |name: &str| found.secrets.has(name) || self.created.contains(name);
        let text = plan.text(is_in_podman, prune);
        if plan.may_write() && text != plan.drop_in.text() {
            self.write_drop_in(&plan.drop_in.path, &text);
        }
        if let Some((drop_in, text)) = plan.kube_change(prune) {
            self.write_drop_in(&drop_in.path, text);
        }
    }

    /// Writes a drop-in, or removes it if the text is empty.
    fn write_drop_in(&mut self, path: &Path, text: &str) {
        let written =
            if text.is_empty() { remove_drop_in(path) } else { files::replace(path, text) };
        match written {
            Ok(()) => self.drop_ins.push(path.to_owned()),
            Err(cause) => {
                let why = format!("{cause}; run it as the owner of the quadlets");
                self.failed.insert(path.display().to_string(), why);
            }
        }
    }

    /// Removes what is no longer listed. A secret of a container stays: the next exec or healthcheck needs it.
    fn remove(&mut self, plans: &[Plan]) -> Result<(), CliError> {
        let mut candidates: Vec<&str> = Vec::new();
        for plan in plans {
            let path = plan.drop_in.path.display().to_string();
            let is_named = self.failed.contains_key(&path) || self.reload.failed();
            let in_podman = plan.unlisted.iter().filter(|gone| gone.in_podman);
            for UnlistedSecret { name, .. } in in_podman {
                match &plan.incomplete {
                    Some(_) => self.keep(name, "not every source of its workload answered"),
                    None if plan.unconfirmed.is_some() => {}
                    None if is_named => self.keep(name, "its unit still refers to it"),
                    None if plan.may_prune() => candidates.push(name),
                    None => {}
                }
            }
        }
        if candidates.is_empty() {
            return Ok(());
        }
        let used = podman::containers()?;
        let progress = Progress::of("secrets removed from podman", candidates.len());
        for (count, name) in candidates.into_iter().enumerate() {
            progress.show(count);
            if let Some(container) = used.iter().find(|container| container.words.contains(name)) {
                let container = &container.name;
                self.keep(
                    name,
                    &format!("container {container} uses it; restart the container, then run it again with --prune"),
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

/// Removes a drop-in, and its directory if that is empty.
fn remove_drop_in(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)?;
    if let Some(directory) = path.parent() {
        let _ = std::fs::remove_dir(directory);
    }
    Ok(())
}
