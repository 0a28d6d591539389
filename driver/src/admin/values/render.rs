//! `psi-driver render FOLDER`: a workload's secrets as files, in RAM.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use psi_common::{Exit, Paths, SecretBytes};
use rustix::fs::{Mode, OFlags, statfs};
use rustix::process::{getegid, geteuid};

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
    if !is_private(folder).map_err(failed)? {
        return Err(Failure::new(
            Exit::BadInput,
            format!("{} belongs to somebody else, or others may write to it", folder.display()),
            "take a folder of your own or root's that is writable for its owner only",
        ));
    }
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

/// Whether nobody else can put a link or another file in a secret's place.
fn is_private(folder: &Path) -> io::Result<bool> {
    let about = fs::metadata(folder)?;
    let is_trusted = about.uid() == 0 || about.uid() == geteuid().as_raw();
    Ok(about.is_dir() && is_trusted && about.mode() & 0o022 == 0)
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
    let mut before = String::new();
    if let Some(mut file) = open(&manifest)? {
        file.read_to_string(&mut before)?;
    }
    let mut written = 0;
    for (key, value) in values {
        let path = folder.join(key);
        if !is_right(&path, value, options)? {
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

/// A regular file; none where there is none, or something else. A link is not followed, and a FIFO not
/// waited for.
fn open(path: &Path) -> io::Result<Option<File>> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Whether a file is as a run would write it: its value, its mode and its owner.
fn is_right(path: &Path, value: &SecretBytes, options: &RenderOptions) -> io::Result<bool> {
    let mut file = match open(path) {
        // What the caller may not read, it may replace.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(false),
        file => match file? {
            Some(file) => file,
            None => return Ok(false),
        },
    };
    let about = file.metadata()?;
    let size = value.expose_secret().len();
    if (about.mode() & 0o7777, (about.uid(), about.gid())) != (options.mode, owner(options))
        || about.len() != size as u64
    {
        return Ok(false);
    }
    let mut present = Vec::with_capacity(size + 1);
    let read = file.read_to_end(&mut present);
    let present = SecretBytes::new(present);
    read.map(|_| present.same_as(value))
}

/// Whose the files are to be: the caller's, unless it says otherwise.
fn owner(options: &RenderOptions) -> (u32, u32) {
    options.owner.unwrap_or_else(|| (geteuid().as_raw(), getegid().as_raw()))
}

fn replace(path: &Path, bytes: &[u8], options: &RenderOptions) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    let inner: &File = file.as_file();
    let (uid, gid) = owner(options);
    fchown(inner, Some(uid), Some(gid))?;
    inner.set_permissions(Permissions::from_mode(options.mode))?;
    file.into_temp_path().persist(path)?;
    Ok(())
}
