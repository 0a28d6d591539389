//! Opening a directory by descriptors, component by component.
//!
//! A path that is checked and then opened again can be changed in between by whoever may write to one of
//! its directories. A walk holds each directory open while it looks for the next one, so what was checked
//! is what is opened; all that follows is done relative to the descriptor.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};

/// What Linux allows in one path.
const MAX_LINKS: usize = 40;

const STEP: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Whose directories a walk passes.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    /// Besides root, the owner that a directory may have.
    pub owner: u32,
    /// Whether a directory must be writable for its owner only. A directory with the sticky bit is passed all
    /// the same, for others cannot replace in it what belongs to root or the owner; it is not arrived at.
    pub is_private: bool,
}

/// Why a directory was not opened.
#[derive(Debug)]
pub struct WalkError {
    /// The component at fault.
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    Owner(u32),
    Writable(u32),
    Link,
}

/// Opens a directory. A symbolic link on the way is followed only where root alone could have put it.
pub fn open_directory(path: &Path, trust: Trust) -> Result<OwnedFd, WalkError> {
    Walk::to(path, Some(trust), false)
}

/// Opens a directory of any owner's, for root's work in the directory of a user whom it does not trust: no
/// link of that user's leads elsewhere. None if root alone can change the path, which is as good then.
pub fn open_directory_of_any_owner(path: &Path) -> Result<Option<OwnedFd>, WalkError> {
    let walk = Walk::along(path, None, false)?;
    if walk.passed.iter().all(|(_, about)| about.st_uid == 0 && keeps_names(about)) {
        return Ok(None);
    }
    walk.arrive().map(Some)
}

/// Opens a directory as [`open_directory`] does, and makes it with mode 0700 where it is missing; its parent
/// must be there.
pub fn make_directory(path: &Path, trust: Trust) -> Result<OwnedFd, WalkError> {
    Walk::to(path, Some(trust), true)
}

struct Walk {
    /// None: the directory of any owner.
    trust: Option<Trust>,
    /// The directories from the root on, each open.
    passed: Vec<(OwnedFd, FileStat)>,
    shown: PathBuf,
    links: usize,
}

impl Walk {
    fn to(path: &Path, trust: Option<Trust>, makes_last: bool) -> Result<OwnedFd, WalkError> {
        Self::along(path, trust, makes_last)?.arrive()
    }

    /// The walk as far as the last directory.
    fn along(path: &Path, trust: Option<Trust>, makes_last: bool) -> Result<Self, WalkError> {
        let absolute = std::path::absolute(path)
            .map_err(|error| WalkError { path: path.into(), cause: Cause::Io(error) })?;
        let mut walk = Self { trust, passed: Vec::new(), shown: "/".into(), links: 0 };
        let root = open("/", STEP, Mode::empty()).map_err(|error| walk.failed(error))?;
        walk.pass(root)?;
        let mut rest = reversed(&absolute);
        while let Some(name) = rest.pop() {
            walk.step(&name, &mut rest, makes_last)?;
        }
        Ok(walk)
    }

