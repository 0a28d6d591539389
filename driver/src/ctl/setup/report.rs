//! What a setup did or would do, for people and for programs. Names and places, never a value.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::apply::Done;
use super::drift::{self, Class, Classed, Drift};
use super::drop_in;
use super::reconcile::{Action, Found, Plan};
use super::systemd::Reload;
use super::{shown, unit_of};
use crate::ctl::args::SetupOptions;

/// A line of names is cut after so many.
const NAMED: usize = 20;

/// The plan as a diff, whose each secret is, and what differs.
pub(super) fn dry_run(found: &Found, plans: &[Plan], options: &SetupOptions) -> String {
    let classed = drift::classify(found, plans);
    let drift = drift::drift(found, plans);
    if options.json {
        return dry_run_json(found, plans, &classed, &drift, options.prune);
    }
    let mut text = String::new();
    for plan in plans {
        let diff = diff(found, plan, options.prune);
        if diff.is_empty() && plan.warnings.is_empty() && plan.errors.is_empty() {
            continue;
        }
        text += &format!("{}:\n", plan.name);
        text += &indented("", &diff);
        text += &indented("warning: ", &plan.warnings);
        text += &indented("error: ", &plan.errors);
    }
    text += &indented("warning: ", &found.withheld);
    text += &format!("secrets of the shell driver: {}\n", counts(&classed));
    for class in [Class::StaleOptions, Class::Orphaned, Class::Foreign, Class::Unknown] {
        let of_class = classed.iter().filter(|secret| secret.class == class);
        for Classed { name, why, .. } in of_class {
            text += &format!("  {}: {name}: {why}\n", class.name());
        }
    }
    if drift.is_empty() {
        return text + "no drift\n";
    }
    text += &format!("drift: {}\n", drift.len());
    for Drift { name, at, what } in drift {
        text += &format!("  {at}: {name}: {what}\n");
    }
    text
}

fn counts(classed: &[Classed]) -> String {
    let count = |class| classed.iter().filter(|secret| secret.class == class).count();
    let told = Class::ALL.into_iter().filter(|class| *class != Class::Unknown || count(*class) > 0);
    told.map(|class| format!("{} {}", count(class), class.name())).collect::<Vec<_>>().join(", ")
}

/// Podman's secrets and the drop-in, before and after.
fn diff(found: &Found, plan: &Plan, prune: bool) -> Vec<String> {
    let mut diff = Vec::new();
    for step in &plan.steps {
        let (name, from) = (&step.secret.name, &step.secret.source);
        let about =
            step.id.and_then(|id| found.registered.get(&id)).map(|it| it.description.as_str());
        match step.action {
            Action::Create => diff.push(format!("+ podman secret {name}, from {from}")),
            Action::Register => diff.push(format!("+ registration of {name}, from {from}")),
            Action::Repoint => {
                diff.push(format!("- registration of {name}: {}", about.unwrap_or_default()));
                diff.push(format!("+ registration of {name}: {}", step.secret.reference));
            }
            Action::Keep => {}
        }
        if step.stale
            && let Some(present) = found.secrets.only(name)
        {
            let lookup = present.options.get("lookup").map_or("", String::as_str);
            diff.push(format!("- commands of {name}: {}", without_credentials(lookup)));
            diff.push(format!(
                "+ commands of {name}: exec {} …",
                found.commands.program().display()
            ));
        }
    }
    if prune && plan.may_prune() {
        let gone = plan.gone.iter().filter(|gone| gone.in_podman);
        diff.extend(gone.map(|gone| format!("- podman secret {}", gone.name)));
    }
    if plan.may_write() {
        let text = plan.text(|name| found.will_have(plan, name), prune);
        diff.extend(drop_in::diff(&plan.drop_in.path, plan.drop_in.text(), &text));
    }
    diff
}

/// The Python PSI's commands hold a bearer token.
fn without_credentials(command: &str) -> String {
    let program = command.split_whitespace().find(|word| *word != "exec").unwrap_or_default();
    format!("{program} …")
}

fn indented(mark: &str, lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {mark}{line}\n")).collect()
}

fn dry_run_json(
    found: &Found,
    plans: &[Plan],
    classed: &[Classed],
    drift: &[Drift],
    prune: bool,
) -> String {
    let workloads = plans.iter().map(|plan| {
        json!({
            "name": plan.name,
            "diff": diff(found, plan, prune),
            "incomplete": plan.incomplete,
            "doubted": plan.doubted,
            "warnings": plan.warnings,
            "errors": plan.errors,
        })
    });
    let secrets = classed.iter().map(|Classed { name, id, class, why }| {
        json!({"name": name, "id": id, "class": class.name(), "why": why})
    });
    let drift =
        drift.iter().map(|Drift { name, at, what }| json!({"name": name, "at": at, "what": what}));
    let drift: Vec<Value> = drift.collect();
    let report = json!({
        "clean": drift.is_empty() && plans.iter().all(|plan| plan.errors.is_empty()),
        "workloads": workloads.collect::<Vec<_>>(),
        "secrets": secrets.collect::<Vec<_>>(),
        "drift": drift,
    });
    format!("{report:#}\n")
}

