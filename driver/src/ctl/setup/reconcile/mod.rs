//! Compares the actual state with the configured one. It is pure, so that a dry run and a run plan the same.

mod kube;
mod removals;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use psi_common::{Problem, SecretId};
use psi_proto::v1::{PlannedSecret, PlannedWorkload, Registration, RegistrationKind};

use super::drop_in::{self, DropIn, Lines, Present};
use super::users::Outsiders;
use crate::ctl::podman::{self, About, Commands, Secrets};

pub(super) use kube::KubeDropIn;
pub(super) use removals::UnlistedSecret;

/// The actual state of psid, podman and the drop-ins.
pub(super) struct ActualState {
    pub(super) planned: Vec<PlannedWorkload>,
    pub(super) outsiders: Outsiders,
    pub(super) registered: BTreeMap<SecretId, Registration>,
    pub(super) secrets: Secrets,
    /// The secrets that podman does not find by name.
    pub(super) nameless: BTreeSet<SecretId>,
    pub(super) podman: About,
    /// The drop-ins by workload, also of workloads that are no longer in the config.
    pub(super) drop_ins: BTreeMap<String, DropIn>,
    /// The same for kube units.
    pub(super) kube_drop_ins: BTreeMap<String, DropIn>,
    pub(super) commands: Commands,
    /// Whether the config has a key backend, so that values outlive a reboot.
    pub(super) has_backend: bool,
    /// A warning for each source whose removals psid withholds.
    pub(super) withheld: Vec<String>,
    /// Whether the admin confirms all removals.
    pub(super) accept_removals: bool,
    /// How the config file differs from what psid runs with.
    pub(super) config_drift: Option<String>,
    /// Whether psid is a unit of the manager that runs the quadlets: the system's psid is none of a user's manager.
    pub(super) is_psid_a_unit: bool,
}

/// The plan of one workload.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) drop_in: DropIn,
    /// The drop-in of its kube unit, if it has one or is to have one.
    pub(super) kube: Option<KubeDropIn>,
    pub(super) depends_on: Vec<String>,
    pub(super) steps: Vec<Step>,
    /// The secrets that the workload no longer lists.
    pub(super) unlisted: Vec<UnlistedSecret>,
    /// The reason that its listing is incomplete.
    pub(super) incomplete: Option<String>,
    /// The reason that its removals need a confirmation.
    pub(super) unconfirmed: Option<String>,
    pub(super) warnings: Vec<String>,
    pub(super) errors: Vec<String>,
    /// Nothing may be changed for it.
    pub(super) blocked: bool,
    /// The config no longer has it.
    pub(super) is_removed: bool,
    /// Whether the drop-in orders the container after psid's units.
    pub(super) is_psid_a_unit: bool,
}

/// One secret of a workload and the change that it needs.
pub(super) struct Step {
    pub(super) secret: PlannedSecret,
    pub(super) action: Action,
    /// Its commands in podman are not the right ones.
    pub(super) stale: bool,
    /// Podman's id, if podman has the secret.
    pub(super) id: Option<SecretId>,
    /// It holds all of the workload, for `podman kube play`: no container has it by the drop-in.
    pub(super) is_document: bool,
}

impl Step {
    fn of(secret: &PlannedSecret, action: Action) -> Self {
        Self { secret: secret.clone(), action, stale: false, id: None, is_document: false }
    }
}

/// The change that a secret needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    /// Podman does not have it: one write of podman's record.
    Create,
    /// psid does not have it; podman is not changed.
    Register,
    /// It refers to another place; podman is not changed.
    Repoint,
}

impl ActualState {
    /// The plan of each workload.
    pub(super) fn plan(&self) -> Vec<Plan> {
        let configured = self.planned.iter().map(|workload| self.plan_workload(workload));
        let names: BTreeSet<&str> = self.planned.iter().map(|w| w.name.as_str()).collect();
        let former = self.drop_ins.iter().filter(|(name, _)| !names.contains(name.as_str()));
        configured.chain(former.map(|(name, drop_in)| self.plan_removed(name, drop_in))).collect()
    }

