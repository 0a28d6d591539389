//! What a setup did or would do, as text. It has names and places, never a value.

use super::apply::Applied;
use super::drift::{self, Class, Classified, Drift};
use super::drop_in;
use super::reconcile::{Action, ActualState, Plan};
use super::systemd::Reload;
use super::{json_report, restart};
use crate::ctl::args::SetupOptions;
use crate::ctl::wording::{counted, named};

/// The names in one line; more are counted.
const MAX_NAMES: usize = 20;

/// The plan as a diff, the class of each secret, and the drift.
pub(super) fn dry_run(found: &ActualState, plans: &[Plan], options: &SetupOptions) -> String {
    let classified = drift::classify(found, plans);
    let drift = drift::drift(found, plans);
    if options.json {
        let diff = |plan: &Plan| diff(found, plan, options.prune);
        return json_report::dry_run((found, plans), diff, &classified, &drift);
    }
    let users = found.outsiders.users.iter();
    let mut text: String = users.map(|user| user.admitted("would add")).collect();
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
    text += &format!("secrets of the shell driver: {}\n", counts(&classified));
    for class in [Class::StaleOptions, Class::Orphaned, Class::Foreign, Class::Unknown] {
        let of_class = classified.iter().filter(|secret| secret.class == class);
        for Classified { name, why, .. } in of_class {
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

fn counts(classified: &[Classified]) -> String {
    let count = |class| classified.iter().filter(|secret| secret.class == class).count();
    let shown =
        Class::ALL.into_iter().filter(|class| *class != Class::Unknown || count(*class) > 0);
    shown.map(|class| format!("{} {}", count(class), class.name())).collect::<Vec<_>>().join(", ")
}

/// The changes of podman's secrets and of the drop-in.
fn diff(found: &ActualState, plan: &Plan, prune: bool) -> Vec<String> {
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
        let gone = plan.unlisted.iter().filter(|gone| gone.in_podman);
        diff.extend(gone.map(|gone| format!("- podman secret {}", gone.name)));
    }
    if plan.may_write() {
        let text = plan.text(|name| found.will_have(plan, name), prune);
        diff.extend(drop_in::diff(&plan.drop_in.path, plan.drop_in.text(), &text));
    }
    if let Some((drop_in, text)) = plan.kube_change(prune) {
        diff.extend(drop_in::diff(&drop_in.path, drop_in.text(), text));
    }
    diff
}

/// The program of a command. The Python PSI's commands contain a bearer token.
fn without_credentials(command: &str) -> String {
    let program = command.split_whitespace().find(|word| *word != "exec").unwrap_or_default();
    format!("{program} …")
}

fn indented(mark: &str, lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {mark}{line}\n")).collect()
}

/// The outcome of a run.
pub(super) fn run(
    found: &ActualState,
    plans: &[Plan],
    applied: &Applied,
    options: &SetupOptions,
) -> String {
    if options.json {
        return json_report::run(found, plans, applied);
    }
    let mut text: String = found.withheld.iter().map(|line| format!("warning: {line}\n")).collect();
    for plan in plans {
        text += &summary(plan, applied);
        text += &indented("warning: ", &plan.warnings);
        text += &indented("warning: ", &kept_unlisted(plan, applied));
        text += &indented("error: ", &plan.errors);
    }
    text.extend(applied.admitted.iter().map(|user| user.admitted("added")));
    for (name, why) in &applied.failed {
        text += &format!("error: {name}: {why}\n");
    }
    for (name, why) in &applied.kept {
        text += &format!("kept {name}: {why}\n");
    }
    for path in &applied.drop_ins {
        let verb = if path.exists() { "wrote" } else { "removed" };
        text += &format!("{verb} {}\n", path.display());
    }
    text += &match &applied.reload {
        Reload::Failed(why) => format!("warning: {why}\n"),
        Reload::NoSystemd => {
            "systemd does not run here; it reads the drop-ins when it starts\n".into()
        }
        Reload::Done | Reload::NotNeeded => String::new(),
    };
    text += &restart::advice(found, plans, applied);
    text + &match (applied.podman_writes, applied.psid_writes) {
        (0, 0) if applied.drop_ins.is_empty() && applied.admitted.is_empty() => {
            "nothing to do\n".into()
        }
        (podman, psid) => {
            format!("{} of podman's record, {psid} of psid's\n", counted(podman, "write"))
        }
    }
}

fn summary(plan: &Plan, applied: &Applied) -> String {
    let count = |action| {
        let steps = plan.steps.iter().filter(|step| step.action == action);
        steps.filter(|step| !applied.failed.contains_key(&step.secret.name)).count()
    };
    let removed = plan.unlisted.iter().filter(|gone| applied.removed.contains(&gone.name)).count();
    let counts = [
        (count(Action::Create), "registered"),
        (count(Action::Register), "registered again"),
        (count(Action::Repoint), "repointed"),
        (plan.steps.iter().filter(|step| step.stale).count(), "with stale options"),
        (removed, "removed"),
        (count(Action::Keep), "unchanged"),
    ];
    let counts: Vec<_> = counts
        .into_iter()
        .filter(|(count, what)| *count > 0 || *what == "unchanged")
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    format!("{}: {}\n", plan.name, counts.join(", "))
}

/// The warning about secrets that are no longer listed and stay, unless another line names them.
fn kept_unlisted(plan: &Plan, applied: &Applied) -> Vec<String> {
    let stays = plan.unlisted.iter().map(|gone| gone.name.as_str());
    let stays =
        stays.filter(|name| !applied.removed.contains(*name) && !applied.kept.contains_key(*name));
    let names: Vec<&str> = stays.collect();
    if names.is_empty() {
        return Vec::new();
    }
    let names = named(names, MAX_NAMES);
    vec![match &plan.incomplete {
        Some(why) => format!("{names} not listed, but kept: {why}"),
        None => match &plan.unconfirmed {
            Some(why) => format!(
                "{names} no longer listed, but kept: {why}; --prune --accept-removals removes them"
            ),
            None => format!("{names} no longer listed, but kept; --prune removes them"),
        },
    }]
}
