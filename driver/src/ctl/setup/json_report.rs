//! What a setup did or would do, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::apply::Applied;
use super::drift::{Classified, Drift};
use super::reconcile::{Action, ActualState, Plan};
use super::shown;
use super::systemd::Reload;
use super::users::WorkloadUser;
use crate::ctl::json;

#[derive(Serialize)]
struct DryRun<'a> {
    clean: bool,
    users: &'a [WorkloadUser],
    workloads: Vec<PlannedWorkload<'a>>,
    secrets: &'a [Classified],
    drift: &'a [Drift],
}

#[derive(Serialize)]
struct PlannedWorkload<'a> {
    diff: Vec<String>,
    #[serde(flatten)]
    common: Workload<'a>,
}

#[derive(Serialize)]
struct Run<'a> {
    podman_writes: usize,
    psid_writes: usize,
    drop_ins: Vec<String>,
    removed: &'a BTreeSet<String>,
    kept: &'a BTreeMap<String, String>,
    withheld: &'a [String],
    failed: &'a BTreeMap<String, String>,
    reload: &'a str,
    users: &'a [WorkloadUser],
    workloads: Vec<AppliedWorkload<'a>>,
}

#[derive(Serialize)]
struct AppliedWorkload<'a> {
    created: Vec<&'a str>,
    registered: Vec<&'a str>,
    repointed: Vec<&'a str>,
    unchanged: Vec<&'a str>,
    gone: Vec<&'a str>,
    #[serde(flatten)]
    common: Workload<'a>,
}

/// What a workload's report has in both.
#[derive(Serialize)]
struct Workload<'a> {
    name: &'a str,
    incomplete: Option<&'a str>,
    doubted: Option<&'a str>,
    warnings: &'a [String],
    errors: &'a [String],
}

impl<'a> Workload<'a> {
    fn of(plan: &'a Plan) -> Self {
        Self {
            name: &plan.name,
            incomplete: plan.incomplete.as_deref(),
            doubted: plan.unconfirmed.as_deref(),
            warnings: &plan.warnings,
            errors: &plan.errors,
        }
    }
}

/// The report of a dry run; `diff` gives the lines of a plan.
pub(super) fn dry_run(
    (found, plans): (&ActualState, &[Plan]),
    diff: impl Fn(&Plan) -> Vec<String>,
    secrets: &[Classified],
    drift: &[Drift],
) -> String {
    let workloads =
        plans.iter().map(|plan| PlannedWorkload { diff: diff(plan), common: Workload::of(plan) });
    json::text(&DryRun {
        clean: drift.is_empty() && plans.iter().all(|plan| plan.errors.is_empty()),
        users: &found.outsiders.users,
        workloads: workloads.collect(),
        secrets,
        drift,
    })
}

/// The report of a run.
pub(super) fn run(found: &ActualState, plans: &[Plan], applied: &Applied) -> String {
    json::text(&Run {
        podman_writes: applied.podman_writes,
        psid_writes: applied.psid_writes,
        drop_ins: shown(&applied.drop_ins),
        removed: &applied.removed,
        kept: &applied.kept,
        withheld: &found.withheld,
        failed: &applied.failed,
        reload: match &applied.reload {
            Reload::NotNeeded => "not needed",
            Reload::NoSystemd => "no systemd",
            Reload::Done => "done",
            Reload::Failed(why) => why,
        },
        users: &applied.admitted,
        workloads: plans.iter().map(|plan| applied_workload(plan, applied)).collect(),
    })
}

fn applied_workload<'a>(plan: &'a Plan, applied: &Applied) -> AppliedWorkload<'a> {
    let names = |action| {
        let steps = plan.steps.iter().filter(|step| step.action == action);
        let names = steps.map(|step| step.secret.name.as_str());
        names.filter(|name| !applied.failed.contains_key(*name)).collect()
    };
    let gone = plan.unlisted.iter().map(|gone| gone.name.as_str());
    AppliedWorkload {
        created: names(Action::Create),
        registered: names(Action::Register),
        repointed: names(Action::Repoint),
        unchanged: names(Action::Keep),
        gone: gone.filter(|name| !applied.removed.contains(*name)).collect(),
        common: Workload::of(plan),
    }
}
