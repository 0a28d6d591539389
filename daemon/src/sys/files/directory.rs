//! Directories: created durably, listed, locked and cleaned up.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::Flock;
use nix::unistd::geteuid;
use psi_common::{Paths, SecretId, file_lock};

use super::{TEMPORARY, give_to_owner_of, open_directory, parent_of};
use crate::sys::pinned_parent::with_pinned_parent;

/// The lock of a directory; it ends when this is dropped.
pub(crate) type DirectoryLock = Flock<File>;

/// Creates a directory with mode 0700, and its parents. It is durable, as its files will be.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    create_durable(path, fs::DirBuilder::new().mode(0o700))
}

/// Creates a directory with mode 0755, and its parents.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    create_durable(path, &fs::DirBuilder::new())?;
    // Whatever the umask is: clients must reach the socket in it.
    open_directory(path)?.set_permissions(fs::Permissions::from_mode(0o755))
}

/// Creates the run directory with mode 0700. It belongs to the owner of the state directory, as the service
/// manager creates it, also when a command of root's is the first to need it.
pub(crate) fn create_run_directory(paths: &Paths) -> io::Result<()> {
    if paths.run.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&paths.run)?;
    if paths.state.is_dir() {
        give_to_owner_of(&paths.state, &File::open(&paths.run)?)?;
    }
    Ok(())
}

fn create_durable(path: &Path, builder: &fs::DirBuilder) -> io::Result<()> {
    let missing = path.ancestors().take_while(|directory| !directory.is_dir());
    let missing: Vec<_> = missing.filter(|path| !path.as_os_str().is_empty()).collect();
    for directory in missing.iter().rev() {
        match with_pinned_parent(directory, |directory| builder.create(directory)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => {}
            created => created?,
        }
    }
    for created in missing.iter().rev() {
        give_directory_to_owner_of(parent_of(created), created)?;
    }
    // Also for a directory that exists: an earlier attempt may have ended before its fsync.
    sync_parent(path)?;
    missing.into_iter().skip(1).try_for_each(sync_parent)
}

/// Gives a new directory to the owner of its parent. That may be another user, who may have replaced the new
/// directory meanwhile.
fn give_directory_to_owner_of(parent: &Path, directory: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let handle = open_directory(directory)?;
    if handle.metadata()?.uid() != 0 {
        return Ok(());
    }
    give_to_owner_of(parent, &handle)
}

/// The ids that name files of a directory, sorted; none if the directory does not exist.
pub(crate) fn list_ids(directory: &Path) -> io::Result<Vec<SecretId>> {
    let files = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut ids = Vec::new();
    for file in files {
        ids.extend(file?.file_name().to_str().and_then(|name| name.parse::<SecretId>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Removes the temporary files of interrupted writes, in a directory and below. Only for the holder of the
/// directory's lock: the temporary file of another writer is in use.
pub(crate) fn remove_temporary_files(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(TEMPORARY.as_bytes()) {
            // One that stays does no harm: the next write of that file replaces it.
            let _ = fs::remove_file(entry.path()).or_else(|_| remove_directory(&entry.path()));
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_temporary_files(&entry.path());
        }
    }
}

/// Locks a directory for this process, as long as the handle lives. If another process holds the lock after
/// `limit`, the error is of the kind `TimedOut`.
pub(crate) fn lock_directory(path: &Path, limit: Duration) -> io::Result<DirectoryLock> {
    file_lock::lock_directory(File::open(path)?, limit)
}

/// Makes a removal or a rename in a file's directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent_of(path))?.sync_all()
}

pub(super) fn remove_directory(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
