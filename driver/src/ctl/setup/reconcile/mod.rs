//! What there is, compared with what there should be: pure, so that a dry run and a run see the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use psi_common::SecretId;
use psi_proto::v1::{PlannedSecret, PlannedWorkload, Registration, RegistrationKind};

use super::drop_in::{self, DropIn, Lines, Present};
use crate::ctl::podman::{self, Commands, Secret, Secrets};

/// Everything that was looked at.
pub(super) struct Found {
    pub(super) planned: Vec<PlannedWorkload>,
    pub(super) registered: BTreeMap<SecretId, Registration>,
    pub(super) secrets: Secrets,
    /// Those that podman does not find by their names.
    pub(super) nameless: BTreeSet<SecretId>,
    /// Where podman's store is.
    pub(super) graph_root: PathBuf,
    /// By workload: of every one of the config, and of those that were.
    pub(super) drop_ins: BTreeMap<String, DropIn>,
    pub(super) commands: Commands,
    /// Whether values outlive a reboot, as far as the config goes.
    pub(super) has_backend: bool,
    /// What a source lacked, until a second answer confirms it; by source.
    pub(super) withheld: Vec<String>,
    /// Whether an admin confirms whatever is gone.
    pub(super) accept_removals: bool,
}

/// Of one workload, no more goes at once without a confirmation, nor more than half of a directory.
const MOST: usize = 50;
/// psid cuts a member of a reference after so many characters.
const SHOWN: usize = 60;

/// What is to be done for one workload.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) drop_in: DropIn,
    pub(super) depends_on: Vec<String>,
    pub(super) steps: Vec<Step>,
    /// Secrets of this workload that it lists no more.
    pub(super) gone: Vec<Gone>,
    /// Why its listing is not complete.
    pub(super) incomplete: Option<String>,
    /// Why what is gone stays until an admin confirms it.
    pub(super) doubted: Option<String>,
    pub(super) warnings: Vec<String>,
    pub(super) errors: Vec<String>,
    /// Nothing may be done for it.
    pub(super) blocked: bool,
    /// The config has it no more.
    pub(super) is_gone: bool,
}

/// One secret that a workload wants.
pub(super) struct Step {
    pub(super) secret: PlannedSecret,
    pub(super) action: Action,
    /// Podman runs other commands for it than it should.
    pub(super) stale: bool,
    /// Podman's id, where it has one.
    pub(super) id: Option<SecretId>,
}

/// What makes a secret right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    /// Podman has it not: one write of podman's.
    Create,
    /// psid has it not: podman need not know.
    Register,
    /// It leads elsewhere: podman need not know.
    Repoint,
}

/// A secret that its workload lists no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) name: String,
    /// Podman has it; else only the drop-in names it.
    pub(super) in_podman: bool,
}

impl Found {
    /// What is to be done, workload by workload.
    pub(super) fn plan(&self) -> Vec<Plan> {
        let configured = self.planned.iter().map(|workload| self.plan_workload(workload));
        let names: BTreeSet<&str> = self.planned.iter().map(|w| w.name.as_str()).collect();
        let former = self.drop_ins.iter().filter(|(name, _)| !names.contains(name.as_str()));
        configured.chain(former.map(|(name, drop_in)| self.plan_former(name, drop_in))).collect()
    }

    fn plan_workload(&self, workload: &PlannedWorkload) -> Plan {
        // Of a name that makes no path, there is none.
        let nowhere = DropIn { path: PathBuf::new(), present: Present::Nothing };
        let drop_in = self.drop_ins.get(&workload.name).cloned().unwrap_or(nowhere);
        let mut plan = Plan {
            name: workload.name.clone(),
            drop_in,
            depends_on: workload.depends_on.clone(),
            steps: Vec::new(),
            gone: Vec::new(),
            incomplete: not_empty(&workload.incomplete),
            doubted: None,
            warnings: Vec::new(),
            errors: not_empty(&workload.error).into_iter().collect(),
            blocked: !workload.error.is_empty(),
            is_gone: false,
        };
        if plan.blocked {
            return plan;
        }
        if let Present::Foreign(why) = &plan.drop_in.present {
            plan.errors.push(format!("{}: {why}", plan.drop_in.path.display()));
        }
        for secret in &workload.secrets {
            plan.warnings
                .extend(secret.warnings.iter().map(|why| format!("{}: {why}", secret.name)));
            match self.step(secret) {
                Ok(step) if is_unsure(workload, step.action) => plan.withhold(step),
                Ok(step) => plan.steps.push(step),
                Err(why) => plan.errors.push(why),
            }
        }
        plan.gone = self.gone_of(workload, &plan.drop_in);
        plan.doubted = self.doubt(workload, &plan.gone);
        // Of those that it lists, a step tells.
        let listed = |name: &str| workload.secrets.iter().any(|secret| secret.name == name);
        let doubled = self.secrets.doubled().filter(|same| {
            same.first().is_some_and(|secret| {
                self.owner(&secret.name) == Some(&workload.name) && !listed(&secret.name)
            })
        });
        plan.errors.extend(doubled.map(podman::doubled));
        plan
    }

