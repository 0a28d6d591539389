//! `psi-driver render FOLDER`: a workload's secrets as files, in RAM.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, fchown};
use std::path::Path;

use psi_common::{Exit, Paths, SecretBytes};
use rustix::fs::statfs;

use super::{client, value, workloads};
use crate::args::RenderOptions;
use crate::failure::Failure;
use crate::stdio;

const TITLE: &str = "render";
/// The names that a former run wrote: what of them is listed no more is removed, and nothing else.
const MANIFEST: &str = ".psi-rendered";
/// linux/magic.h
const IN_RAM: [u64; 2] = [0x0102_1994, 0x8584_58f6];

pub(crate) fn run(paths: &Paths, options: &RenderOptions) -> Result<(), Failure> {
    let folder = &options.folder;
    let failed = |cause| Failure::io(&folder.display().to_string(), &cause, "check the folder");
    make(folder).map_err(failed)?;
    if !options.force && !is_in_ram(folder).map_err(failed)? {
        return Err(Failure::new(
            Exit::BadInput,
            format!("{} is on a disk, where secrets would stay", folder.display()),
            "take a folder below /run or on another tmpfs, or --force",
        ));
    }
    let Fetched { values, is_whole } = fetch(paths, options)?;
    let written = write(folder, &values, is_whole, options).map_err(failed)?;
    stdio::write_text(&format!(
        "{} secrets in {}, {written} of them new or changed\n",
        values.len(),
        folder.display()
    ))
}

/// What is to be in the folder.
struct Fetched {
    /// By the file's name.
    values: BTreeMap<String, SecretBytes>,
    /// Whether every source answered: else what is not here may be there all the same.
    is_whole: bool,
}

/// All of them, before any file is touched.
fn fetch(paths: &Paths, options: &RenderOptions) -> Result<Fetched, Failure> {
    let client = client(paths);
    let mut values = BTreeMap::new();
    let workloads = workloads(&client, &options.workload, TITLE)?;
    let is_whole = workloads.iter().all(|workload| workload.untrusted.is_empty());
    for workload in workloads {
        for secret in &workload.secrets {
            if is_file_name(&secret.key) {
                values.insert(secret.key.clone(), value(&client, secret)?);
            } else {
                let key = secret.key.escape_debug();
                stdio::note(TITLE, &format!("left out: the key '{key}' is no file's name"));
            }
        }
    }
    Ok(Fetched { values, is_whole })
}

fn is_file_name(key: &str) -> bool {
    !key.is_empty() && !key.starts_with('.') && !key.contains(['/', '\0', '\n']) && key.len() <= 255
}

fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn is_in_ram(folder: &Path) -> io::Result<bool> {
    Ok(IN_RAM.contains(&u64::try_from(statfs(folder)?.f_type).unwrap_or_default()))
}

/// Tells how many files were new or changed; a reader sees a file as it was or as it is.
fn write(
    folder: &Path,
    values: &BTreeMap<String, SecretBytes>,
    is_whole: bool,
    options: &RenderOptions,
) -> io::Result<usize> {
    let manifest = folder.join(MANIFEST);
    let before = match fs::read_to_string(&manifest) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut written = 0;
    for (key, value) in values {
        let path = folder.join(key);
        let present = fs::read(&path).map(SecretBytes::new);
        if !present.is_ok_and(|present| present.same_as(value)) {
            replace(&path, value.expose_secret(), options)?;
            written += 1;
        }
    }
    let mut names: BTreeSet<&str> = values.keys().map(String::as_str).collect();
    for gone in before.lines().filter(|name| !values.contains_key(*name) && is_file_name(name)) {
        if !is_whole {
            names.insert(gone);
            continue;
        }
        match fs::remove_file(folder.join(gone)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let names: String = names.into_iter().map(|name| format!("{name}\n")).collect();
    if names != before {
        replace(&manifest, names.as_bytes(), options)?;
    }
    Ok(written)
}

fn replace(path: &Path, bytes: &[u8], options: &RenderOptions) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    let inner: &File = file.as_file();
    if let Some((uid, gid)) = options.owner {
        fchown(inner, Some(uid), Some(gid))?;
    }
    inner.set_permissions(Permissions::from_mode(options.mode))?;
    file.into_temp_path().persist(path)?;
    Ok(())
}
