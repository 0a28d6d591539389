//! Adding many files at once.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, syncfs};

use super::directory::remove_directory;
use super::{give_to_owner_of, open_directory, parent_of, sync_parent, temporary};
use crate::sys::pinned_parent::with_pinned_parent;

/// Adds new files to a directory, which is created if it does not exist. No file is replaced, and all are
/// durable on return. A directory that did not exist has all files or still does not exist, wherever this is
/// interrupted.
pub(crate) fn add_all<'a>(
    directory: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])> + Clone,
) -> io::Result<()> {
    with_pinned_parent(directory, |directory| {
        let staged = temporary(directory);
        remove_directory(&staged)?;
        let added =
            stage(&staged, files.clone()).and_then(|()| move_staged(&staged, directory, files));
        let removed = remove_directory(&staged);
        added.and(removed)
    })
}

fn move_staged<'a>(
    staged: &Path,
    directory: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<()> {
    let exclusive = RenameFlags::RENAME_NOREPLACE;
    match renameat2(AT_FDCWD, staged, AT_FDCWD, directory, exclusive) {
        Err(Errno::EEXIST) => {}
        renamed => {
            renamed?;
            return sync_parent(directory);
        }
    }
    let into = open_directory(directory)?;
    for (name, _) in files {
        renameat2(AT_FDCWD, &staged.join(name), &into, name, exclusive)?;
    }
    into.sync_all()
}

fn stage<'a>(
    directory: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(directory)?;
    // Root works here in another user's directory. That user may replace the new directory by a link.
    let handle = open_directory(directory)?;
    if handle.metadata()?.uid() != geteuid().as_raw() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    give_to_owner_of(parent_of(directory), &handle)?;
    let flags =
        OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
    for (name, bytes) in files {
        let mut file = File::from(openat(&handle, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        give_to_owner_of(parent_of(directory), &file)?;
        file.write_all(bytes)?;
    }
    // Once for hundreds of files: an fsync of each takes seconds.
    Ok(syncfs(&handle)?)
}