    fn step(&self, secret: &PlannedSecret) -> Result<Step, String> {
        if !secret.error.is_empty() {
            return Err(secret.error.clone());
        }
        let present = match self.secrets.named(&secret.name) {
            [] => {
                return Ok(Step {
                    secret: secret.clone(),
                    action: Action::Create,
                    stale: false,
                    id: None,
                });
            }
            [present] if self.nameless.contains(&present.id) => {
                return Err(format!(
                    "podman has {} and does not find it by its name, as after one of two of that name was removed; \
                     remove it with `podman secret rm {}`, and run setup again",
                    secret.name, present.id
                ));
            }
            [present] => present,
            several => return Err(podman::doubled(several)),
        };
        let registration = self.registered.get(&present.id);
        if present.driver != "shell" {
            return Err(format!(
                "{} is in podman's {} driver; `psictl migrate --from file` moves such secrets, or remove it",
                secret.name, present.driver
            ));
        }
        if registration.is_none() && !present.names_psi() {
            return Err(format!("{} belongs to another secret driver; remove it", secret.name));
        }
        let action = match registration.map(|registration| (registration.kind(), registration)) {
            None => Action::Register,
            Some((RegistrationKind::Reference, _)) => {
                let is_right = secret.ids.iter().any(|id| id == present.id.as_str());
                if is_right { Action::Keep } else { Action::Repoint }
            }
            Some((RegistrationKind::Literal, _)) => {
                return Err(format!(
                    "{} is a literal, which only psid has; remove it if the provider's value is to be used",
                    secret.name
                ));
            }
            Some((_, registration)) => {
                return Err(format!(
                    "{}: psid cannot use it: {}",
                    secret.name, registration.description
                ));
            }
        };
        let stale = !self.commands.are(&present.options);
        Ok(Step { secret: secret.clone(), action, stale, id: Some(present.id) })
    }

    /// What begins as this workload's secrets do, and is a reference of psi's that it lists no more; and what
    /// only its drop-in still names.
    fn gone_of(&self, workload: &PlannedWorkload, drop_in: &DropIn) -> Vec<Gone> {
        let listed: BTreeSet<&str> = workload.secrets.iter().map(|s| s.name.as_str()).collect();
        let owned = |name: &str| self.owner(name) == Some(&workload.name);
        let in_podman = self.secrets.iter().filter(|secret| {
            owned(&secret.name)
                && !listed.contains(secret.name.as_str())
                && self.is_ours(secret)
                && self.secrets.only(&secret.name).is_some()
        });
        let mut gone: BTreeMap<String, bool> =
            in_podman.map(|secret| (secret.name.clone(), true)).collect();
        for name in drop_in.lines().into_keys().filter(|name| !listed.contains(name.as_str())) {
            let there = self.secrets.has(&name);
            gone.entry(name).or_insert(there);
        }
        gone.into_iter().map(|(name, in_podman)| Gone { name, in_podman }).collect()
    }

    /// Why so much may not go at once: a directory that lost most of its secrets may be one that was emptied by
    /// mistake, or that a role hides. A secret's directory is its reference without its key.
    fn doubt(&self, workload: &PlannedWorkload, gone: &[Gone]) -> Option<String> {
        let gone: BTreeSet<&str> =
            gone.iter().filter(|one| one.in_podman).map(|one| one.name.as_str()).collect();
        if self.accept_removals || gone.is_empty() {
            return None;
        }
        let mut directories: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let owned = self.secrets.iter().filter(|secret| {
            self.owner(&secret.name) == Some(&workload.name) && self.is_ours(secret)
        });
        for secret in owned {
            let about = self.registered.get(&secret.id).map_or("", |it| it.description.as_str());
            let key = secret.name.strip_prefix(&workload.prefix).unwrap_or_default();
            let key: String = key.chars().take(SHOWN).collect();
            let directory = about.replacen(&format!(" key={key}"), "", 1);
            let (lost, all) = directories.entry(directory).or_default();
            *lost += usize::from(gone.contains(secret.name.as_str()));
            *all += 1;
        }
        if gone.len() > MOST {
            return Some(format!("{} secrets are gone at once", gone.len()));
        }
        let emptied = directories.iter().find(|(_, (lost, all))| lost * 2 > *all);
        emptied.map(|(directory, (lost, all))| {
            format!("{lost} of the {all} secrets of {directory} are gone at once")
        })
    }