    fn plan_workload(&self, workload: &PlannedWorkload) -> Plan {
        // A workload whose name cannot be a path has no drop-in.
        let nowhere = DropIn { path: PathBuf::new(), present: Present::Nothing };
        let drop_in = self.drop_ins.get(&workload.name).cloned().unwrap_or(nowhere);
        let mut plan = Plan {
            name: workload.name.clone(),
            drop_in,
            kube: self.kube_drop_in(workload),
            depends_on: workload.depends_on.clone(),
            steps: Vec::new(),
            unlisted: Vec::new(),
            incomplete: not_empty(&workload.incomplete),
            unconfirmed: None,
            warnings: Vec::new(),
            errors: not_empty(&workload.error).into_iter().collect(),
            blocked: !workload.error.is_empty(),
            is_removed: false,
            is_psid_a_unit: self.is_psid_a_unit,
        };
        if plan.blocked {
            return plan;
        }
        plan.errors.extend(plan.drop_in.fault());
        plan.errors.extend(plan.kube.as_ref().and_then(|kube| kube.drop_in.fault()));
        for secret in &workload.secrets {
            plan.warnings
                .extend(secret.warnings.iter().map(|why| format!("{}: {why}", secret.name)));
            match self.step(secret) {
                Ok(step) if is_unsure(workload, step.action) => plan.withhold(step),
                Ok(step) => plan.steps.push(step),
                Err(problem) => plan.errors.push(problem.to_string()),
            }
        }
        if let Some(document) = &workload.kube {
            plan.warnings.extend(kube::no_documents(&self.podman));
            match self.document_step(document) {
                Ok(step) => plan.steps.push(step),
                Err(problem) => plan.errors.push(problem.to_string()),
            }
        }
        plan.unlisted = self.unlisted_of(workload, &plan.drop_in);
        plan.unconfirmed = self.doubt(workload, &plan.unlisted);
        // Duplicates of listed secrets are errors of their steps.
        let listed = |name: &str| workload.secrets.iter().any(|secret| secret.name == name);
        let doubled = self.secrets.duplicates().filter(|same| {
            same.first().is_some_and(|secret| {
                self.owner(&secret.name) == Some(&workload.name) && !listed(&secret.name)
            })
        });
        plan.errors.extend(doubled.map(|same| podman::duplicate_names(same).to_string()));
        plan
    }

    fn step(&self, secret: &PlannedSecret) -> Result<Step, Problem> {
        if !secret.error.is_empty() {
            return Err(Problem::without_remedy(&secret.error));
        }
        let present = match self.secrets.named(&secret.name) {
            [] => {
                return Ok(Step::of(secret, Action::Create));
            }
            [present] if self.nameless.contains(&present.id) => {
                return Err(Problem::new(
                    format!(
                        "podman has {} but does not find it by name, because another secret of that name was removed",
                        secret.name
                    ),
                    format!("run `podman secret rm {}`, then `psictl setup`", present.id),
                ));
            }
            [present] => present,
            several => return Err(podman::duplicate_names(several)),
        };
        let registration = self.registered.get(&present.id);
        if present.driver != "shell" {
            return Err(Problem::new(
                format!("{} is a secret of podman's {} driver", secret.name, present.driver),
                "move it with `psictl migrate --from file`, or remove it",
            ));
        }
        if registration.is_none() && !present.names_psi() {
            return Err(Problem::new(
                format!("{} belongs to another secret driver", secret.name),
                "remove it with `podman secret rm`",
            ));
        }
        let action = match registration.map(|registration| (registration.kind(), registration)) {
            None => Action::Register,
            Some((RegistrationKind::Reference, _)) => {
                let is_right = secret.ids.iter().any(|id| id == present.id.as_str());
                if is_right { Action::Keep } else { Action::Repoint }
            }
            Some((RegistrationKind::Literal, _)) => {
                return Err(Problem::new(
                    format!("{} is a literal that only psid has", secret.name),
                    "remove it with `podman secret rm` to use the provider's value",
                ));
            }
            Some((_, registration)) => {
                let what =
                    format!("{}: psid cannot use it: {}", secret.name, registration.description);
                return Err(Problem::without_remedy(what));
            }
        };
        let stale = !self.commands.matches(&present.options);
        let id = Some(present.id);
        Ok(Step { stale, id, ..Step::of(secret, action) })
    }

