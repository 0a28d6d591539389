//! Root's work in a directory of another user.
//!
//! psid runs as user psi, and admin commands run as root. In its directories, user psi can replace a directory
//! by a symbolic link at any time. So root opens the parent directory by a walk that follows no link of psi's,
//! and names the file by that descriptor.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use psi_common::walk;

/// Calls `work` with a path to the same file whose parent directory cannot be replaced meanwhile. The last
/// component may be a symbolic link: `work` must not follow it.
pub(crate) fn with_pinned_parent<T>(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
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
    fn root_follows_no_link_of_another_user() {
        let root = tempfile::tempdir().unwrap();
        let (state, elsewhere) = (root.path().join("state"), root.path().join("elsewhere"));
        for directory in [&state, &elsewhere, &state.join("secrets")] {
            fs::create_dir(directory).unwrap();
        }
        with_pinned_parent(&state.join("secrets/a"), |path| fs::write(path, "1")).unwrap();
        assert_eq!(fs::read_to_string(state.join("secrets/a")).unwrap(), "1");
        if !geteuid().is_root() {
            return;
        }
        chown(&state, Some(1234), None).unwrap();
        with_pinned_parent(&state.join("secrets/b"), |path| fs::write(path, "2")).unwrap();
        fs::rename(state.join("secrets"), state.join("moved")).unwrap();
        symlink(&elsewhere, state.join("secrets")).unwrap();
        let error = with_pinned_parent(&state.join("secrets/c"), |path| fs::write(path, "3"));
        let error = error.unwrap_err();
        assert!(error.to_string().contains("secrets is a symbolic link"), "{error}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        // The opened directory stays the same one.
        with_pinned_parent(&state.join("moved/d"), |path| {
            fs::rename(state.join("moved"), state.join("again"))?;
            symlink(&elsewhere, state.join("moved"))?;
            fs::write(path, "4")
        })
        .unwrap();
        assert!(state.join("again/d").exists());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
