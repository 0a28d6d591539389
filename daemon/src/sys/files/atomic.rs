//! Writing, renaming and backing up single files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use nix::unistd::geteuid;

use super::{TEMPORARY, give_to_owner_of, parent_of, sync_parent, temporary};
use crate::sys::pinned_parent::with_pinned_parent;

/// Replaces a file: a temporary file beside it, created 0600, fsync, rename, fsync of the directory.
///
/// The name of the temporary file is fixed, so a file has one writer at a time.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, None, parent_of(path))
}

/// [`replace`], for a file that belongs to the owner of another directory than its own.
pub(crate) fn replace_owned_like(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, None, directory)
}

/// [`replace`], with a time of last modification.
pub(crate) fn replace_with_mtime(path: &Path, bytes: &[u8], time: SystemTime) -> io::Result<()> {
    replace_with(path, bytes, Some(time), parent_of(path))
}

/// Replaces the content of a file that another user owns; owner and mode stay.
pub(crate) fn replace_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // The file, not a link to it.
    let path = fs::canonicalize(path)?;
    let about = fs::metadata(&path)?;
    let temporary = temporary(&path);
    let written = write_new(&temporary, bytes, None, parent_of(&path)).and_then(|()| {
        if geteuid().is_root() {
            std::os::unix::fs::chown(&temporary, Some(about.uid()), Some(about.gid()))?;
        }
        fs::set_permissions(&temporary, fs::Permissions::from_mode(about.mode() & 0o7777))?;
        fs::rename(&temporary, &path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_parent(&path)
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    time: Option<SystemTime>,
    owners: &Path,
) -> io::Result<()> {
    with_pinned_parent(path, |path| {
        let temporary = temporary(path);
        let written =
            write_new(&temporary, bytes, time, owners).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // Frees the space on a full disk; the first error is the one to report.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        sync_parent(path)
    })
}

/// Renames a file durably, and replaces the target.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    with_pinned_parent(from, |from| with_pinned_parent(to, |to| fs::rename(from, to)))?;
    sync_parent(to)
}

/// Renames a file durably; `AlreadyExists` if there is a target.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let exclusive = RenameFlags::RENAME_NOREPLACE;
    with_pinned_parent(from, |from| {
        with_pinned_parent(to, |to| Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, exclusive)?))
    })?;
    sync_parent(to)?;
    sync_parent(from)
}

/// Gives a file a second name, `NAME.old-TIME` by its time of last modification, before it is replaced.
/// Returns that path; `None` if there is no file.
pub(crate) fn back_up(path: &Path) -> io::Result<Option<PathBuf>> {
    back_up_as(path, "old")
}

/// [`back_up`] as `NAME.SUFFIX-TIME`.
pub(crate) fn back_up_as(path: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    let written = match fs::metadata(path) {
        Ok(file) => file.modified()?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let time = written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    with_free_name(path, suffix, time, |backup| {
        with_pinned_parent(path, |path| {
            with_pinned_parent(backup, |backup| fs::hard_link(path, backup))
        })
    })
    .map(Some)
}

/// Renames a file to `NAME.SUFFIX-TIME` and returns the new path; replaces no file.
pub(crate) fn move_aside(path: &Path, suffix: &str, time: u64) -> io::Result<PathBuf> {
    with_free_name(path, suffix, time, |aside| rename_no_replace(path, aside))
}

fn with_free_name(
    path: &Path,
    suffix: &str,
    time: u64,
    create: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for attempt in 0..100 {
        let number = if attempt == 0 { String::new() } else { format!(".{attempt}") };
        let free = path.with_file_name(format!("{name}.{suffix}-{time}{number}"));
        match create(&free) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => return result.map(|()| free),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Checks that a file of `size` bytes could be written into a directory now, and leaves none.
pub(crate) fn probe_write(directory: &Path, size: usize) -> io::Result<()> {
    let path = directory.join(format!(".room{TEMPORARY}"));
    let written = write_size(&path, size);
    let removed = fs::remove_file(&path);
    written.and(removed)
}

fn write_size(path: &Path, size: usize) -> io::Result<()> {
    let mut file = create_new(path)?;
    let length = i64::try_from(size).unwrap_or(i64::MAX);
    match fallocate(&file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => file.write_all(&vec![0; size])?,
        reserved => reserved?,
    }
    file.sync_all()
}

fn write_new(path: &Path, bytes: &[u8], time: Option<SystemTime>, owners: &Path) -> io::Result<()> {
    let mut file = create_new(path)?;
    give_to_owner_of(owners, &file)?;
    file.write_all(bytes)?;
    time.map_or(Ok(()), |time| file.set_modified(time))?;
    file.sync_all()
}

/// Creates a file, in place of one that a crash left.
fn create_new(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}
