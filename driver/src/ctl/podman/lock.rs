//! Podman's locks: POSIX locks on the whole of an empty file (storage's rawfilelock).
//!
//! A POSIX lock of our own would be dropped at the close of any descriptor of that file in this process, so ours
//! are open file description locks, which conflict with podman's all the same.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, major, minor};

use super::directory::Directory;
use crate::client::wait;

/// How long podman may hold a lock; it does while a driver works.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody writes meanwhile.
    Shared,
    /// Nobody reads meanwhile, either.
    Exclusive,
}

/// Takes a lock within `limit`; none, when there is no such file. A lock that another process keeps is an error
/// of the kind `TimedOut` that names the holder.
pub(super) fn take(
    directory: &Directory,
    name: &str,
    kind: Kind,
    limit: Duration,
) -> io::Result<Option<File>> {
    let access = if kind == Kind::Shared { OFlags::RDONLY } else { OFlags::RDWR };
    let Some(file) = directory.file(name, access)? else { return Ok(None) };
    let deadline = Instant::now() + limit;
    loop {
        match set(&file, kind) {
            Ok(()) => return Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if !is_held(&error) => return Err(error),
            Err(_) if Instant::now() < deadline => wait(LOOK),
            Err(_) => {
                let who = holder(&file).unwrap_or_else(|| "another process".into());
                let what = format!("{who} has held {name} for {} s", limit.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, what));
            }
        }
    }
}

fn is_held(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

#[expect(unsafe_code, reason = "rustix has no open file description locks")]
fn set(file: &File, kind: Kind) -> io::Result<()> {
    let kind = if kind == Kind::Shared { libc::F_RDLCK } else { libc::F_WRLCK };
    let number = |number: i32| libc::c_short::try_from(number).unwrap_or_default();
    let lock = libc::flock {
        l_type: number(kind),
        l_whence: number(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for the whole call, and fcntl reads one flock.
    let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if set == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Who holds a lock on the file, as far as /proc/locks tells.
fn holder(file: &File) -> Option<String> {
    let about = file.metadata().ok()?;
    let device = about.dev();
    let file = format!("{:02x}:{:02x}:{}", major(device), minor(device), about.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = pid_in(&locks, &file)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim_end()))
}

/// The pid in `1: POSIX ADVISORY WRITE 4242 00:2a:1234 0 EOF`; a line with `->` is of one that waits.
fn pid_in(locks: &str, file: &str) -> Option<u32> {
    let held = locks.lines().filter(|line| !line.contains("->"));
    let mut pids = held.filter_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let (pid, locked) = (words.next()?, words.next()?);
        // An open file description's lock has no pid.
        if locked == file { pid.parse().ok() } else { None }
    });
    pids.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_outlives_the_close_of_another_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        let directory = Directory::open(folder.path()).unwrap().unwrap();
        let held = take(&directory, "lock", Kind::Exclusive, LIMIT).unwrap().unwrap();
        drop(File::open(folder.path().join("lock")).unwrap());
        let now = Duration::ZERO;
        for kind in [Kind::Shared, Kind::Exclusive] {
            let error = take(&directory, "lock", kind, now).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        }
        drop(held);
        let shared = take(&directory, "lock", Kind::Shared, now).unwrap();
        assert!(take(&directory, "lock", Kind::Shared, now).unwrap().is_some());
        assert!(take(&directory, "lock", Kind::Exclusive, now).is_err());
        drop(shared);
        assert!(take(&directory, "none", Kind::Shared, now).unwrap().is_none());
    }

    /// As podman holds it.
    #[test]
    fn the_holder_of_a_posix_lock_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, "").unwrap();
        let directory = Directory::open(folder.path()).unwrap().unwrap();
        let theirs = File::options().write(true).open(&path).unwrap();
        rustix::fs::fcntl_lock(&theirs, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let error = take(&directory, "lock", Kind::Shared, Duration::ZERO).map(drop).unwrap_err();
        let words = error.to_string();
        let own = format!("process {} (", std::process::id());
        assert!(words.starts_with(&own) && words.ends_with("has held lock for 0 s"), "{words}");
    }

    #[test]
    fn the_holder_is_not_one_that_waits_nor_of_another_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 00:2a:99 0 EOF\n\
                     2: OFDLCK ADVISORY  READ  -1 00:2a:7 0 EOF\n\
                     3: POSIX  ADVISORY  WRITE 34 00:2a:7 0 EOF\n\
                     3: -> POSIX  ADVISORY  WRITE 56 00:2a:8 0 EOF\n";
        assert_eq!(pid_in(locks, "00:2a:7"), Some(34));
        assert_eq!(pid_in(locks, "00:2a:8"), None);
    }
}