    /// A workload whose name the config has no more: its drop-in tells what was its.
    fn plan_former(&self, name: &str, drop_in: &DropIn) -> Plan {
        let named = drop_in.lines().into_keys();
        let gone = named.filter(|name| self.owner(name).is_none()).map(|name| {
            let in_podman = self.secrets.only(&name).is_some_and(|secret| self.is_ours(secret));
            Gone { name, in_podman }
        });
        Plan {
            name: name.to_owned(),
            drop_in: drop_in.clone(),
            depends_on: Vec::new(),
            steps: Vec::new(),
            gone: gone.collect(),
            incomplete: None,
            doubted: (self.planned.is_empty() && !self.accept_removals)
                .then(|| "psid has no workload at all in its config".to_owned()),
            warnings: Vec::new(),
            errors: Vec::new(),
            blocked: false,
            is_gone: true,
        }
    }

    /// Whether podman will have a secret, when all goes well.
    pub(super) fn will_have(&self, plan: &Plan, name: &str) -> bool {
        self.secrets.has(name) || plan.steps.iter().any(|step| step.secret.name == name)
    }

    /// The workload whose secrets are named so; of `app` and `app--two`, the longer one.
    pub(super) fn owner(&self, name: &str) -> Option<&String> {
        let owners = self.planned.iter().filter(|workload| name.starts_with(&workload.prefix));
        owners.max_by_key(|workload| workload.prefix.len()).map(|workload| &workload.name)
    }

    /// Whether a setup may have made it: a literal was made by hand.
    fn is_ours(&self, secret: &Secret) -> bool {
        secret.driver == "shell"
            && match self.registered.get(&secret.id) {
                Some(registration) => registration.kind() == RegistrationKind::Reference,
                // A psid that reports no registration at all may be one that cannot read them.
                None => secret.names_psi() && !self.registered.is_empty(),
            }
    }
}

impl Plan {
    /// Leaves a secret as it is, until every source has answered.
    fn withhold(&mut self, step: Step) {
        let Step { secret: PlannedSecret { name, source, .. }, action, .. } = &step;
        let (state, next) = match action {
            Action::Create | Action::Register => ("is not registered", "be in"),
            Action::Repoint | Action::Keep => ("stays as it is", "still come from"),
        };
        self.warnings.push(format!(
            "{name} {state}: {source} has it, but it may {next} a source that did not answer; run setup again when all do"
        ));
        if *action != Action::Create {
            self.steps.push(Step { action: Action::Keep, ..step });
        }
    }

    /// The lines of the drop-in to be, when `is_there` tells what podman has by then, and `pruned` whether
    /// what is gone goes.
    ///
    /// No line goes without `pruned`, unless podman has its secret no more and the listing is complete:
    /// the container could not start with it.
    pub(super) fn lines(&self, is_there: impl Fn(&str) -> bool, pruned: bool) -> Lines {
        let mut lines = self.drop_in.lines();
        for gone in &self.gone {
            let goes = if gone.in_podman { pruned && self.may_prune() } else { self.is_known() };
            if goes {
                lines.remove(&gone.name);
            }
        }
        for Step { secret, .. } in &self.steps {
            if is_there(&secret.name) {
                lines.insert(secret.name.clone(), drop_in::line(secret));
            }
        }
        lines
    }

    /// The text of the drop-in to be; empty for none.
    pub(super) fn text(&self, is_there: impl Fn(&str) -> bool, pruned: bool) -> String {
        if self.is_gone {
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
        drop_in::text(&self.depends_on, &lines)
    }

    /// Whether what is gone may go.
    pub(super) fn may_prune(&self) -> bool {
        self.is_known() && self.doubted.is_none()
    }

    /// Whether its sources are known completely.
    fn is_known(&self) -> bool {
        self.incomplete.is_none() && !self.blocked
    }

    /// Whether its drop-in may be written.
    pub(super) fn may_write(&self) -> bool {
        !self.blocked && !matches!(self.drop_in.present, Present::Foreign(_))
    }
}

/// Whether a source that did not answer may have what an action would take from another one. A registration
/// outlives the outage, so none is made of such a guess.
fn is_unsure(workload: &PlannedWorkload, action: Action) -> bool {
    let may_lead_astray = match action {
        Action::Keep => false,
        Action::Repoint => true,
        Action::Create | Action::Register => workload.overlaps,
    };
    may_lead_astray && !workload.incomplete.is_empty()
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