/// What was done.
pub(super) fn run(found: &Found, plans: &[Plan], done: &Done, options: &SetupOptions) -> String {
    if options.json {
        return run_json(found, plans, done);
    }
    let mut text: String = found.withheld.iter().map(|line| format!("warning: {line}\n")).collect();
    for plan in plans {
        text += &summary(plan, done);
        text += &indented("warning: ", &plan.warnings);
        text += &indented("warning: ", &unlisted(plan, done));
        text += &indented("error: ", &plan.errors);
    }
    for (name, why) in &done.failed {
        text += &format!("error: {name}: {why}\n");
    }
    for (name, why) in &done.kept {
        text += &format!("kept {name}: {why}\n");
    }
    for path in &done.drop_ins {
        let verb = if path.exists() { "wrote" } else { "removed" };
        text += &format!("{verb} {}\n", path.display());
    }
    text += &match &done.reload {
        Reload::Failed(why) => format!("warning: {why}\n"),
        Reload::NoSystemd => {
            "no systemd runs here: the drop-ins count from its next start\n".into()
        }
        Reload::Done | Reload::NotNeeded => String::new(),
    };
    text += &restarts(plans, done);
    text + &match (done.podman_writes, done.psid_writes) {
        (0, 0) if done.drop_ins.is_empty() => "nothing to do\n".into(),
        (podman, psid) => format!("{podman} writes of podman's record, {psid} of psid's\n"),
    }
}

fn summary(plan: &Plan, done: &Done) -> String {
    let count = |action| {
        let steps = plan.steps.iter().filter(|step| step.action == action);
        steps.filter(|step| !done.failed.contains_key(&step.secret.name)).count()
    };
    let removed = plan.gone.iter().filter(|gone| done.removed.contains(&gone.name)).count();
    let told = [
        (count(Action::Create), "registered"),
        (count(Action::Register), "registered again"),
        (count(Action::Repoint), "pointed elsewhere"),
        (plan.steps.iter().filter(|step| step.stale).count(), "with stale options"),
        (removed, "removed"),
        (count(Action::Keep), "unchanged"),
    ];
    let told: Vec<_> = told
        .into_iter()
        .filter(|(count, what)| *count > 0 || *what == "unchanged")
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    format!("{}: {}\n", plan.name, told.join(", "))
}

/// What is gone and stays, unless it is told of already.
fn unlisted(plan: &Plan, done: &Done) -> Vec<String> {
    let stays = plan.gone.iter().map(|gone| gone.name.as_str());
    let stays =
        stays.filter(|name| !done.removed.contains(*name) && !done.kept.contains_key(*name));
    let names: Vec<&str> = stays.collect();
    if names.is_empty() {
        return Vec::new();
    }
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = names[..names.len().min(NAMED)].join(", ");
    vec![match &plan.incomplete {
        Some(why) => format!("{names}{more} not listed, and kept: {why}"),
        None => match &plan.doubted {
            Some(why) => format!(
                "{names}{more} no longer listed, and kept: {why}; --prune --accept-removals removes them"
            ),
            None => format!("{names}{more} no longer listed, and kept; --prune removes them"),
        },
    }]
}

/// Quadlet units take drop-ins up when they start.
fn restarts(plans: &[Plan], done: &Done) -> String {
    let written: BTreeSet<_> = done.drop_ins.iter().collect();
    let changed = plans.iter().filter(|plan| written.contains(&plan.drop_in.path) && !plan.is_gone);
    let units: Vec<String> = changed.map(|plan| unit_of(&plan.name.replace('@', "@*"))).collect();
    if units.is_empty() {
        return String::new();
    }
    format!("to take that up: systemctl restart {}\n", units.join(" "))
}

fn run_json(found: &Found, plans: &[Plan], done: &Done) -> String {
    let names = |plan: &Plan, action| {
        let steps = plan.steps.iter().filter(|step| step.action == action);
        let steps = steps.map(|step| step.secret.name.clone());
        steps.filter(|name| !done.failed.contains_key(name)).collect::<Vec<_>>()
    };
    let workloads = plans.iter().map(|plan| {
        let gone = plan.gone.iter().map(|gone| &gone.name);
        json!({
            "name": plan.name,
            "created": names(plan, Action::Create),
            "registered": names(plan, Action::Register),
            "repointed": names(plan, Action::Repoint),
            "unchanged": names(plan, Action::Keep),
            "gone": gone.filter(|name| !done.removed.contains(*name)).collect::<Vec<_>>(),
            "incomplete": plan.incomplete,
            "doubted": plan.doubted,
            "warnings": plan.warnings,
            "errors": plan.errors,
        })
    });
    let reload = match &done.reload {
        Reload::NotNeeded => "not needed",
        Reload::NoSystemd => "no systemd",
        Reload::Done => "done",
        Reload::Failed(why) => why,
    };
    let report = json!({
        "podman_writes": done.podman_writes,
        "psid_writes": done.psid_writes,
        "drop_ins": shown(&done.drop_ins),
        "removed": done.removed,
        "kept": done.kept,
        "withheld": found.withheld,
        "failed": done.failed,
        "reload": reload,
        "workloads": workloads.collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}
