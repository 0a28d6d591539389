//! `psictl setup`: makes podman and the quadlets match the config, and changes nothing that matches.
//!
//! psid reports the secrets of each workload (`client`), podman those that it has; `reconcile` compares, `apply`
//! makes the changes, `drift` and `report` print them. No call of psid is open while podman runs: podman waits for
//! psid, and would wait for this program.

mod apply;
mod drift;
mod drop_in;
mod json_report;
mod reconcile;
mod report;
mod restart;
mod systemd;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;
use psi_common::{Exit, Paths, check, file_lock};
use psi_proto::v1::{PlanRequest, PlannedWorkload, RefreshEvent, Registration};

use crate::client::{Client, Deadline};
use crate::ctl::args::SetupOptions;
use crate::ctl::config_in_force;
use crate::ctl::names;
use crate::ctl::podman::{self, Commands};
use crate::ctl::progress::Progress;
use crate::error::CliError;
use crate::stdio;
use apply::{Applied, apply};
use drop_in::QuadletKind;
pub(super) use drop_in::{DropIn, Present};
use reconcile::{ActualState, Plan};
pub(super) use users::{Outsiders, divide, outsiders};

const TITLE: &str = "setup";
/// How long another setup may hold the lock: as long as a call of an admin command may take.
const LOCK_LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn run(paths: &Paths, options: &SetupOptions) -> Result<(), CliError> {
    let quadlets = options.quadlets.clone().unwrap_or_else(|| paths.quadlets.clone());
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let _lock = if options.dry_run { None } else { Some(lock(&quadlets)?) };
    let found = look(paths, &quadlets, commands, options)?;
    let plans = found.plan();
    if options.dry_run {
        stdio::write_text(&report::dry_run(&found, &plans, options))?;
        dry_run_result(&found, &plans)?;
        return follows_config(&found);
    }
    if !found.commands.program().exists() {
        let note = format!(
            "{} does not exist; install psi-driver there",
            found.commands.program().display()
        );
        crate::ctl::note(TITLE, &note);
    }
    let applied = apply(&found, &plans, paths, options.prune)?;
    report_names(paths, &found, &applied);
    stdio::write_text(&report::run(&found, &plans, &applied, options))?;
    result(&found, &plans, &applied, options.prune)?;
    follows_config(&found)
}

/// What psid planned may lack what the config file has by now.
fn follows_config(found: &ActualState) -> Result<(), CliError> {
    let drift = found.config_drift.clone();
    drift.map_or(Ok(()), |why| Err(config_in_force::error(why)))
}

/// Excludes another setup: two at once would undo each other's changes.
fn lock(quadlets: &Path) -> Result<Flock<File>, CliError> {
    let directory = fs::create_dir_all(quadlets).and_then(|()| File::open(quadlets));
    let locked = directory.and_then(|directory| file_lock::lock_directory(directory, LOCK_LIMIT));
    locked.map_err(|cause| {
        let what = format!("locking the quadlets' directory {}: {cause}", quadlets.display());
        if cause.kind() == ErrorKind::TimedOut {
            return CliError::new(Exit::TryLater, what, "wait for that setup, then run it again");
        }
        CliError::new(Exit::Io, what, "run it as the owner of the quadlets")
    })
}

fn look(
    paths: &Paths,
    quadlets: &Path,
    commands: Commands,
    options: &SetupOptions,
) -> Result<ActualState, CliError> {
    let client = Client::new(paths, Deadline::Admin);
    let mut progress: Option<Progress> = None;
    let (mut count, mut withheld) = (0, Vec::new());
    let provider = options.provider.clone().unwrap_or_default();
    let request = PlanRequest { pull: true, setup: !options.dry_run, provider };
    let planned = client.plan(&request, &mut |source| {
        count += 1;
        if source.withheld > 0 {
            withheld.push(withheld_warning(&source));
        }
        let total = source.sources as usize;
        progress.get_or_insert_with(|| Progress::of("sources pulled", total)).show(count);
    })?;
    drop(progress);
    let planned = of_provider(planned, options.provider.as_deref())?;
    let (outsiders, (planned, _)) = (outsiders(&planned), divide(planned));
    let registered = client.registrations()?;
    let status = client.status(false)?;
    let has_backend = !status.backend.is_empty();
    drop(client);
    let podman = podman::about()?;
    let nameless = podman::nameless(&podman.graph_root).map_err(|cause| {
        let doing = format!("reading podman's record in {}", podman.graph_root.display());
        CliError::io(&doing, &cause, "run it again, as podman's user")
    })?;
    let [drop_ins, kube_drop_ins] = drop_ins(quadlets, &planned, options.provider.is_some());
    Ok(ActualState {
        planned,
        outsiders,
        registered: by_id(registered),
        secrets: podman::secrets()?,
        nameless,
        podman,
        drop_ins,
        kube_drop_ins,
        commands,
        has_backend,
        withheld,
        accept_removals: options.accept_removals,
        config_drift: config_in_force::drift_in(&status),
        is_psid_a_unit: !paths.uses_systems_psid(),
    })
}