    fn step(
        &mut self,
        name: &OsStr,
        rest: &mut Vec<OsString>,
        makes_last: bool,
    ) -> Result<(), WalkError> {
        if name == ".." {
            if self.passed.len() > 1 {
                self.passed.pop();
                self.shown.pop();
            }
            return Ok(());
        }
        let Some((parent, about)) = self.passed.last() else { return Ok(()) };
        let above = self.shown.clone();
        self.shown.push(name);
        if makes_last && rest.is_empty() {
            match mkdirat(parent, name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        match openat(parent, name, STEP, Mode::empty()) {
            Ok(next) => self.pass(next),
            Err(Errno::ENOTDIR | Errno::ELOOP) if is_link(parent, name) => {
                if self.links == MAX_LINKS || !is_roots_alone(about) {
                    return Err(self.refused(Cause::Link));
                }
                let target = readlinkat(parent, name).map_err(|e| self.failed(e))?;
                let target = PathBuf::from(target);
                self.links += 1;
                self.shown = above;
                if target.is_absolute() {
                    self.passed.truncate(1);
                    self.shown = "/".into();
                }
                rest.extend(reversed(&target));
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Checks a directory and goes on from it.
    fn pass(&mut self, directory: OwnedFd) -> Result<(), WalkError> {
        let about = fstat(&directory).map_err(|error| self.failed(error))?;
        if let Some(trust) = self.trust {
            if about.st_uid != 0 && about.st_uid != trust.owner {
                return Err(self.refused(Cause::Owner(about.st_uid)));
            }
            if trust.is_private && !keeps_names(&about) {
                return Err(self.refused(Cause::Writable(about.st_mode & 0o7777)));
            }
        }
        self.passed.push((directory, about));
        Ok(())
    }

    /// The last directory, open for reading.
    fn arrive(self) -> Result<OwnedFd, WalkError> {
        let Some((directory, about)) = self.passed.last() else {
            return Err(self.failed(Errno::ENOENT));
        };
        let is_private = self.trust.is_some_and(|trust| trust.is_private);
        if is_private && about.st_mode & 0o022 != 0 {
            return Err(self.refused(Cause::Writable(about.st_mode & 0o7777)));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(directory, ".", flags, Mode::empty()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: Errno) -> WalkError {
        self.refused(Cause::Io(error.into()))
    }

    fn refused(&self, cause: Cause) -> WalkError {
        WalkError { path: self.shown.clone(), cause }
    }
}

/// The components, the first one last.
fn reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

fn is_link(parent: &OwnedFd, name: &OsStr) -> bool {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|about| about.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits())
}

/// Whether none but its owner can replace what lies in this directory.
fn keeps_names(directory: &FileStat) -> bool {
    directory.st_mode & 0o022 == 0 || directory.st_mode & 0o1000 != 0
}

/// Whether root alone can make or change a link in this directory.
fn is_roots_alone(directory: &FileStat) -> bool {
    directory.st_uid == 0 && directory.st_mode & 0o022 == 0
}

impl WalkError {
    /// Whether the directory, or one on the way, is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if error.kind() == ErrorKind::NotFound)
    }

    /// Whether a component is not to be trusted; else the system refused it.
    pub fn is_untrusted(&self) -> bool {
        !matches!(self.cause, Cause::Io(_))
    }
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        let path = crate::check::printable(&path);
        match &self.cause {
            Cause::Io(error) => write!(f, "{path}: {error}"),
            Cause::Owner(uid) => write!(f, "{path} belongs to uid {uid}"),
            Cause::Writable(mode) => write!(f, "{path} is writable for others (mode {mode:o})"),
            Cause::Link => write!(f, "{path} is a symbolic link"),
        }
    }
}

impl std::error::Error for WalkError {}

impl From<WalkError> for io::Error {
    fn from(error: WalkError) -> Self {
        let kind = match &error.cause {
            Cause::Io(cause) => cause.kind(),
            _ => ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use nix::unistd::geteuid;

    use super::*;

    fn mine() -> Trust {
        Trust { owner: geteuid().as_raw(), is_private: true }
    }

    fn refusal(path: &Path, trust: Trust) -> String {
        open_directory(path, trust).expect_err("it must not be opened").to_string()
    }

    fn inode(directory: &OwnedFd) -> u64 {
        fstat(directory).unwrap().st_ino
    }

    #[test]
    fn opens_a_directory_below_a_sticky_one_and_makes_the_last_component() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("a");
        let opened = make_directory(&made, mine()).unwrap();
        let about = fs::metadata(&made).unwrap();
        assert_eq!((about.ino(), about.mode() & 0o777), (inode(&opened), 0o700));
        assert_eq!(inode(&make_directory(&made, mine()).unwrap()), about.ino());
        assert_eq!(inode(&open_directory(&made.join("../a/."), mine()).unwrap()), about.ino());
        let missing = open_directory(&made.join("b/c"), mine()).unwrap_err();
        assert!(missing.is_not_found() && !missing.is_untrusted(), "{missing}");
        assert!(make_directory(&made.join("b/c"), mine()).unwrap_err().is_not_found());
        fs::write(made.join("file"), "").unwrap();
        assert!(!open_directory(&made.join("file"), mine()).unwrap_err().is_untrusted());
    }

    #[test]
    fn refuses_a_component_that_others_can_write_to() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, last) = (folder.path().join("shared"), folder.path().join("shared/last"));
        fs::create_dir_all(&last).unwrap();
        for mode in [0o777, 0o775, 0o770] {
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let line = refusal(&last, mine());
            assert!(
                line.ends_with(&format!("shared is writable for others (mode {mode:o})")),
                "{line}"
            );
            open_directory(&last, Trust { is_private: false, ..mine() }).unwrap();
        }
        // The sticky bit protects what lies in a directory, not the names that are free in it.
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        open_directory(&last, mine()).unwrap();
        assert!(refusal(&shared, mine()).contains("writable for others"));
    }

    #[test]
    fn refuses_a_component_of_another_user_s() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let last = folder.path().join("home/last");
        fs::create_dir_all(&last).unwrap();
        chown(folder.path().join("home"), Some(1234), None).unwrap();
        assert!(refusal(&last, mine()).ends_with("home belongs to uid 1234"));
        open_directory(&last, Trust { owner: 1234, is_private: true }).unwrap();
        assert!(refusal(&last, Trust { owner: 1235, is_private: true }).contains("uid 1234"));
    }

    #[test]
    fn follows_the_links_of_root_s_directories_only() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("real/last")).unwrap();
        let expected = fs::metadata(base.join("real/last")).unwrap().ino();
        symlink("real", base.join("relative")).unwrap();
        symlink(base.join("real/../real"), base.join("absolute")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        let found = ["relative", "absolute"].map(|name| {
            open_directory(&base.join(name).join("last"), mine()).map(|found| inode(&found))
        });
        if geteuid().is_root() {
            assert!(found.iter().all(|found| found.as_ref().is_ok_and(|ino| *ino == expected)));
            chown(base, Some(1234), None).unwrap();
        }
        let trust = Trust { owner: fs::metadata(base).unwrap().uid(), is_private: true };
        for name in ["relative", "absolute", "loop"] {
            let line = refusal(&base.join(name).join("last"), trust);
            assert!(line.ends_with(&format!("{name} is a symbolic link")), "{line}");
        }
        open_directory(&base.join("real/last"), trust).unwrap();
        // Nor for root's work in that user's directory.
        if geteuid().is_root() {
            assert!(open_directory_of_any_owner(&base.join("real/last")).unwrap().is_some());
            assert!(open_directory_of_any_owner(Path::new("/etc")).unwrap().is_none());
            let error = open_directory_of_any_owner(&base.join("relative/last")).unwrap_err();
            assert!(error.to_string().ends_with("relative is a symbolic link"), "{error}");
        }
    }

    #[test]
    fn a_message_shows_no_control_character() {
        let line = refusal(Path::new("/nonexistent\x1b[2J"), mine());
        assert!(line.starts_with("/nonexistent\\u001b[2J: No such file"), "{line}");
    }
}
