//! Opens a directory by descriptors, component by component.
//!
//! Between the check of a path and a second open, a user with write access to one of its directories could
//! replace a component. A walk holds each directory open while it opens the next one, so that the directory
//! that was checked is the one that is opened; all further work is relative to its descriptor.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};

use crate::check;

/// Linux's limit of symbolic links in one path.
const MAX_LINKS: usize = 40;

const STEP: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The directories that a walk accepts.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    /// The owner that a directory may have besides root.
    pub owner: u32,
    /// Whether a directory must be writable for its owner only. A directory with the sticky bit is accepted on
    /// the way, because other users cannot replace files of root or of the owner in it, but not as the last one.
    pub is_private: bool,
}

/// A directory was not opened: the component at fault and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{}{reason}", check::printable(&path.to_string_lossy()))]
pub struct WalkError {
    path: PathBuf,
    reason: WalkErrorReason,
}

#[derive(Debug, thiserror::Error)]
enum WalkErrorReason {
    #[error(": {0}")]
    Io(io::Error),
    #[error(" belongs to uid {0}")]
    Owner(u32),
    #[error(" is writable for others (mode {0:o})")]
    Writable(u32),
    #[error(" is a symbolic link")]
    Link,
}

/// Opens a directory. A symbolic link on the way is followed only if root alone could have created it.
pub fn open_directory(path: &Path, trust: Trust) -> Result<OwnedFd, WalkError> {
    Walk::along(path, Some(trust), Last::Exists)?.arrive()
}

/// Opens a directory of any owner, for root's work in the directory of an untrusted user: no link of that user
/// is followed. `None` if root alone can change the path, so that the path itself can be used.
pub fn open_directory_of_any_owner(path: &Path) -> Result<Option<OwnedFd>, WalkError> {
    let walk = Walk::along(path, None, Last::Exists)?;
    if walk.passed.iter().all(|(_, about)| about.st_uid == 0 && protects_names(about)) {
        return Ok(None);
    }
    walk.arrive().map(Some)
}

/// Opens a directory as [`open_directory`] does, and creates it with mode 0700 if it is missing; its parent
/// must exist. The last directory, but none on the way, may belong to `owner` too.
pub fn make_directory(path: &Path, trust: Trust, owner: u32) -> Result<OwnedFd, WalkError> {
    Walk::along(path, Some(trust), Last::Made { owner })?.arrive()
}

/// The last directory of a walk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Exists,
    /// It is created if it is missing, and may belong to this user.
    Made {
        owner: u32,
    },
}

struct Walk {
    /// `None` accepts directories of any owner.
    trust: Option<Trust>,
    /// The open directories, from the root on.
    passed: Vec<(OwnedFd, FileStat)>,
    /// The path of the last of them, for messages and for `..`.
    current: PathBuf,
    links: usize,
}

impl Walk {
    /// Walks as far as the last directory.
    fn along(path: &Path, trust: Option<Trust>, last: Last) -> Result<Self, WalkError> {
        let absolute = std::path::absolute(path)
            .map_err(|error| WalkError { path: path.into(), reason: WalkErrorReason::Io(error) })?;
        let mut walk = Self { trust, passed: Vec::new(), current: "/".into(), links: 0 };
        let root = open("/", STEP, Mode::empty()).map_err(|error| walk.failed(error))?;
        walk.pass(root, None)?;
        let mut rest = reversed(&absolute);
        while let Some(name) = rest.pop() {
            walk.step(&name, &mut rest, last)?;
        }
        Ok(walk)
    }

