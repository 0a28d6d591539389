//! The differences between config, provider, podman, drop-in and cache, and the class of each secret.

use psi_proto::v1::{RegistrationKind, Tristate};
use serde::Serialize;

use super::drop_in::{self, DropIn};
use super::reconcile::{Action, ActualState, Plan, Step};
use crate::ctl::podman::Secret;

/// A difference.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Drift {
    /// A secret's podman name, or a workload's name.
    pub(super) name: String,
    /// The place: "podman", "psid", "provider", "drop-in", "cache", "config" or "group".
    pub(super) at: &'static str,
    pub(super) what: String,
}

/// A secret of the shell driver with its class.
#[derive(Serialize)]
pub(super) struct Classified {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) class: Class,
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    /// It resolves through this psid.
    Managed,
    /// It is psi's, but its commands are not the right ones.
    #[serde(rename = "stale options")]
    StaleOptions,
    /// psid has no registration of it, or its workload no longer lists it.
    Orphaned,
    /// Its commands are another program's.
    Foreign,
    /// Not known: a source did not answer, or psid reports no registration.
    Unknown,
}

impl Class {
    pub(super) const ALL: [Self; 5] =
        [Self::Managed, Self::StaleOptions, Self::Orphaned, Self::Foreign, Self::Unknown];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::StaleOptions => "stale options",
            Self::Orphaned => "orphaned",
            Self::Foreign => "foreign",
            Self::Unknown => "unknown",
        }
    }
}

/// Every podman secret of the shell driver, by name.
pub(super) fn classify(found: &ActualState, plans: &[Plan]) -> Vec<Classified> {
    let shell = found.secrets.iter().filter(|secret| secret.driver == "shell");
    let classified = shell.map(|secret| {
        let (class, why) = class_of(found, plans, secret);
        Classified { name: secret.name.clone(), id: secret.id.to_string(), class, why }
    });
    classified.collect()
}

fn class_of(found: &ActualState, plans: &[Plan], secret: &Secret) -> (Class, String) {
    let registration = found.registered.get(&secret.id);
    if registration.is_none() && !secret.names_psi() {
        return (
            Class::Foreign,
            "its commands are not psi's, and psid has no registration of it".into(),
        );
    }
    let planned =
        plans.iter().flat_map(|plan| &plan.steps).any(|step| step.secret.name == secret.name);
    let gone = plans.iter().find(|plan| plan.unlisted.iter().any(|gone| gone.name == secret.name));
    if let Some(plan) = gone {
        return match &plan.incomplete {
            Some(why) => (
                Class::Unknown,
                format!("{} does not list it, but not every source answered: {why}", plan.name),
            ),
            None => (Class::Orphaned, format!("{} no longer lists it", plan.name)),
        };
    }
    let Some(registration) = registration else {
        if found.registered.is_empty() {
            let why = "psid reports no registration at all; see `psictl doctor`";
            return (Class::Unknown, why.into());
        }
        let next = match planned {
            true => "; `psictl setup` registers it again",
            false => "; `psictl restore` lists deleted secrets, otherwise create it again",
        };
        return (
            Class::Orphaned,
            format!("psid has no registration of it, so that a lookup fails{next}"),
        );
    };
    if !found.commands.matches(&secret.options) {
        let next = if planned { "; `psictl setup` corrects that" } else { "; create it again" };
        return (
            Class::StaleOptions,
            format!("its commands are not those of this psi-driver{next}"),
        );
    }
    let why = match (planned, registration.kind()) {
        (true, _) => String::new(),
        (false, RegistrationKind::Literal) => "a literal, created by hand".into(),
        (false, _) => "created by hand".into(),
    };
    (Class::Managed, why)
}

/// The differences.
pub(super) fn drift(found: &ActualState, plans: &[Plan]) -> Vec<Drift> {
    let group = |name: &str, what: String| Drift { name: name.to_owned(), at: "group", what };
    let users =
        found.outsiders.users.iter().map(|user| {
            group(&user.name, "the user of a workload may not connect to psid".to_owned())
        });
    let problem = found.outsiders.problem.iter().map(|problem| group("users", problem.to_string()));
    let of_plans = plans.iter().flat_map(|plan| drift_of(found, plan));
    users.chain(problem).chain(of_plans).collect()
}

