//! Root's work in a directory of another user's.
//!
//! psid is the user psi, and the admin's commands are root. In a directory of psi's, psi may put a link in the
//! place of a directory at any time. So root opens the directory by a walk that follows no link of psi's, and
//! names what is in it by the descriptor.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use psi_common::walk;
use rustix::process::geteuid;

/// Does some work on a file or directory, by a path whose parent cannot be changed meanwhile. The last component
/// may be a link: whoever works on it must not follow it.
pub(crate) fn reach<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return work(path) };
    if !geteuid().is_root() {
        return work(path);
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let Some(directory) = walk::open_directory_of_any_owner(parent)? else { return work(path) };
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    work(&by_descriptor.join(name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn work_by_root_follows_no_link_of_another_user_s() {
        let folder = tempfile::tempdir().unwrap();
        let (state, elsewhere) = (folder.path().join("state"), folder.path().join("elsewhere"));
        for directory in [&state, &elsewhere, &state.join("secrets")] {
            fs::create_dir(directory).unwrap();
        }
        reach(&state.join("secrets/a"), |path| fs::write(path, "1")).unwrap();
        assert_eq!(fs::read_to_string(state.join("secrets/a")).unwrap(), "1");
        if !geteuid().is_root() {
            return;
        }
        chown(&state, Some(1234), None).unwrap();
        reach(&state.join("secrets/b"), |path| fs::write(path, "2")).unwrap();
        fs::rename(state.join("secrets"), state.join("moved")).unwrap();
        symlink(&elsewhere, state.join("secrets")).unwrap();
        let error = reach(&state.join("secrets/c"), |path| fs::write(path, "3")).unwrap_err();
        assert!(error.to_string().contains("secrets is a symbolic link"), "{error}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        // What was opened stays what it is.
        reach(&state.join("moved/d"), |path| {
            fs::rename(state.join("moved"), state.join("again"))?;
            symlink(&elsewhere, state.join("moved"))?;
            fs::write(path, "4")
        })
        .unwrap();
        assert!(state.join("again/d").exists());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
