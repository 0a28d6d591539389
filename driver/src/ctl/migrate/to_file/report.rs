//! What the way back to the file driver did, and what remains of psi. It has names, never a value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::Values;
use crate::ctl::args::MigrateOptions;
use crate::ctl::dependents::Dependents;
use crate::ctl::json;
use crate::ctl::podman::Secret;

/// The outcome, or the plan of a dry run.
pub(super) struct Outcome {
    /// The secrets that the file driver has now.
    moved: BTreeSet<String>,
    /// The secrets that psi keeps, with the reason.
    pub(super) left: BTreeMap<String, String>,
    /// The secrets of an interrupted run whose registrations were removed.
    finished: BTreeSet<String>,
    /// The secrets of the file driver whose registrations psid keeps, with the reason.
    pub(super) kept: BTreeMap<String, String>,
    /// The file with the values.
    pub(super) plaintext: PathBuf,
    /// The containers by the secrets that they use.
    pub(super) users: BTreeMap<String, BTreeSet<String>>,
    /// Podman's drop-in, if it is there.
    pub(super) drop_in: Option<PathBuf>,
    /// The secrets that psi still serves.
    pub(super) remaining: Option<Dependents>,
}

impl Outcome {
    pub(super) fn of(plaintext: PathBuf) -> Self {
        Self {
            moved: BTreeSet::new(),
            left: BTreeMap::new(),
            finished: BTreeSet::new(),
            kept: BTreeMap::new(),
            plaintext,
            users: BTreeMap::new(),
            drop_in: None,
            remaining: None,
        }
    }

    /// Notes each secret with a value as moved, and each other one as left.
    pub(super) fn note_moved(&mut self, leaving: &[&Secret], moved: &Values) {
        for secret in leaving {
            if moved.contains_key(&secret.id) {
                self.moved.insert(secret.name.clone());
            } else {
                let why = "podman's record of it changed meanwhile; run it again";
                self.left.entry(secret.name.clone()).or_insert_with(|| why.to_owned());
            }
        }
    }

    /// Notes whether psid's registration of a secret of the file driver was removed.
    pub(super) fn note_released(&mut self, secret: &Secret, released: Result<(), String>) {
        let name = secret.name.clone();
        match released {
            Ok(()) if self.moved.contains(&name) => {}
            Ok(()) => {
                self.finished.insert(name);
            }
            Err(why) => {
                self.kept.insert(name, format!("{why}; `psictl delete {}` removes it", secret.id));
            }
        }
    }

    fn users_of(&self, name: &str) -> Vec<&str> {
        self.users.get(name).into_iter().flatten().map(String::as_str).collect()
    }
}

/// The report as text or JSON.
pub(super) fn of(done: &Outcome, options: &MigrateOptions) -> String {
    if options.json { as_json(done, options) } else { as_text(done, options) }
}

fn as_text(done: &Outcome, options: &MigrateOptions) -> String {
    let would = if options.dry_run { "would have" } else { "has" };
    let mut text = String::new();
    for name in &done.moved {
        let users = match done.users_of(name) {
            users if users.is_empty() => String::new(),
            users => format!("; used by {}", users.join(", ")),
        };
        let verb = if options.dry_run { "would move" } else { "moved" };
        text += &format!("{verb} {name}: podman's file driver {would} it{users}\n");
    }
    for (name, why) in &done.left {
        text += &format!("left {name}: {why}\n");
    }
    for name in &done.finished {
        let verb = if options.dry_run { "would remove" } else { "removed" };
        text += &format!("{verb} psid's registration of {name}, which podman's file driver has\n");
    }
    for (name, why) in &done.kept {
        text += &format!("kept psid's registration of {name}: {why}\n");
    }
    if done.moved.is_empty() && done.left.is_empty() {
        text += "psi serves no secret of this podman to move\n";
    } else if !options.dry_run {
        text += &format!(
            "{} moved, {} left; ids, names and labels are unchanged\n",
            done.moved.len(),
            done.left.len()
        );
    }
    if !done.moved.is_empty() && !options.dry_run {
        text += &format!(
            "their values are in plaintext in {}; containers read them from there at their next start\n",
            done.plaintext.display()
        );
    }
    text + &remains(done)
}

/// What is left of psi on the host.
fn remains(done: &Outcome) -> String {
    let Some(remaining) = &done.remaining else { return String::new() };
    let mut text = remaining.as_text();
    if !remaining.is_none() {
        text += "run it again for the rest, and as each user whose store has secrets of psi\n";
    }
    if let Some(drop_in) = &done.drop_in {
        text += &format!(
            "podman still creates new secrets with psi: remove {} to end that\n",
            drop_in.display()
        );
    }
    text
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    moved: Vec<MovedSecret<'a>>,
    left: &'a BTreeMap<String, String>,
    finished: &'a BTreeSet<String>,
    kept: &'a BTreeMap<String, String>,
    plaintext: String,
    drop_in: Option<String>,
    remaining: Option<&'a Dependents>,
}

#[derive(Serialize)]
struct MovedSecret<'a> {
    name: &'a str,
    containers: Vec<&'a str>,
}

fn as_json(done: &Outcome, options: &MigrateOptions) -> String {
    let moved = done.moved.iter().map(|name| MovedSecret { name, containers: done.users_of(name) });
    json::text(&Report {
        dry_run: options.dry_run,
        moved: moved.collect(),
        left: &done.left,
        finished: &done.finished,
        kept: &done.kept,
        plaintext: done.plaintext.display().to_string(),
        drop_in: done.drop_in.as_ref().map(|path| path.display().to_string()),
        remaining: done.remaining.as_ref(),
    })
}
