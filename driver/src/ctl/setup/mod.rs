//! `psictl setup`: podman and the quadlets follow the config, and what is right already is not touched.
//!
//! psid tells what each workload wants (`client`), podman what it has; `reconcile` compares, `apply` does
//! what is left, `drift` and `report` tell of it. No call of psid is open while podman is called: podman
//! would wait for psid, and psid's caller for podman.

mod apply;
mod drift;
mod drop_in;

mod reconcile;
mod report;
mod systemd;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;
use psi_common::{Exit, Paths, file_lock};
use psi_proto::v1::{RefreshEvent, Registration};

use crate::client::{Client, Deadline};
use crate::ctl::args::SetupOptions;
use crate::ctl::names;
use crate::ctl::podman::{self, Commands};
use crate::ctl::progress::Progress;
use crate::error::CliError;
use crate::stdio;
use apply::{Done, apply};
pub(super) use drop_in::DropIn;
use reconcile::{Found, Plan};

const TITLE: &str = "setup";
/// How long another setup may hold the lock: as long as a call of an admin command may take.
const LOCK_LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn run(paths: &Paths, options: &SetupOptions) -> Result<(), CliError> {
    let quadlets = options.quadlets.clone().unwrap_or_else(|| paths.quadlets.clone());
    let commands = Commands::of(options.program.as_deref(), paths)?;
    let _alone = if options.dry_run { None } else { Some(lock(&quadlets)?) };
    let found = look(paths, &quadlets, commands, options.accept_removals)?;
    let plans = found.plan();
    if options.dry_run {
        stdio::write_text(&report::dry_run(&found, &plans, options))?;
        return verdict_of_dry_run(&found, &plans);
    }
    if !found.commands.program().exists() {
        let note = format!(
            "{} does not exist; install psi-driver there",
            found.commands.program().display()
        );
        crate::ctl::note(TITLE, &note);
    }
    let done = apply(&found, &plans, paths, options.prune)?;
    note_names(paths, &found, &done);
    stdio::write_text(&report::run(&found, &plans, &done, options))?;
    verdict(&found, &plans, &done, options.prune)
}

/// Two setups at once would undo each other's work.
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
    accept_removals: bool,
) -> Result<Found, CliError> {
    let client = Client::new(paths, Deadline::Admin);
    let mut progress: Option<Progress> = None;
    let (mut count, mut withheld) = (0, Vec::new());
    let planned = client.plan(true, &mut |source| {
        count += 1;
        if source.withheld > 0 {
            withheld.push(withheld_removals(&source));
        }
        let total = source.sources as usize;
        progress.get_or_insert_with(|| Progress::of("sources pulled", total)).show(count);
    })?;
    drop(progress);
    let registered = client.registrations()?;
    let has_backend = !client.status(false)?.backend.is_empty();
    drop(client);
    let graph_root = podman::about()?.graph_root;
    let nameless = podman::nameless(&graph_root).map_err(|cause| {
        let what = format!("podman's record in {}", graph_root.display());
        CliError::io(&what, &cause, "run it again, as podman's user")
    })?;
    let mut drop_ins = DropIn::all_of_ours(quadlets);
    for workload in planned.iter().filter(|workload| workload.error.is_empty()) {
        let name = workload.name.clone();
        drop_ins.entry(name).or_insert_with(|| DropIn::of(quadlets, &workload.name));
    }
    Ok(Found {
        planned,
        registered: by_id(registered),
        secrets: podman::secrets()?,
        nameless,
        graph_root,
        drop_ins,
        commands,
        has_backend,
        withheld,
        accept_removals,
    })
}

/// What the last answer of a source lacked, or had empty.
fn withheld_removals(source: &RefreshEvent) -> String {
    format!(
        "{} lacks {} that it had, or has them empty, and they stay until that is confirmed; `psictl cache refresh --accept-removals` confirms it",
        source.source, source.withheld
    )
}

fn by_id(
    registered: Vec<Registration>,
) -> std::collections::BTreeMap<psi_common::SecretId, Registration> {
    registered.into_iter().filter_map(|it| Some((it.id.parse().ok()?, it))).collect()
}

/// Podman's names are psid's from now on, for people and for gc.
fn note_names(paths: &Paths, found: &Found, done: &Done) {
    if !done.has_created() {
        return names::note_secrets(paths, &found.secrets, &found.graph_root);
    }
    if let Ok(secrets) = podman::secrets() {
        names::note_secrets(paths, &secrets, &found.graph_root);
    }
}

/// Errors first, then sources that did not answer; drift is what a dry run looks for.
fn verdict_of_dry_run(found: &Found, plans: &[Plan]) -> Result<(), CliError> {
    let is_clean = drift::drift(found, plans).is_empty();
    if !is_clean || plans.iter().any(|plan| !plan.errors.is_empty()) {
        return Err(CliError::status_only(Exit::Drift));
    }
    incomplete(plans)
}

fn verdict(found: &Found, plans: &[Plan], done: &Done, prune: bool) -> Result<(), CliError> {
    let errors = plans.iter().map(|plan| plan.errors.len()).sum::<usize>() + done.failed.len();
    if errors > 0 {
        let what =
            if errors == 1 { "1 thing was".to_owned() } else { format!("{errors} things were") };
        return Err(CliError::new(
            Exit::BadInput,
            format!("{what} not done, and everything else was"),
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
    let doubted = plans.iter().find_map(|plan| Some((plan, plan.doubted.as_ref()?)));
    if let Some((plan, why)) = doubted {
        return Err(CliError::new(
            Exit::Drift,
            format!("nothing of {} was pruned: {why}", plan.name),
            "if that is right, run it again with --accept-removals",
        ));
    }
    if !done.kept.is_empty() {
        let what = "not everything that is gone was removed";
        return Err(CliError::new(Exit::Drift, what, "see the lines that begin with `kept`"));
    }
    Ok(())
}

fn incomplete(plans: &[Plan]) -> Result<(), CliError> {
    match plans.iter().find_map(|plan| plan.incomplete.as_ref()) {
        Some(why) => Err(CliError::new(
            Exit::TryLater,
            format!("not every source answered: {why}"),
            "what is known is set up; run it again later",
        )),
        None => Ok(()),
    }
}

/// The unit of a workload's quadlet.
fn unit_of(workload: &str) -> String {
    format!("{workload}.service")
}

/// Paths as text.
fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}
