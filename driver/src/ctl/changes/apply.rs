//! `psictl apply-changes`: restarts the units that run with an older value of a secret, one at a time.
//!
//! psid leaves a mark for each workload with a changed value, at which psi-apply-changes.path starts the service that runs
//! this with `--marked`. A mark is a name and nothing else: what is restarted follows from psid's answer and systemd's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use psi_common::{Exit, Paths, check, file_lock};
use psi_proto::v1::OnChange;
use serde::Serialize;

use super::reloads::reloads;
use super::units::{boot_ms, render_unit};
use super::{Outdated, OutdatedUnit, find, secrets_in_words};
use crate::client::{Client, Deadline, wait};
use crate::ctl::args::ApplyChangesOptions;
use crate::ctl::{json, random};
use crate::error::CliError;
use crate::stdio;

const TITLE: &str = "apply-changes";
/// How long another run may hold the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(600);

/// What became of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Restarted,
    Reloaded,
    /// By a dry run.
    Outdated,
    /// Not now: psid marks it again.
    Deferred,
    /// It is not quadlet's: psid's word alone restarts no other unit of root's.
    ByHand,
    Failed,
    /// A unit before it failed.
    NotTried,
}

/// A unit, and what became of it.
#[derive(Serialize)]
struct Applied {
    workload: String,
    unit: String,
    secrets: BTreeSet<String>,
    outcome: Outcome,
    reason: Option<String>,
}

/// One run.
struct Run<'a> {
    paths: &'a Paths,
    options: &'a ApplyChangesOptions,
    applied: Vec<Applied>,
    unknown: Vec<String>,
}

pub(crate) fn run(paths: &Paths, options: &ApplyChangesOptions) -> Result<(), CliError> {
    let _lock = if options.dry_run { None } else { lock(&paths.run)? };
    let marked = options.marked.then(|| take_marks(&paths.run, options.dry_run)).transpose()?;
    let is_wanted = |name: &str| match &marked {
        _ if !options.workloads.is_empty() => options.workloads.iter().any(|one| one == name),
        Some(marked) => marked.contains(name),
        None => true,
    };
    let mut run = Run { paths, options, applied: Vec::new(), unknown: Vec::new() };
    let mut queue: Vec<(Duration, String)> = Vec::new();
    for outdated in run.find(is_wanted)? {
        let is_acted_on = !options.workloads.is_empty() || outdated.is_acted_on();
        if is_acted_on && options.dry_run {
            run.note_all(&outdated, Outcome::Outdated, None)?;
        } else if is_acted_on {
            let max = Duration::from_millis(outdated.workload.max_jitter_ms);
            let jitter =
                if options.marked { max.mul_f64(random::fraction()) } else { Duration::ZERO };
            queue.push((jitter, outdated.workload.name));
        }
    }
    queue.sort();
    let begun = Instant::now();
    for (at, name) in queue {
        wait(at.saturating_sub(begun.elapsed()));
        run.apply(&name)?;
    }
    run.end()
}

impl Outdated {
    fn is_acted_on(&self) -> bool {
        matches!(self.action(), OnChange::Restart | OnChange::Reload)
    }
}

