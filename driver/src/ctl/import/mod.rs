//! `psictl import`: imports secrets from files and from podman into Infisical, through psid.
//!
//! A source (`env_file`, `podman_secret`, `quadlet`) reads entries; psid compares them with the directory, writes them,
//! and reads them back. Values are sent over psid's socket only.

mod entries;
mod env_file;
mod podman_secret;
mod quadlet;
mod report;

#[cfg(feature = "testing")]
pub(super) use env_file::{Parsed as ParsedEnvFile, parse_for_tests as parse_env_file};

use psi_common::{Exit, Paths};
use psi_proto::v1::{
    ImportConflict, ImportOutcome, ImportRequest, ImportResponse, ImportResult, ImportedSecret,
};

use super::progress::Progress;
use crate::client::{Client, Deadline};
use crate::ctl::args::{ImportCommand, ImportOptions, OnConflict};
use crate::error::CliError;
use crate::stdio;
use entries::Entry;

/// The bytes of one call: psid accepts at most 1 MiB, and the largest secret has half of it.
const MAX_BYTES: usize = 400_000;
const MAX_ENTRIES: usize = 200;

pub(crate) fn run(paths: &Paths, command: &ImportCommand) -> Result<(), CliError> {
    let options = command.options();
    let entries = match command {
        ImportCommand::EnvFile { files, format, .. } => env_file::read_all(files, *format)?,
        ImportCommand::PodmanSecret { names, all: false, .. } => podman_secret::read_named(names)?,
        ImportCommand::PodmanSecret { .. } => podman_secret::read_all(paths)?,
        ImportCommand::Quadlet { files, .. } => quadlet::read_all(files)?,
    };
    for warning in &entries.warnings {
        crate::ctl::note(&format!("import {}", command.name()), warning);
    }
    if entries.list.is_empty() {
        return Err(CliError::new(
            Exit::BadInput,
            "the sources have no entry to import",
            "choose other sources",
        ));
    }
    // Everything is compared before anything is written, in however many calls.
    let mut response = send(paths, options, &entries.list, true)?;
    let conflict = response.results.iter().any(|one| one.outcome() == ImportOutcome::Conflicting);
    if !options.dry_run && !conflict {
        response = send(paths, options, &entries.list, false)?;
    }
    let written = !options.dry_run && !conflict;
    stdio::write_text(&report::of(&response, options, written))?;
    result(&response.results, written)?;
    // Each was reported on stderr.
    if entries.is_incomplete { Err(CliError::status_only(Exit::Drift)) } else { Ok(()) }
}

/// Imports the entries in as many calls as needed.
fn send(
    paths: &Paths,
    options: &ImportOptions,
    entries: &[Entry],
    dry_run: bool,
) -> Result<ImportResponse, CliError> {
    let mut all = ImportResponse::default();
    let progress = Progress::of("secrets imported", if dry_run { 0 } else { entries.len() });
    for part in parts(entries) {
        progress.show(all.results.len());
        let request = ImportRequest {
            project: options.project.clone(),
            environment: options.environment.clone().unwrap_or_default(),
            path: options.path.clone(),
            secrets: part
                .iter()
                .map(|entry| ImportedSecret { key: entry.key.clone(), value: entry.copy() })
                .collect(),
            conflict: conflict(options.conflict).into(),
            dry_run,
            create_directory: options.make_folder,
        };
        let answer = Client::new(paths, Deadline::Admin).import(&request)?;
        all.target = answer.target;
        all.results.extend(answer.results);
    }
    Ok(all)
}

fn parts(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = rest.iter().take(MAX_ENTRIES).take_while(|entry| {
            bytes += entry.key.len() + entry.value.len();
            bytes <= MAX_BYTES
        });
        let count = fit.count().max(1).min(rest.len());
        let (part, others) = rest.split_at(count);
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

fn conflict(how: OnConflict) -> ImportConflict {
    match how {
        OnConflict::Fail => ImportConflict::Fail,
        OnConflict::Skip => ImportConflict::Skip,
        OnConflict::Overwrite => ImportConflict::Overwrite,
    }
}

fn result(results: &[ImportResult], written: bool) -> Result<(), CliError> {
    let conflicts = |one: &ImportResult| one.outcome() == ImportOutcome::Conflicting;
    if !written && results.iter().any(conflicts) {
        return Err(CliError::new(
            Exit::BadInput,
            "some keys exist with another value; nothing was written",
            "choose --conflict skip or --conflict overwrite",
        ));
    }
    let bad = |one: &&ImportResult| {
        // The directory may have changed in between.
        conflicts(one) || matches!(one.outcome(), ImportOutcome::Rejected | ImportOutcome::Failed)
    };
    let (cannot, can) = if written { ("were not", "were") } else { ("would not be", "would be") };
    match results.iter().filter(bad).count() {
        0 => Ok(()),
        count => Err(CliError::new(
            Exit::BadInput,
            format!("{count} of {} {cannot} imported, and the others {can}", results.len()),
            "see the lines that begin with `rejected`, `failed` or `conflicting`",
        )),
    }
}