    /// The plan of a workload that is no longer in the config: its drop-in has its secrets.
    fn plan_removed(&self, name: &str, drop_in: &DropIn) -> Plan {
        let named = drop_in.lines().into_keys();
        let documents = self.secrets.iter().filter(|secret| self.is_document_of(secret, name));
        let named = named.chain(documents.map(|secret| secret.name.clone()));
        let gone = named.filter(|name| self.owner(name).is_none()).map(|name| {
            let in_podman =
                self.secrets.only(&name).is_some_and(|secret| self.is_created_by_setup(secret));
            UnlistedSecret { name, in_podman }
        });
        Plan {
            name: name.to_owned(),
            drop_in: drop_in.clone(),
            kube: self.kube_drop_ins.get(name).map(KubeDropIn::removed),
            depends_on: Vec::new(),
            steps: Vec::new(),
            unlisted: gone.collect(),
            incomplete: None,
            unconfirmed: (self.planned.is_empty() && !self.accept_removals)
                .then(|| "psid's config has no workload at all".to_owned()),
            warnings: Vec::new(),
            errors: Vec::new(),
            blocked: false,
            is_removed: true,
            is_psid_a_unit: self.is_psid_a_unit,
        }
    }

    /// Whether podman has a secret once the plan is applied.
    pub(super) fn will_have(&self, plan: &Plan, name: &str) -> bool {
        self.secrets.has(name) || plan.steps.iter().any(|step| step.secret.name == name)
    }

    /// The workload whose prefix a name has; of `app` and `app--two`, the longer one.
    pub(super) fn owner(&self, name: &str) -> Option<&String> {
        let owners = self.planned.iter().filter(|workload| name.starts_with(&workload.prefix));
        owners.max_by_key(|workload| workload.prefix.len()).map(|workload| &workload.name)
    }
}

impl Plan {
    /// Leaves a secret unchanged until every source has answered.
    fn withhold(&mut self, step: Step) {
        let Step { secret: PlannedSecret { name, source, .. }, action, .. } = &step;
        let (state, next) = match action {
            Action::Create | Action::Register => ("is not registered", "be in"),
            Action::Repoint | Action::Keep => ("stays as it is", "still come from"),
        };
        self.warnings.push(format!(
            "{name} {state}: {source} has it, but it may {next} a source that did not answer; run `psictl setup` again once all do"
        ));
        if *action != Action::Create {
            self.steps.push(Step { action: Action::Keep, ..step });
        }
    }

    /// The lines of the new drop-in. `is_there` says which secrets podman has by then, `pruned` whether unlisted ones
    /// are removed.
    ///
    /// Without `pruned` a line is removed only if podman no longer has its secret and the listing is complete: the
    /// container could not start with it.
    pub(super) fn lines(&self, is_there: impl Fn(&str) -> bool, pruned: bool) -> Lines {
        let mut lines = self.drop_in.lines();
        for gone in &self.unlisted {
            let is_removed =
                if gone.in_podman { pruned && self.may_prune() } else { self.is_complete() };
            if is_removed {
                lines.remove(&gone.name);
            }
        }
        for Step { secret, .. } in self.steps.iter().filter(|step| !step.is_document) {
            if is_there(&secret.name) {
                lines.insert(secret.name.clone(), drop_in::line(secret));
            }
        }
        lines
    }

    /// The text of the new drop-in; empty for none.
    pub(super) fn text(&self, is_there: impl Fn(&str) -> bool, pruned: bool) -> String {
        if self.is_removed {
            return if pruned && self.may_prune() {
                String::new()
            } else {
                self.drop_in.text().to_owned()
            };
        }
        let lines = self.lines(is_there, pruned);
        if lines.is_empty() && self.drop_in.text().is_empty() {
            return String::new();
        }
        drop_in::text(self.is_psid_a_unit, &self.depends_on, &lines)
    }

    /// Whether unlisted secrets may be removed.
    pub(super) fn may_prune(&self) -> bool {
        self.is_complete() && self.unconfirmed.is_none()
    }

    /// Whether every source answered.
    fn is_complete(&self) -> bool {
        self.incomplete.is_none() && !self.blocked
    }

    /// Whether its drop-in may be written.
    pub(super) fn may_write(&self) -> bool {
        !self.blocked && !matches!(self.drop_in.present, Present::Foreign(_))
    }
}

/// Whether a source that did not answer may override the one that an action uses. A registration outlives the outage,
/// so none is made from such a guess.
fn is_unsure(workload: &PlannedWorkload, action: Action) -> bool {
    let may_be_wrong = match action {
        Action::Keep => false,
        Action::Repoint => true,
        Action::Create | Action::Register => workload.overlaps,
    };
    may_be_wrong && !workload.incomplete.is_empty()
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
