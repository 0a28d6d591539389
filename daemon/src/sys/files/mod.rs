//! Durable files: after a crash, a file has its old content or its new one, never a part of it.

mod atomic;
mod batch;
mod directory;
mod read;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use psi_common::Problem;

pub(crate) use atomic::{
    back_up, back_up_as, move_aside, probe_write, rename, rename_no_replace, replace,
    replace_in_place, replace_owned_like, replace_with_mtime,
};
pub(crate) use batch::add_all;
pub(crate) use directory::{
    DirectoryLock, create_directory, create_private_directory, create_run_directory, list_ids,
    lock_directory, remove_temporary_files, sync_parent,
};
pub(crate) use read::{read_following_links, read_small};

/// The suffix of a file that is not complete yet; its name begins with a dot.
const TEMPORARY: &str = ".tmp";

/// A failed file operation with the remedy for its error. It depends on the error alone, so that a transient
/// error is reported as such.
pub(crate) fn problem(path: &Path, error: &io::Error) -> Problem {
    let path_text = path.display();
    let remedy = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => {
            format!("`chown -hR --reference={} {path_text}`", parent_of(path).display())
        }
        Some(Errno::EMFILE | Errno::ENFILE) => "raise LimitNOFILE= of psid's unit".into(),
        Some(Errno::ENOMEM) => "free memory".into(),
        Some(Errno::ENOSPC | Errno::EDQUOT) => "free space on its file system".into(),
        Some(Errno::EROFS) => "mount its file system read-write".into(),
        Some(Errno::EISDIR) => "move that directory away".into(),
        Some(Errno::ENOTDIR) => "move away what is there in place of a directory".into(),
        _ => "`journalctl -k` shows what the kernel reports of the disk".into(),
    };
    Problem::new(format!("{path_text}: {error}"), remedy)
}

/// Opens a directory, but not through a symbolic link.
fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    Ok(File::from(openat(AT_FDCWD, path, flags, Mode::empty())?))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        // The path is a bare name.
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent.unwrap_or(Path::new("/")),
    }
}

/// Gives a new file to the owner of `directory`, so that a psid of another user can read what root creates.
fn give_to_owner_of(directory: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    let directory = std::fs::metadata(directory)?;
    if geteuid().is_root() && directory.uid() != 0 {
        std::os::unix::fs::fchown(file, Some(directory.uid()), Some(directory.gid()))?;
    }
    Ok(())
}

/// The path of the temporary file for `path`. One name for each file: a crash leaves at most one.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMPORARY);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
