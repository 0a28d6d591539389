//! The directories in which quadlet finds units and drop-ins (podman's pkg/systemd/quadlet/unitdirs.go).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use psi_common::Scope;

const ADMIN: &str = "/etc/containers/systemd";
const DISTRIBUTION: &str = "/usr/share/containers/systemd";
const TEMPORARY: &str = "/run/containers/systemd";

/// Directories in quadlet's order: the first file of a name wins.
#[derive(Default)]
struct Found {
    sorted: Vec<PathBuf>,
    visited: BTreeSet<PathBuf>,
}

/// The directories for root's or a user's podman. `own` is that user's directory of quadlets.
pub(crate) fn directories(scope: Scope, own: &Path) -> Vec<PathBuf> {
    let mut found = Found::default();
    let of_users = Path::new(ADMIN).join("users");
    let of_users = of_users.canonicalize().unwrap_or(of_users);
    match scope {
        Scope::System => {
            for directory in [TEMPORARY, ADMIN, DISTRIBUTION] {
                found.add(Path::new(directory), &|path| !path.starts_with(&of_users));
            }
        }
        Scope::User { uid } => {
            let temporary = Path::new("/run/user").join(uid.to_string()).join("containers/systemd");
            found.add(&temporary, &|_| true);
            found.add(own, &|_| true);
            for base in [ADMIN, DISTRIBUTION] {
                let users = Path::new(base).join("users");
                let users = users.canonicalize().unwrap_or(users);
                // A directory that is a number is one user's.
                found.add(&users, &|path| !is_of_one_user(&users, path));
                found.add(&users.join(uid.to_string()), &|_| true);
            }
        }
    }
    found.sorted
}

/// One directory with those below it, as `QUADLET_UNIT_DIRS` names them.
pub(crate) fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Found::default();
    found.add(directory, &|_| true);
    found.sorted
}

fn is_of_one_user(users: &Path, path: &Path) -> bool {
    let mut names = path.strip_prefix(users).into_iter().flat_map(Path::components);
    let first = names.next().and_then(|name| name.as_os_str().to_str());
    first.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Found {
    fn add(&mut self, path: &Path, accepts: &dyn Fn(&Path) -> bool) {
        let Ok(path) = path.canonicalize() else { return };
        let is_drop_in_directory = path.extension().is_some_and(|extension| extension == "d");
        if is_drop_in_directory || !path.is_dir() || !accepts(&path) {
            return;
        }
        if !self.visited.insert(path.clone()) {
            return;
        }
        let mut below: Vec<PathBuf> =
            fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        below.sort_unstable();
        self.sorted.push(path);
        for path in below {
            self.add(&path, accepts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directories_below_are_read_once_also_by_links() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().canonicalize().unwrap().join(name);
        for directory in ["a/sub/deep", "a/app.container.d", "b"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        symlink(path("a"), path("a/sub/circle")).unwrap();
        symlink(path("b"), path("a/link")).unwrap();
        assert_eq!(below(&path("a")), [path("a"), path("b"), path("a/sub"), path("a/sub/deep")]);
        assert!(below(&path("none")).is_empty());
    }

    #[test]
    fn numbered_directories_are_of_one_user() {
        let users = Path::new("/etc/containers/systemd/users");
        for (path, expected) in [("1000", true), ("1000/x", true), ("web", false), ("", false)] {
            assert_eq!(is_of_one_user(users, &users.join(path)), expected, "{path}");
        }
    }
}
