//! `psictl render DIRECTORY`: writes a workload's secrets as files in RAM, one for each key or one for each template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use psi_common::walk::{self, Trust, WalkError};
use psi_common::{Exit, Paths, SecretBytes, check};

use super::rendered::{Rendered, is_file_name};
use super::template::{self, Template, TemplateFault};
use super::{client, value, workloads};
use crate::ctl::args::RenderOptions;
use crate::error::CliError;
use crate::stdio;

const TITLE: &str = "render";

pub(crate) fn run(paths: &Paths, options: &RenderOptions) -> Result<(), CliError> {
    let path = &options.directory;
    let rendered = open(path, options)?;
    if !options.force && !rendered.is_in_ram().map_err(|cause| failed(path, &cause))? {
        return Err(CliError::new(
            Exit::BadInput,
            format!("{} is on a disk, where the secrets would remain", path.display()),
            "use a directory below /run or on another tmpfs, or pass --force",
        ));
    }
    let fetched =
        if options.template.is_empty() { fetch(paths, options)? } else { fill(paths, options)? };
    let Fetched { values, is_whole, left_out } = fetched;
    if options.owner.is_some()
        && !rendered.give_directory().map_err(|cause| failed(path, &cause))?
    {
        let note = format!(
            "{} has other files, so its owner is not changed; --owner may not be able to read below it",
            path.display()
        );
        crate::ctl::note(TITLE, &note);
    }
    let written = rendered.write(&values, is_whole).map_err(|cause| failed(path, &cause))?;
    stdio::write_text(&format!(
        "{} {}{} in {}, {written} of them new or changed\n",
        values.len(),
        if options.template.is_empty() { "secret" } else { "file" },
        if values.len() == 1 { "" } else { "s" },
        path.display()
    ))?;
    // Each was reported on stderr.
    if left_out == 0 { Ok(()) } else { Err(CliError::status_only(Exit::Drift)) }
}

/// Opens the directory so that no user but the secrets' owner can replace a secret by a link or another file, now or
/// later.
fn open(path: &Path, options: &RenderOptions) -> Result<Rendered, CliError> {
    let trust = Trust { owner: geteuid().as_raw(), is_private: true };
    let owner = options.owner.map_or(trust.owner, |(uid, _)| uid);
    let directory = walk::make_directory(path, trust, owner).map_err(|error: WalkError| {
        if error.is_untrusted() {
            return CliError::new(
                Exit::BadInput,
                format!("secrets for {} would not be safe there: {error}", path.display()),
                "use a directory that, like its parents, only you or root can change; --owner names another owner \
                 of the last one",
            );
        }
        CliError::new(Exit::Io, error.to_string(), "check the path; its parent must exist")
    })?;
    Ok(Rendered::new(directory, options.mode, options.owner))
}

fn failed(path: &Path, cause: &std::io::Error) -> CliError {
    CliError::io(&path.display().to_string(), cause, "check the directory")
}

/// The secrets for the directory.
struct Fetched {
    /// The values by file name.
    values: BTreeMap<String, SecretBytes>,
    /// Whether every source answered; otherwise the listing is incomplete.
    is_whole: bool,
    /// The number of keys that cannot be file names.
    left_out: usize,
}

/// Fetches all values before any file is changed.
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
                    "left out: the key '{key}' cannot be the name of a file here; rename it at the provider, or give it a \
                     variable by env of [workloads.\"{}\"]",
                    workload.name
                );
                crate::ctl::note(TITLE, &note);
            }
        }
    }
    Ok(Fetched { values, is_whole, left_out })
}

/// The files of the templates, all of them before any is written.
fn fill(paths: &Paths, options: &RenderOptions) -> Result<Fetched, CliError> {
    let texts = read_templates(&options.template)?;
    let mut templates = Vec::new();
    for (path, text) in options.template.iter().zip(&texts) {
        let template = Template::parse(text).map_err(|fault| refused(path, &fault))?;
        templates.push((path, template));
    }
    let client = client(paths);
    // Of several workloads with the same key, the later one wins.
    let workloads = workloads(&client, &options.workload, TITLE)?;
    let secrets = workloads.iter().flat_map(|workload| &workload.secrets);
    let secrets: BTreeMap<&str, _> = secrets.map(|secret| (secret.key.as_str(), secret)).collect();
    let mut values = BTreeMap::new();
    for (path, template) in &templates {
        for (key, at) in template.keys() {
            let secret = secrets.get(key).ok_or_else(|| {
                let (what, remedy) = template::unknown(key);
                refused(path, &TemplateFault { at, what, remedy })
            })?;
            if !values.contains_key(key) {
                values.insert(key.to_owned(), value(&client, secret)?);
            }
        }
    }
    let mut files = BTreeMap::new();
    for (path, template) in &templates {
        let name = file_name(path)?;
        let file = template.fill(&values, options.escape).map_err(|fault| refused(path, &fault))?;
        if files.insert(name.clone(), file).is_some() {
            let what = format!("two templates would be written to {name}");
            return Err(CliError::new(Exit::BadInput, what, "rename one of them"));
        }
    }
    Ok(Fetched { values: files, is_whole: true, left_out: 0 })
}

fn read_templates(paths: &[PathBuf]) -> Result<Vec<String>, CliError> {
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).map_err(|cause| {
            CliError::io(&format!("reading {}", path.display()), &cause, "check the path")
        })?;
        String::from_utf8(bytes).map_err(|_| {
            let what = format!("{} is no text: it is not UTF-8", path.display());
            CliError::new(Exit::BadInput, what, "save it as UTF-8")
        })
    };
    paths.iter().map(read).collect()
}

/// The name of a template's file: its own, without `.tmpl`.
fn file_name(template: &Path) -> Result<String, CliError> {
    let name = template.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".tmpl").unwrap_or(name);
    if is_file_name(name) {
        return Ok(name.to_owned());
    }
    let what = format!("{} has no name for its file", template.display());
    Err(CliError::new(Exit::BadInput, what, "rename the template"))
}

fn refused(path: &Path, fault: &TemplateFault) -> CliError {
    let TemplateFault { at, what, remedy } = fault;
    let what = format!("{}:{}:{}: {what}; nothing was written", path.display(), at.line, at.column);
    CliError::new(Exit::BadInput, what, *remedy)
}
