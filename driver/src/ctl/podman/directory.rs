//! A directory of podman's that another user may write to.
//!
//! Root reads every user's store, and a home directory may contain anything: a FIFO, a link to a device, another
//! user's file, a lock that is never released. So the directory is held open, and its files are opened, read and
//! replaced relative to its descriptor.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use psi_common::SecretBytes;
use psi_common::walk::{Trust, open_directory};

/// Follows no link and does not wait for the other end of a FIFO.
const SAFE_OPEN: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// A directory, held open.
pub(crate) struct Directory {
    fd: OwnedFd,
    owner: u32,
}

impl Directory {
    /// Opens a directory of any owner; `None` if it is missing.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(about) => Self::open_of(path, about.uid()),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a directory of one user; every directory on the way belongs to that user or to root.
    pub(super) fn open_of(path: &Path, owner: u32) -> io::Result<Option<Self>> {
        match open_directory(path, Trust { owner, is_private: false }) {
            Ok(fd) => {
                let owner = fstat(&fd)?.st_uid;
                Ok(Some(Self { fd, owner }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a whole file of at most `limit` bytes; `None` if it is missing.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Option<SecretBytes>> {
        let Some(file) = self.file(name, OFlag::O_RDONLY)? else { return Ok(None) };
        let length = file.metadata()?.len();
        let too_large = || Err(file_error(name, &format!("is larger than {limit} bytes")));
        if length > limit {
            return too_large();
        }
        // Allocated at once: a buffer that grows leaves copies of secrets behind.
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
        file.take(limit + 1).read_to_end(&mut bytes)?;
        let bytes = SecretBytes::new(bytes);
        if bytes.len() as u64 > limit { too_large() } else { Ok(Some(bytes)) }
    }

    /// Opens a regular file of the directory's owner; `None` if it is missing.
    pub(super) fn file(&self, name: &str, access: OFlag) -> io::Result<Option<File>> {
        let file = match openat(&self.fd, name, SAFE_OPEN | access, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(file_error(name, "is a symbolic link")),
            // The error of a FIFO without a reader, and of a socket.
            Err(Errno::ENXIO) => return Err(file_error(name, "is not a regular file")),
            Err(error) => {
                return Err(file_error(
                    name,
                    &format!("cannot be opened: {}", io::Error::from(error)),
                ));
            }
        };
        let about = fstat(&file)?;
        if about.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(file_error(name, "is not a regular file"));
        }
        if about.st_uid != self.owner {
            return Err(file_error(name, "does not belong to its directory's owner"));
        }
        Ok(Some(File::from(file)))
    }

    /// Creates an empty file if there is none, as podman creates its locks.
    pub(super) fn create(&self, name: &str) -> io::Result<()> {
        let flags = SAFE_OPEN | OFlag::O_RDWR | OFlag::O_CREAT;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
        openat(&self.fd, name, flags, mode)?;
        Ok(())
    }

    /// Replaces a file by one of mode 0600: a crash leaves the old file or the new one. The new one is created in
    /// the same directory, for the rename and for its SELinux label, and belongs to the directory's owner.
    pub(super) fn replace(&self, name: &str, bytes: &SecretBytes) -> io::Result<()> {
        let temporary = format!(".{name}.psi-{}", std::process::id());
        let flags = SAFE_OPEN | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        // A crash may have left one of this pid.
        let _ = unlinkat(&self.fd, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        let file =
            File::from(openat(&self.fd, temporary.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let written = self.write(file, bytes).and_then(|()| {
            renameat(&self.fd, temporary.as_str(), &self.fd, name)?;
            Ok(fsync(&self.fd)?)
        });
        if written.is_err() {
            let _ = unlinkat(&self.fd, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    /// Closes the file before it is renamed, so that a watcher of the directory sees one change.
    fn write(&self, mut file: File, bytes: &SecretBytes) -> io::Result<()> {
        fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
        if file.metadata()?.uid() != self.owner {
            std::os::unix::fs::fchown(&file, Some(self.owner), None)?;
        }
        file.write_all(bytes.expose_secret())?;
        file.sync_all()
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn file_error(name: &str, what: &str) -> io::Error {
    io::Error::other(format!("{name} {what}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::unistd::mkfifo;

    use super::*;

    fn read_error(directory: &Directory, name: &str) -> String {
        directory.read(name, 4).map(drop).expect_err("the read must fail").to_string()
    }

    #[test]
    fn read_rejects_irregular_and_large_files() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("whole"), "abcd").unwrap();
        fs::write(at("large"), "abcde").unwrap();
        symlink("whole", at("link")).unwrap();
        mkfifo(&at("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let directory = Directory::open(base.path()).unwrap().unwrap();
        let whole = directory.read("whole", 4).unwrap().unwrap();
        assert_eq!(whole.expose_secret(), b"abcd");
        assert!(directory.read("missing", 4).unwrap().is_none());
        assert_eq!(read_error(&directory, "large"), "large is larger than 4 bytes");
        assert_eq!(read_error(&directory, "link"), "link is a symbolic link");
        assert_eq!(read_error(&directory, "fifo"), "fifo is not a regular file");
        assert_eq!(read_error(&directory, "directory"), "directory is not a regular file");
        assert!(Directory::open(&at("none")).unwrap().is_none());
        assert!(Directory::open(&at("whole")).is_err());
    }

    #[test]
    fn replace_does_not_follow_a_link() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("other"), "theirs").unwrap();
        symlink("other", at("record")).unwrap();
        symlink("other", at(&format!(".record.psi-{}", std::process::id()))).unwrap();
        let directory = Directory::open(base.path()).unwrap().unwrap();
        directory.replace("record", &SecretBytes::new(b"new".to_vec())).unwrap();
        assert_eq!(fs::read(at("other")).unwrap(), b"theirs");
        let about = fs::symlink_metadata(at("record")).unwrap();
        assert!(about.is_file() && about.permissions().mode() & 0o777 == 0o600);
        assert_eq!(fs::read(at("record")).unwrap(), b"new");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2);
    }
}