fn drift_of(found: &ActualState, plan: &Plan) -> Vec<Drift> {
    let mut all: Vec<Drift> = plan.steps.iter().flat_map(|step| step_drift(found, step)).collect();
    let lists_no_more = match &plan.unconfirmed {
        _ if plan.is_removed => "its workload is no longer in the config".to_owned(),
        Some(why) => format!(
            "its workload no longer lists it, and {why}; --prune --accept-removals removes it"
        ),
        None => "its workload no longer lists it; --prune removes it".to_owned(),
    };
    // A secret that is not listed is not gone as long as a source did not answer.
    let gone = plan.unlisted.iter().filter(|gone| gone.in_podman && plan.incomplete.is_none());
    all.extend(gone.map(|gone| Drift {
        name: gone.name.clone(),
        at: if plan.is_removed { "config" } else { "provider" },
        what: lists_no_more.clone(),
    }));
    all.extend(drop_in_drift(found, plan));
    all.extend(kube_drift(plan));
    all
}

fn step_drift(found: &ActualState, step: &Step) -> Vec<Drift> {
    let drift = |at, what: String| Drift { name: step.secret.name.clone(), at, what };
    let from = &step.secret.source;
    let mut all = Vec::new();
    match step.action {
        Action::Create => {
            all.push(drift("podman", format!("{from} has it, podman does not")));
        }
        Action::Register => all.push(drift("psid", "podman has it, psid does not".into())),
        Action::Repoint => {
            let description =
                step.id.and_then(|id| found.registered.get(&id)).map(|it| it.description.as_str());
            let description = description.unwrap_or_default();
            all.push(drift("config", format!("it refers to {description} instead of {from}")));
        }
        Action::Keep => {}
    }
    if step.stale {
        all.push(drift("podman", "its commands are not those of this psi-driver".into()));
    }
    if found.has_backend && step.secret.survives_outage() == Tristate::No {
        let what = "it is not in the cache: after a reboot in an outage it would not be served";
        all.push(drift("cache", what.into()));
    }
    all
}

/// Compares the drop-in with the one that a run without --prune would write.
fn drop_in_drift(found: &ActualState, plan: &Plan) -> Vec<Drift> {
    if plan.is_removed {
        let what = format!(
            "{} belongs to a workload that is not in the config",
            plan.drop_in.path.display()
        );
        return vec![Drift { name: plan.name.clone(), at: "drop-in", what }];
    }
    if let Some(what) = plan.drop_in.fault() {
        return vec![Drift { name: plan.name.clone(), at: "drop-in", what }];
    }
    let (old, new) = (plan.drop_in.text(), wanted_text(found, plan));
    if !plan.may_write() || old == new {
        return Vec::new();
    }
    let (before, after) = (plan.drop_in.lines(), drop_in::lines_of(&new));
    let path = plan.drop_in.path.display();
    let drift = |name: &str, what: String| Drift { name: name.to_owned(), at: "drop-in", what };
    let mut all: Vec<Drift> = after
        .iter()
        .filter(|(name, line)| before.get(*name) != Some(line))
        .map(|(name, _)| drift(name, format!("{path} lacks it or has another line for it")))
        .collect();
    let lost = before.keys().filter(|name| !after.contains_key(*name));
    all.extend(lost.map(|name| drift(name, format!("{path} has it, podman does not"))));
    if all.is_empty() {
        all.push(drift(&plan.name, differs(&plan.drop_in)));
    }
    all
}

/// Compares the drop-in of the kube unit.
fn kube_drift(plan: &Plan) -> Option<Drift> {
    let fault = || plan.kube.as_ref()?.drop_in.fault();
    let change = plan.kube_change(false).map(|(drop_in, _)| differs(drop_in));
    let what = change.or_else(fault)?;
    Some(Drift { name: plan.name.clone(), at: "drop-in", what })
}

fn differs(drop_in: &DropIn) -> String {
    format!("{} differs from what `psictl setup` writes", drop_in.path.display())
}

/// The drop-in's text after a run without `--prune`.
fn wanted_text(found: &ActualState, plan: &Plan) -> String {
    plan.text(|name| found.will_have(plan, name), false)
}
