//! Podman's locks: POSIX locks on the whole of an empty file (storage's rawfilelock).

use std::fs::File;
use std::io;
use std::time::Duration;

use nix::fcntl::OFlag;
use psi_common::file_lock::{self, LockMode};

use super::directory::Directory;

/// How long podman may hold a lock; it does while a driver works.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Takes a lock within `limit`; `None` if there is no such file. If another process keeps the lock, the error is
/// of the kind `TimedOut` and names the holder.
pub(super) fn take(
    directory: &Directory,
    name: &str,
    mode: LockMode,
    limit: Duration,
) -> io::Result<Option<File>> {
    let access = if mode == LockMode::Shared { OFlag::O_RDONLY } else { OFlag::O_RDWR };
    let Some(file) = directory.file(name, access)? else { return Ok(None) };
    file_lock::lock_file(&file, mode, name, limit)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn take_waits_to_its_limit_and_needs_a_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lock"), "").unwrap();
        let directory = Directory::open(directory.path()).unwrap().unwrap();
        let held = take(&directory, "lock", LockMode::Exclusive, LIMIT).unwrap().unwrap();
        let now = Duration::ZERO;
        for mode in [LockMode::Shared, LockMode::Exclusive] {
            let error = take(&directory, "lock", mode, now).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        }
        drop(held);
        let shared = take(&directory, "lock", LockMode::Shared, now).unwrap();
        assert!(take(&directory, "lock", LockMode::Shared, now).unwrap().is_some());
        assert!(take(&directory, "lock", LockMode::Exclusive, now).is_err());
        drop(shared);
        assert!(take(&directory, "none", LockMode::Shared, now).unwrap().is_none());
    }
}
