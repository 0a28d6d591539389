//! `psictl render DIRECTORY`: a workload's secrets as files, in RAM.

use std::collections::BTreeMap;
use std::path::Path;

use nix::unistd::geteuid;
use psi_common::walk::{self, Trust, WalkError};
use psi_common::{Exit, Paths, SecretBytes, check};

use super::rendered::Rendered;
use super::{client, value, workloads};
use crate::ctl::args::RenderOptions;
use crate::error::CliError;
use crate::stdio;

const TITLE: &str = "render";

pub(crate) fn run(paths: &Paths, options: &RenderOptions) -> Result<(), CliError> {
    let path = &options.folder;
    let rendered = open(path, options)?;
    if !options.force && !rendered.is_in_ram().map_err(|cause| failed(path, &cause))? {
        return Err(CliError::new(
            Exit::BadInput,
            format!("{} is on a disk, where secrets would stay", path.display()),
            "take a directory below /run or on another tmpfs, or --force",
        ));
    }
    let Fetched { values, is_whole, left_out } = fetch(paths, options)?;
    let written = rendered.write(&values, is_whole).map_err(|cause| failed(path, &cause))?;
    stdio::write_text(&format!(
        "{} secret{} in {}, {written} of them new or changed\n",
        values.len(),
        if values.len() == 1 { "" } else { "s" },
        path.display()
    ))?;
    // Each was named on stderr already.
    if left_out == 0 { Ok(()) } else { Err(CliError::status_only(Exit::Drift)) }
}

/// Opens the directory so that nobody else can put a link or another file in a secret's place, then or later.
fn open(path: &Path, options: &RenderOptions) -> Result<Rendered, CliError> {
    let trust = Trust { owner: geteuid().as_raw(), is_private: true };
    let directory = walk::make_directory(path, trust).map_err(|error: WalkError| {
        if error.is_untrusted() {
            return CliError::new(
                Exit::BadInput,
                format!("secrets for {} would not be safe there: {error}", path.display()),
                "take a directory that only you or root can change, and whose parents are so too",
            );
        }
        CliError::new(Exit::Io, error.to_string(), "check the path; its parent must be there")
    })?;
    Ok(Rendered::new(directory, options.mode, options.owner))
}

fn failed(path: &Path, cause: &std::io::Error) -> CliError {
    CliError::io(&path.display().to_string(), cause, "check the directory")
}

/// What is to be in the directory.
struct Fetched {
    /// By the file's name.
    values: BTreeMap<String, SecretBytes>,
    /// Whether every source answered: else what is not here may be there all the same.
    is_whole: bool,
    /// How many keys make no file.
    left_out: usize,
}

/// All of them, before any file is touched.
fn fetch(paths: &Paths, options: &RenderOptions) -> Result<Fetched, CliError> {
    let client = client(paths);
    let mut values = BTreeMap::new();
    let mut left_out = 0;
    let workloads = workloads(&client, &options.workload, TITLE)?;
    let is_whole = workloads.iter().all(|workload| workload.incomplete.is_empty());
    for workload in workloads {
        for secret in &workload.secrets {
            if is_file_name(&secret.key) && !secret.reference.is_empty() {
                values.insert(secret.key.clone(), value(&client, secret)?);
            } else {
                left_out += 1;
                let key = check::excerpt(&secret.key);
                let note = format!(
                    "left out: the key '{key}' is no file's name; rename it at the provider"
                );
                crate::ctl::note(TITLE, &note);
            }
        }
    }
    Ok(Fetched { values, is_whole, left_out })
}

/// Whether a key can be a file's name; one that begins with a dot may be the manifest's.
pub(super) fn is_file_name(key: &str) -> bool {
    check::key(key).is_ok() && !key.starts_with('.') && !key.contains('/') && key.len() <= 255
}
