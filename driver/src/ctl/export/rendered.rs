//! The directory of `render`. Every file in it is opened, written and replaced relative to one descriptor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{UnlinkatFlags, getegid, geteuid, unlinkat};
use psi_common::{SecretBytes, check};

use crate::ctl::files;

/// The names that the last run wrote. Those that are no longer listed are removed, and no other file is.
const MANIFEST: &str = ".psi-rendered";
/// Begins the names of `render`'s own files.
const OWN: &str = ".psi-render";
/// More bytes than any provider's names have.
const MAX_MANIFEST: u64 = 16 << 20;
/// Follows no link and does not wait for a FIFO.
const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);
const CREATE: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A directory, and the mode and owner of its files.
pub(super) struct Rendered {
    directory: OwnedFd,
    mode: u32,
    owner: (u32, u32),
}

impl Rendered {
    /// Files of `mode` in `directory`; they belong to the caller unless `owner` says otherwise.
    pub(super) fn new(directory: OwnedFd, mode: u32, owner: Option<(u32, u32)>) -> Self {
        let own = || (geteuid().as_raw(), getegid().as_raw());
        Self { directory, mode, owner: owner.unwrap_or_else(own) }
    }

    pub(super) fn is_in_ram(&self) -> io::Result<bool> {
        Ok(files::is_in_ram(&fstatfs(&self.directory)?))
    }

    /// Writes the values and returns the number of new and changed files. Each is replaced atomically. Files that the
    /// provider no longer lists are removed if the listing `is_whole`.
    pub(super) fn write(
        &self,
        values: &BTreeMap<String, SecretBytes>,
        is_whole: bool,
    ) -> io::Result<usize> {
        let before = self.manifest()?;
        let mut written = 0;
        for (key, value) in values {
            if !self.is_up_to_date(key, value)? {
                self.replace(key, value.expose_secret())?;
                written += 1;
            }
        }
        let mut names: BTreeSet<&str> = values.keys().map(String::as_str).collect();
        for unlisted in
            before.lines().filter(|name| !values.contains_key(*name) && is_file_name(name))
        {
            if !is_whole {
                names.insert(unlisted);
                continue;
            }
            match unlinkat(&self.directory, unlisted, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let names: String = names.into_iter().map(|name| format!("{name}\n")).collect();
        if names != before {
            self.replace(MANIFEST, names.as_bytes())?;
        }
        Ok(written)
    }

    /// Gives the directory to the owner of the files, unless it has other files: then `false` is returned.
    pub(super) fn give_directory(&self) -> io::Result<bool> {
        let about = fstat(&self.directory)?;
        if (about.st_uid, about.st_gid) == self.owner {
            return Ok(true);
        }
        if !self.has_only_rendered_files()? {
            return Ok(false);
        }
        fchown(&self.directory, Some(self.owner.0), Some(self.owner.1))?;
        Ok(true)
    }

    fn has_only_rendered_files(&self) -> io::Result<bool> {
        let manifest = self.manifest()?;
        let path = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            let is_rendered =
                |name: &str| name == MANIFEST || manifest.lines().any(|it| it == name);
            if !name.to_str().is_some_and(is_rendered) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn manifest(&self) -> io::Result<String> {
        let mut text = String::new();
        if let Some(file) = self.open(MANIFEST)? {
            file.take(MAX_MANIFEST).read_to_string(&mut text)?;
        }
        Ok(text)
    }

    /// Opens a regular file; `None` if there is none.
    fn open(&self, name: &str) -> io::Result<Option<File>> {
        match openat(&self.directory, name, READ, Mode::empty()) {
            Ok(file) => {
                let file = File::from(file);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            // Missing, a link, or a socket.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a file has this value, the mode and the owner.
    fn is_up_to_date(&self, name: &str, value: &SecretBytes) -> io::Result<bool> {
        let mut file = match self.open(name) {
            // A file that the caller cannot read can still be replaced.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(false),
            file => match file? {
                Some(file) => file,
                None => return Ok(false),
            },
        };
        let about = file.metadata()?;
        let size = value.expose_secret().len();
        if (about.mode() & 0o7777, (about.uid(), about.gid())) != (self.mode, self.owner)
            || about.len() != size as u64
        {
            return Ok(false);
        }
        let mut present = Vec::with_capacity(size + 1);
        let read = (&mut file).take(size as u64 + 1).read_to_end(&mut present);
        let present = SecretBytes::new(present);
        read.map(|_| present.same_as(value))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = Temporary::new(&self.directory)?;
        let mut file = &temporary.file;
        file.write_all(bytes)?;
        fchown(file, Some(self.owner.0), Some(self.owner.1))?;
        file.set_permissions(Permissions::from_mode(self.mode))?;
        temporary.rename(name)
    }
}

/// A file that is removed unless it is renamed.
struct Temporary<'a> {
    directory: &'a OwnedFd,
    name: String,
    file: File,
}

impl<'a> Temporary<'a> {
    fn new(directory: &'a OwnedFd) -> io::Result<Self> {
        // A render with the same pid, in another pid namespace, may use the directory.
        for attempt in 0..1_000 {
            let name = format!(".psi-render.{}.{attempt}", std::process::id());
            match openat(directory, name.as_str(), CREATE, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(file) => return Ok(Self { directory, name, file: File::from(file) }),
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    fn rename(self, to: &str) -> io::Result<()> {
        // The drop follows at once and does not find the renamed file.
        Ok(renameat(self.directory, self.name.as_str(), self.directory, to)?)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let _ = unlinkat(self.directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// Whether a key can be a file name, and none that `render` uses itself.
pub(super) fn is_file_name(key: &str) -> bool {
    check::key(key).is_ok() && !key.starts_with(OWN) && !key.contains('/') && key.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(base: &tempfile::TempDir) -> Rendered {
        Rendered::new(File::open(base.path()).unwrap().into(), 0o400, None)
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretBytes> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).into(), SecretBytes::new(value.as_bytes().into())))
            .collect()
    }

    #[test]
    fn write_uses_the_directory_that_was_checked() {
        let base = tempfile::tempdir().unwrap();
        let (checked, moved) = (base.path().join("a"), base.path().join("b"));
        fs::create_dir(&checked).unwrap();
        let rendered = Rendered::new(File::open(&checked).unwrap().into(), 0o400, None);
        // Another directory replaces it between the check and the write.
        fs::rename(&checked, &moved).unwrap();
        fs::create_dir(&checked).unwrap();
        assert_eq!(rendered.write(&values(&[("A", "1")]), true).unwrap(), 1);
        assert_eq!(fs::read_dir(&checked).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(moved.join("A")).unwrap(), "1");
    }

    #[test]
    fn write_removes_nothing_outside_the_directory() {
        let base = tempfile::tempdir().unwrap();
        let inside = base.path().join("a");
        fs::create_dir(&inside).unwrap();
        fs::write(base.path().join("precious"), "").unwrap();
        fs::write(inside.join(MANIFEST), "../precious\n.\n..\nGONE\n").unwrap();
        fs::write(inside.join("GONE"), "").unwrap();
        let rendered = Rendered::new(File::open(&inside).unwrap().into(), 0o400, None);
        rendered.write(&values(&[("A", "1")]), true).unwrap();
        assert!(base.path().join("precious").exists() && !inside.join("GONE").exists());
    }

    #[test]
    fn failed_write_leaves_no_file() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("A")).unwrap();
        assert!(rendered(&base).write(&values(&[("A", "1")]), true).is_err());
        let names: Vec<_> = fs::read_dir(base.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