    fn step(
        &mut self,
        name: &OsStr,
        rest: &mut Vec<OsString>,
        last: Last,
    ) -> Result<(), WalkError> {
        if name == ".." {
            if self.passed.len() > 1 {
                self.passed.pop();
                self.current.pop();
            }
            return Ok(());
        }
        let Some((parent, about)) = self.passed.last() else { return Ok(()) };
        let parent_path = self.current.clone();
        self.current.push(name);
        let last_owner = match last {
            Last::Made { owner } if rest.is_empty() => Some(owner),
            _ => None,
        };
        if last_owner.is_some() {
            match mkdirat(parent, name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        match openat(parent, name, STEP, Mode::empty()) {
            Ok(next) => self.pass(next, last_owner),
            Err(Errno::ENOTDIR | Errno::ELOOP) if is_link(parent, name) => {
                if self.links == MAX_LINKS || !is_writable_by_root_only(about) {
                    return Err(self.refused(WalkErrorReason::Link));
                }
                let target = readlinkat(parent, name).map_err(|e| self.failed(e))?;
                let target = PathBuf::from(target);
                self.links += 1;
                self.current = parent_path;
                if target.is_absolute() {
                    self.passed.truncate(1);
                    self.current = "/".into();
                }
                rest.extend(reversed(&target));
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Checks a directory, which may belong to `owner` too, and continues from it.
    fn pass(&mut self, directory: OwnedFd, owner: Option<u32>) -> Result<(), WalkError> {
        let about = fstat(&directory).map_err(|error| self.failed(error))?;
        if let Some(trust) = self.trust {
            let owners = [Some(0), Some(trust.owner), owner];
            if !owners.contains(&Some(about.st_uid)) {
                return Err(self.refused(WalkErrorReason::Owner(about.st_uid)));
            }
            if trust.is_private && !protects_names(&about) {
                return Err(self.refused(WalkErrorReason::Writable(about.st_mode & 0o7777)));
            }
        }
        self.passed.push((directory, about));
        Ok(())
    }

    /// Opens the last directory for reading.
    fn arrive(self) -> Result<OwnedFd, WalkError> {
        let Some((directory, about)) = self.passed.last() else {
            return Err(self.failed(Errno::ENOENT));
        };
        let is_private = self.trust.is_some_and(|trust| trust.is_private);
        if is_private && about.st_mode & 0o022 != 0 {
            return Err(self.refused(WalkErrorReason::Writable(about.st_mode & 0o7777)));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(directory, ".", flags, Mode::empty()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: Errno) -> WalkError {
        self.refused(WalkErrorReason::Io(error.into()))
    }

    fn refused(&self, reason: WalkErrorReason) -> WalkError {
        WalkError { path: self.current.clone(), reason }
    }
}

/// The components, last one first.
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

/// Whether only their owners can replace files in this directory.
fn protects_names(directory: &FileStat) -> bool {
    directory.st_mode & 0o022 == 0 || directory.st_mode & 0o1000 != 0
}

/// Whether root alone can create or change a link in this directory.
fn is_writable_by_root_only(directory: &FileStat) -> bool {
    directory.st_uid == 0 && directory.st_mode & 0o022 == 0
}

impl WalkError {
    /// Whether the directory, or one on the way, is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.reason, WalkErrorReason::Io(error) if error.kind() == ErrorKind::NotFound)
    }

    /// Whether a component is untrusted; otherwise the system call failed.
    pub fn is_untrusted(&self) -> bool {
        !matches!(self.reason, WalkErrorReason::Io(_))
    }
}

impl From<WalkError> for io::Error {
    fn from(error: WalkError) -> Self {
        let kind = match &error.reason {
            WalkErrorReason::Io(cause) => cause.kind(),
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

    fn own() -> Trust {
        Trust { owner: geteuid().as_raw(), is_private: true }
    }

    fn refusal(path: &Path, trust: Trust) -> String {
        open_directory(path, trust).expect_err("it must not be opened").to_string()
    }

    fn inode(directory: &OwnedFd) -> u64 {
        fstat(directory).unwrap().st_ino
    }

    #[test]
    fn walk_opens_a_directory_below_a_sticky_one_and_creates_the_last_component() {
        let directory = tempfile::tempdir().unwrap();
        let made = directory.path().join("a");
        let opened = make_directory(&made, own(), own().owner).unwrap();
        let about = fs::metadata(&made).unwrap();
        assert_eq!((about.ino(), about.mode() & 0o777), (inode(&opened), 0o700));
        assert_eq!(inode(&make_directory(&made, own(), own().owner).unwrap()), about.ino());
        assert_eq!(inode(&open_directory(&made.join("../a/."), own()).unwrap()), about.ino());
        let missing = open_directory(&made.join("b/c"), own()).unwrap_err();
        assert!(missing.is_not_found() && !missing.is_untrusted(), "{missing}");
        assert!(make_directory(&made.join("b/c"), own(), own().owner).unwrap_err().is_not_found());
        fs::write(made.join("file"), "").unwrap();
        assert!(!open_directory(&made.join("file"), own()).unwrap_err().is_untrusted());
    }

    #[test]
    fn walk_rejects_a_component_that_is_writable_for_others() {
        let directory = tempfile::tempdir().unwrap();
        let (shared, last) =
            (directory.path().join("shared"), directory.path().join("shared/last"));
        fs::create_dir_all(&last).unwrap();
        for mode in [0o777, 0o775, 0o770] {
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let line = refusal(&last, own());
            assert!(
                line.ends_with(&format!("shared is writable for others (mode {mode:o})")),
                "{line}"
            );
            open_directory(&last, Trust { is_private: false, ..own() }).unwrap();
        }
        // The sticky bit protects the files in a directory, not its unused names.
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        open_directory(&last, own()).unwrap();
        assert!(refusal(&shared, own()).contains("writable for others"));
    }

    #[test]
    fn walk_rejects_a_component_of_another_user() {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let last = directory.path().join("home/last");
        fs::create_dir_all(&last).unwrap();
        chown(directory.path().join("home"), Some(1234), None).unwrap();
        assert!(refusal(&last, own()).ends_with("home belongs to uid 1234"));
        open_directory(&last, Trust { owner: 1234, is_private: true }).unwrap();
        assert!(refusal(&last, Trust { owner: 1235, is_private: true }).contains("uid 1234"));
    }

    #[test]
    fn walk_accepts_another_owner_of_the_last_directory_only() {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let last = directory.path().join("given/last");
        fs::create_dir_all(&last).unwrap();
        let make = |path: &Path| make_directory(path, own(), 1234);
        chown(&last, Some(1234), None).unwrap();
        make(&last).unwrap();
        let root_alone = make_directory(&last, own(), own().owner).unwrap_err();
        assert!(root_alone.to_string().ends_with("last belongs to uid 1234"));
        chown(&last, Some(1235), None).unwrap();
        assert!(make(&last).unwrap_err().to_string().ends_with("last belongs to uid 1235"));
        chown(directory.path().join("given"), Some(1234), None).unwrap();
        assert!(make(&last).unwrap_err().to_string().ends_with("given belongs to uid 1234"));
    }

    #[test]
    fn walk_follows_links_in_root_owned_directories_only() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        fs::create_dir_all(base.join("real/last")).unwrap();
        let expected = fs::metadata(base.join("real/last")).unwrap().ino();
        symlink("real", base.join("relative")).unwrap();
        symlink(base.join("real/../real"), base.join("absolute")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        let found = ["relative", "absolute"].map(|name| {
            open_directory(&base.join(name).join("last"), own()).map(|found| inode(&found))
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
        // The same for root's work in that user's directory.
        if geteuid().is_root() {
            assert!(open_directory_of_any_owner(&base.join("real/last")).unwrap().is_some());
            assert!(open_directory_of_any_owner(Path::new("/etc")).unwrap().is_none());
            let error = open_directory_of_any_owner(&base.join("relative/last")).unwrap_err();
            assert!(error.to_string().ends_with("relative is a symbolic link"), "{error}");
        }
    }

    #[test]
    fn message_shows_no_control_character() {
        let line = refusal(Path::new("/nonexistent\x1b[2J"), own());
        assert!(line.starts_with("/nonexistent\\u001b[2J: No such file"), "{line}");
    }
}
