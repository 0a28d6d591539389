//! What differs between config, provider, podman, drop-in and cache, by name; and whose each secret is.

use psi_proto::v1::{RegistrationKind, Tristate};

use super::drop_in::{self, Present};
use super::reconcile::{Action, Found, Plan, Step};
use crate::ctl::podman::Secret;

/// A difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Drift {
    /// A secret's podman name, or a workload's.
    pub(super) name: String,
    /// What is not as it should be: "podman", "psid", "provider", "drop-in", "cache" or "config".
    pub(super) at: &'static str,
    pub(super) what: String,
}

/// A secret of the shell driver.
pub(super) struct Classed {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) class: Class,
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It resolves through this psi.
    Managed,
    /// It is psi's, and podman runs other commands for it than it should.
    StaleOptions,
    /// psid knows it no more, or its workload lists it no more.
    Orphaned,
    /// It is another driver's.
    Foreign,
    /// Who has it is not known: a source did not answer, or psid reports nothing.
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

/// Every shell-driver secret of podman, by name.
pub(super) fn classify(found: &Found, plans: &[Plan]) -> Vec<Classed> {
    let shell = found.secrets.iter().filter(|secret| secret.driver == "shell");
    let classed = shell.map(|secret| {
        let (class, why) = class_of(found, plans, secret);
        Classed { name: secret.name.clone(), id: secret.id.to_string(), class, why }
    });
    classed.collect()
}

fn class_of(found: &Found, plans: &[Plan], secret: &Secret) -> (Class, String) {
    let registration = found.registered.get(&secret.id);
    if registration.is_none() && !secret.names_psi() {
        return (Class::Foreign, "its commands are not psi's, and psid does not know it".into());
    }
    let planned =
        plans.iter().flat_map(|plan| &plan.steps).any(|step| step.secret.name == secret.name);
    let gone = plans.iter().find(|plan| plan.gone.iter().any(|gone| gone.name == secret.name));
    if let Some(plan) = gone {
        return match &plan.incomplete {
            Some(why) => (Class::Unknown, format!("{} does not list it, but {why}", plan.name)),
            None => (Class::Orphaned, format!("{} no longer lists it", plan.name)),
        };
    }
    let Some(registration) = registration else {
        if found.registered.is_empty() {
            let why = "psid reports no registration at all; see `psictl doctor`";
            return (Class::Unknown, why.into());
        }
        let next = match planned {
            true => "; a setup registers it again",
            false => "; `psictl restore` lists what can be brought back, else create it again",
        };
        return (Class::Orphaned, format!("psid has no such registration: a lookup fails{next}"));
    };
    if !found.commands.are(&secret.options) {
        let next = if planned { "; a setup corrects that" } else { "; create it again" };
        return (
            Class::StaleOptions,
            format!("podman runs other commands for it than it should{next}"),
        );
    }
    let why = match (planned, registration.kind()) {
        (true, _) => String::new(),
        (false, RegistrationKind::Literal) => "a literal, made by hand".into(),
        (false, _) => "made by hand".into(),
    };
    (Class::Managed, why)
}

/// What differs.
pub(super) fn drift(found: &Found, plans: &[Plan]) -> Vec<Drift> {
    plans.iter().flat_map(|plan| drift_of(found, plan)).collect()
}

fn drift_of(found: &Found, plan: &Plan) -> Vec<Drift> {
    let mut all: Vec<Drift> = plan.steps.iter().flat_map(|step| step_drift(found, step)).collect();
    let lists_no_more = match &plan.doubted {
        _ if plan.is_gone => "its workload is not in the config any more".to_owned(),
        Some(why) => format!(
            "its workload no longer lists it, and {why}; --prune --accept-removals removes it"
        ),
        None => "its workload no longer lists it; --prune removes it".to_owned(),
    };
    // What is not listed is not gone, as long as a source did not answer.
    let gone = plan.gone.iter().filter(|gone| gone.in_podman && plan.incomplete.is_none());
    all.extend(gone.map(|gone| Drift {
        name: gone.name.clone(),
        at: if plan.is_gone { "config" } else { "provider" },
        what: lists_no_more.clone(),
    }));
    all.extend(drop_in_drift(found, plan));
    all
}

fn step_drift(found: &Found, step: &Step) -> Vec<Drift> {
    let drift = |at, what: String| Drift { name: step.secret.name.clone(), at, what };
    let from = &step.secret.source;
    let mut all = Vec::new();
    match step.action {
        Action::Create => {
            all.push(drift("podman", format!("{from} has it, and podman has it not")));
        }
        Action::Register => all.push(drift("psid", "podman has it, and psid has it not".into())),
        Action::Repoint => {
            let about =
                step.id.and_then(|id| found.registered.get(&id)).map(|it| it.description.as_str());
            let about = about.unwrap_or_default();
            all.push(drift("config", format!("it leads to {about}, and should to {from}")));
        }
        Action::Keep => {}
    }
    if step.stale {
        all.push(drift("podman", "podman runs other commands for it than it should".into()));
    }
    if found.has_backend && step.secret.survives_outage() == Tristate::No {
        let what = "the cache has it not: a reboot in an outage would not serve it";
        all.push(drift("cache", what.into()));
    }
    all
}

/// The drop-in that there would be without a prune, against the one that there is.
fn drop_in_drift(found: &Found, plan: &Plan) -> Vec<Drift> {
    if plan.is_gone {
        let what =
            format!("{} is of a workload that the config has not", plan.drop_in.path.display());
        return vec![Drift { name: plan.name.clone(), at: "drop-in", what }];
    }
    if let Present::Foreign(why) = &plan.drop_in.present {
        let what = format!("{}: {why}", plan.drop_in.path.display());
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
        .map(|(name, _)| drift(name, format!("{path} has it not, or not as it should")))
        .collect();
    let lost = before.keys().filter(|name| !after.contains_key(*name));
    all.extend(lost.map(|name| drift(name, format!("{path} has it, and podman has it not"))));
    if all.is_empty() {
        all.push(drift(&plan.name, format!("{path} is not as a setup would write it")));
    }
    all
}

/// The drop-in as a run without `--prune` would leave it.
fn wanted_text(found: &Found, plan: &Plan) -> String {
    plan.text(|name| found.will_have(plan, name), false)
}