/// The drop-ins of containers and of kube units, by workload. A workload that is in the config no longer may have had any
/// provider: for one provider alone, its drop-ins are not looked at.
fn drop_ins(
    quadlets: &Path,
    planned: &[PlannedWorkload],
    of_planned_only: bool,
) -> [BTreeMap<String, DropIn>; 2] {
    let of_kind = |kind: QuadletKind| {
        let mut drop_ins = match of_planned_only {
            true => BTreeMap::new(),
            false => DropIn::all_of_kind(kind, quadlets),
        };
        for PlannedWorkload { name, .. } in planned.iter().filter(|one| one.error.is_empty()) {
            let of_workload = || DropIn::of_kind(kind, quadlets, name);
            drop_ins.entry(name.clone()).or_insert_with(of_workload);
        }
        drop_ins
    };
    let [mut containers, kube] = [QuadletKind::Container, QuadletKind::Kube].map(of_kind);
    for name in kube.keys() {
        containers.entry(name.clone()).or_insert_with(|| DropIn::of(quadlets, name));
    }
    [containers, kube]
}

/// The workloads of a provider; without one, all.
fn of_provider(
    mut planned: Vec<PlannedWorkload>,
    provider: Option<&str>,
) -> Result<Vec<PlannedWorkload>, CliError> {
    let Some(provider) = provider else { return Ok(planned) };
    let known: BTreeSet<&str> = planned.iter().map(|one| one.provider.as_str()).collect();
    if !known.contains(provider) {
        let shown = check::excerpt(provider);
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(CliError::new(
            Exit::BadInput,
            format!("no workload of the config has the provider {shown}"),
            if known.is_empty() {
                "add a workload to it".into()
            } else {
                format!("they have {known}")
            },
        ));
    }
    planned.retain(|workload| workload.provider == provider);
    Ok(planned)
}

/// The warning that psid withholds removals of a source.
fn withheld_warning(source: &RefreshEvent) -> String {
    format!(
        "{} no longer has {} of its values, or has them empty; psid keeps them until that is confirmed: `psictl cache refresh --accept-removals`",
        source.source, source.withheld
    )
}

fn by_id(registered: Vec<Registration>) -> BTreeMap<psi_common::SecretId, Registration> {
    registered.into_iter().filter_map(|it| Some((it.id.parse().ok()?, it))).collect()
}

/// Reports podman's names to psid, as hints for people and for gc.
fn report_names(paths: &Paths, found: &ActualState, applied: &Applied) {
    if !applied.has_created() {
        return names::report_secrets(paths, &found.secrets, &found.podman.graph_root);
    }
    if let Ok(secrets) = podman::secrets() {
        names::report_secrets(paths, &secrets, &found.podman.graph_root);
    }
}

/// The exit status of a dry run: errors and drift first, then sources that did not answer.
fn dry_run_result(found: &ActualState, plans: &[Plan]) -> Result<(), CliError> {
    let is_clean = drift::drift(found, plans).is_empty();
    if !is_clean || plans.iter().any(|plan| !plan.errors.is_empty()) {
        return Err(CliError::status_only(Exit::Drift));
    }
    incomplete(plans)
}

/// The exit status of a run: errors, sources that did not answer, then what a prune left.
fn result(
    found: &ActualState,
    plans: &[Plan],
    applied: &Applied,
    prune: bool,
) -> Result<(), CliError> {
    let errors = plans.iter().map(|plan| plan.errors.len()).sum::<usize>() + applied.failed.len();
    if errors > 0 {
        let what =
            if errors == 1 { "1 thing was".to_owned() } else { format!("{errors} things were") };
        return Err(CliError::new(
            Exit::BadInput,
            format!("{what} not done; everything else was"),
            "see the lines that begin with `error`",
        ));
    }
    incomplete(plans)?;
    if !prune {
        return Ok(());
    }
    if let Some(withheld) = found.withheld.first() {
        return Err(CliError::without_remedy(Exit::TryLater, withheld));
    }
    let unconfirmed = plans.iter().find_map(|plan| Some((plan, plan.unconfirmed.as_ref()?)));
    if let Some((plan, why)) = unconfirmed {
        return Err(CliError::new(
            Exit::Drift,
            format!("nothing of {} was pruned: {why}", plan.name),
            "if that is right, run it again with --prune --accept-removals",
        ));
    }
    if !applied.kept.is_empty() {
        let what = "some secrets that are no longer listed were not removed";
        return Err(CliError::new(Exit::Drift, what, "see the lines that begin with `kept`"));
    }
    Ok(())
}

fn incomplete(plans: &[Plan]) -> Result<(), CliError> {
    match plans.iter().find_map(|plan| plan.incomplete.as_ref()) {
        Some(why) => Err(CliError::new(
            Exit::TryLater,
            format!("not every source answered: {why}"),
            "the other sources are set up; run it again later",
        )),
        None => Ok(()),
    }
}

/// The unit that quadlet generates for a workload.
fn unit_of(workload: &str) -> String {
    format!("{workload}.service")
}

/// The paths as text.
fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}