impl Run<'_> {
    /// The outdated ones of these workloads as they are now. systemd is asked about no other.
    fn find(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<Outdated>, CliError> {
        let mut changed = Client::new(self.paths, Deadline::Admin).changes()?;
        changed.retain(|workload| is_wanted(&workload.name));
        let found = find(self.paths, changed);
        self.unknown.extend(found.unknown);
        Ok(found.outdated)
    }

    /// Brings the units of a workload up to date, if that is still to be done.
    fn apply(&mut self, name: &str) -> Result<(), CliError> {
        let Some(outdated) = self.find(|one| one == name)?.pop() else {
            return Ok(());
        };
        let has_failed = self.applied.iter().any(|one| one.outcome == Outcome::Failed);
        let deferred = &outdated.workload.deferred;
        if has_failed {
            return self.note_all(&outdated, Outcome::NotTried, None);
        }
        if !deferred.is_empty() {
            return self.note_all(&outdated, Outcome::Deferred, Some(deferred));
        }
        for (at, unit) in outdated.units.iter().enumerate() {
            if outdated.action() != OnChange::Reload && !unit.is_quadlet {
                self.note(name, unit, Outcome::ByHand, None)?;
                continue;
            }
            match outdated.bring_up_to_date(unit, self.paths) {
                Ok(outcome) => self.note(name, unit, outcome, None)?,
                Err(why) => {
                    self.note(name, unit, Outcome::Failed, Some(&why))?;
                    for unit in &outdated.units[at + 1..] {
                        self.note(name, unit, Outcome::NotTried, None)?;
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn note_all(
        &mut self,
        outdated: &Outdated,
        outcome: Outcome,
        why: Option<&str>,
    ) -> Result<(), CliError> {
        let name = &outdated.workload.name;
        outdated.units.iter().try_for_each(|unit| self.note(name, unit, outcome, why))
    }

    /// Notes what became of a unit, and prints it at once.
    fn note(
        &mut self,
        workload: &str,
        unit: &OutdatedUnit,
        outcome: Outcome,
        why: Option<&str>,
    ) -> Result<(), CliError> {
        let text = as_text(unit, outcome, why);
        self.applied.push(Applied {
            workload: workload.to_owned(),
            unit: unit.name.clone(),
            secrets: unit.secrets.clone(),
            outcome,
            reason: why.map(str::to_owned),
        });
        if self.options.json { Ok(()) } else { stdio::write_text(&text) }
    }

    fn end(self) -> Result<(), CliError> {
        let Self { options, applied, unknown, .. } = self;
        for why in &unknown {
            stdio::print_line(crate::ctl::PROGRAM, TITLE, &format!("warning: {why}"));
        }
        if options.json {
            stdio::write_text(&json::text(&Report { units: &applied, unknown: &unknown }))?;
        } else if applied.is_empty() && unknown.is_empty() && !options.marked {
            stdio::write_text("no unit that is to be restarted runs with an older value\n")?;
        }
        let is_left =
            |one: &Applied| !matches!(one.outcome, Outcome::Restarted | Outcome::Reloaded);
        if unknown.is_empty() && !applied.iter().any(is_left) {
            return Ok(());
        }
        // psid marks a deferred one again: the unit of systemd has not failed.
        if options.marked && applied.iter().all(|one| one.outcome == Outcome::Deferred) {
            return Ok(());
        }
        Err(CliError::status_only(Exit::Drift))
    }
}

#[derive(Serialize)]
struct Report<'a> {
    units: &'a [Applied],
    unknown: &'a [String],
}

impl Outdated {
    fn bring_up_to_date(&self, unit: &OutdatedUnit, paths: &Paths) -> Result<Outcome, String> {
        let manager = &self.manager;
        let outcome = if self.action() == OnChange::Reload {
            self.reload(unit, paths)?;
            Outcome::Reloaded
        } else {
            manager.call(&["try-restart", "--", &unit.name])?;
            Outcome::Restarted
        };
        match manager.is_active(&unit.name)? {
            true => Ok(outcome),
            false => Err("it is not active afterwards".into()),
        }
        .map_err(|why: String| {
            format!("{why}; see `{}`", manager.command(&format!("status {}", unit.name)))
        })
    }

    /// Renders the files, unless that was done as a unit of its own, and reloads the service.
    fn reload(&self, unit: &OutdatedUnit, paths: &Paths) -> Result<(), String> {
        // What changes meanwhile is rendered again.
        let begun = boot_ms().map_err(|error| error.to_string())?;
        let render = render_unit(&self.workload.name);
        if unit.name == render || self.units.iter().all(|one| one.name != render) {
            // Not a restart: systemd would restart with it what requires it.
            self.manager.call(&["reload-or-restart", "--", &render])?;
        }
        if unit.name != render {
            self.manager.call(&["reload", "--", &unit.name])?;
        }
        reloads(paths).note(&self.manager, &unit.name, begun)
    }
}

fn as_text(unit: &OutdatedUnit, outcome: Outcome, why: Option<&str>) -> String {
    let (name, secrets, why) =
        (&unit.name, secrets_in_words(&unit.secrets), why.unwrap_or_default());
    let changed = format!("{secrets} changed");
    match outcome {
        Outcome::Restarted => format!("restarted   {name}: {changed}\n"),
        Outcome::Reloaded => format!("reloaded    {name}: {changed}\n"),
        Outcome::Outdated => format!("OUTDATED    {name}: {changed}\n"),
        Outcome::Deferred => format!("deferred    {name}: {changed}; not now: {why}\n"),
        Outcome::Failed => format!("FAILED      {name}: {changed}; {why}\n"),
        Outcome::ByHand => {
            format!(
                "BY HAND     {name}: {changed}; no quadlet made it: `systemctl restart {name}`\n"
            )
        }
        Outcome::NotTried => format!("not tried   {name}: {changed}\n"),
    }
}

/// Locks psid's run directory. Without one there are neither marks nor another run.
fn lock(run: &Path) -> Result<Option<Flock<File>>, CliError> {
    let failed = |cause: std::io::Error| {
        let what = format!("locking {}: {cause}", run.display());
        match cause.kind() {
            ErrorKind::TimedOut => CliError::new(Exit::TryLater, what, "wait for that run to end"),
            _ => CliError::new(Exit::Io, what, "run it as root, or as the user whose psid it is"),
        }
    };
    match File::open(run) {
        Ok(directory) => file_lock::lock_directory(directory, LOCK_LIMIT).map(Some).map_err(failed),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed(cause)),
    }
}

/// Reads the marks, and removes those that were read: psid may leave others meanwhile.
fn take_marks(run: &Path, keep: bool) -> Result<BTreeSet<String>, CliError> {
    let directory = run.join("changed");
    let failed = |cause: std::io::Error| {
        let what = format!("the marks in {}: {cause}", directory.display());
        CliError::new(Exit::Io, what, "run it as root, or as the user whose psid it is")
    };
    let files = match fs::read_dir(&directory) {
        Ok(files) => files,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(cause) => return Err(failed(cause)),
    };
    let mut names = BTreeSet::new();
    for file in files {
        let file = file.map_err(failed)?;
        let name = file.file_name().to_string_lossy().into_owned();
        // psid writes a mark by renaming a hidden file.
        if check::workload(&name).is_err() {
            continue;
        }
        if !keep {
            fs::remove_file(file.path()).map_err(failed)?;
        }
        names.insert(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_once_and_other_files_stay() {
        let run = tempfile::tempdir().unwrap();
        assert!(take_marks(run.path(), false).unwrap().is_empty(), "there is no directory");
        let directory = run.path().join("changed");
        fs::create_dir(&directory).unwrap();
        for name in ["web", "job@", ".web.123"] {
            fs::write(directory.join(name), "").unwrap();
        }
        let both = BTreeSet::from(["web".to_owned(), "job@".to_owned()]);
        assert_eq!(take_marks(run.path(), true).unwrap(), both);
        assert_eq!(take_marks(run.path(), false).unwrap(), both);
        assert!(take_marks(run.path(), false).unwrap().is_empty());
        assert!(directory.join(".web.123").exists());
    }
}
