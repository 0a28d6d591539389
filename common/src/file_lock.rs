//! Locks on files and directories, waited for up to a deadline.
//!
//! A file is locked by an open file description lock (fcntl(2)). It conflicts with the POSIX locks that other
//! programs take, podman among them; unlike those, it is not dropped when this process closes another
//! descriptor of the same file. A directory cannot be opened for writing, which an exclusive lock of fcntl(2)
//! requires, so it is locked by flock(2), whose locks belong to the open file description as well.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;
use nix::sys::stat::{major, minor};

/// The pause before a lock that is held is tried again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The number of times that /proc/locks is read for the holder of a lock.
const LOOKS: usize = 3;

/// The other locks that a lock allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Shared locks only.
    Shared,
    /// None.
    Exclusive,
}

/// Locks the whole of a file within `limit`. The lock lasts until the file is closed.
///
/// If another process holds the lock at the deadline, the error is of the kind `TimedOut` and names the holder;
/// `name` is the file's name in that message.
pub fn lock_file(file: &File, mode: LockMode, name: &str, limit: Duration) -> io::Result<()> {
    let lock = whole_file(mode);
    poll(limit, || fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop))?
        .ok_or_else(|| timed_out(file, name, limit))
}

/// Locks a directory exclusively within `limit`, against others that lock it the same way.
pub fn lock_directory(directory: File, limit: Duration) -> io::Result<Flock<File>> {
    let mut unlocked = Some(directory);
    let locked = poll(limit, || {
        let directory = unlocked.take().ok_or(Errno::EBADF)?;
        Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(directory, error)| {
            unlocked = Some(directory);
            error
        })
    })?;
    match (locked, unlocked) {
        (Some(locked), _) => Ok(locked),
        (None, Some(directory)) => Err(timed_out(&directory, "the lock", limit)),
        (None, None) => Err(ErrorKind::TimedOut.into()),
    }
}

/// Tries until it works or the deadline is over; `None` if the lock is still held then.
fn poll<T>(limit: Duration, mut attempt: impl FnMut() -> nix::Result<T>) -> io::Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(locked) => return Ok(Some(locked)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < deadline => pause(),
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a wait for a lock has no deadline of its own")]
fn pause() {
    std::thread::sleep(POLL_INTERVAL);
}

/// `libc::flock` is the type that nix's fcntl takes.
fn whole_file(mode: LockMode) -> libc::flock {
    let kind = match mode {
        LockMode::Shared => libc::F_RDLCK,
        LockMode::Exclusive => libc::F_WRLCK,
    };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn timed_out(file: &File, name: &str, limit: Duration) -> io::Error {
    let holder = holder(file).unwrap_or_else(|| "another process".into());
    let what = format!("{holder} has held {name} for {} s", limit.as_secs());
    io::Error::new(ErrorKind::TimedOut, what)
}

/// The process that holds a lock on the file, if /proc/locks names it.
fn holder(file: &File) -> Option<String> {
    let about = file.metadata().ok()?;
    let device = about.dev();
    let file = format!("{:02x}:{:02x}:{}", major(device), minor(device), about.ino());
    let pid = (0..LOOKS).find_map(|_| pid_of_holder(&locks()?, &file))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim_end()))
}

/// The text of /proc/locks. Each read(2) of it continues at the line number that the one before reached, so a lock
/// that is dropped in between hides another one. A buffer that takes the whole avoids the short first read of
/// `fs::read_to_string`; the kernel returns at most a page at a time, hence the `LOOKS`.
fn locks() -> Option<String> {
    let mut locks = String::with_capacity(64 * 1024);
    File::open("/proc/locks").ok()?.read_to_string(&mut locks).ok()?;
    Some(locks)
}

/// The pid in `1: POSIX ADVISORY WRITE 4242 00:2a:1234 0 EOF`; a line with `->` is of a process that waits.
fn pid_of_holder(locks: &str, file: &str) -> Option<u32> {
    let held = locks.lines().filter(|line| !line.contains("->"));
    let mut pids = held.filter_map(|line| {
        let mut fields = line.split_whitespace().skip(4);
        let (pid, locked) = (fields.next()?, fields.next()?);
        // An open file description lock has no pid.
        if locked == file { pid.parse().ok() } else { None }
    });
    pids.next()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;

    fn open(path: &Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    fn is_held(path: &Path, mode: LockMode) -> bool {
        let locked = lock_file(&open(path), mode, "lock", Duration::ZERO);
        locked.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
    }

    #[test]
    fn lock_outlives_the_close_of_another_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let exclusive = open(&path);
        lock_file(&exclusive, LockMode::Exclusive, "lock", Duration::ZERO).unwrap();
        drop(open(&path));
        assert!(is_held(&path, LockMode::Shared) && is_held(&path, LockMode::Exclusive));
        drop(exclusive);
        let shared = open(&path);
        lock_file(&shared, LockMode::Shared, "lock", Duration::ZERO).unwrap();
        assert!(!is_held(&path, LockMode::Shared) && is_held(&path, LockMode::Exclusive));
    }

    #[test]
    fn lock_waits_for_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = open(&path);
        lock_file(&held, LockMode::Exclusive, "lock", Duration::ZERO).unwrap();
        let waiter = open(&path);
        let (locked, result) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let limit = Duration::from_secs(60);
            locked.send(lock_file(&waiter, LockMode::Shared, "lock", limit)).unwrap();
        });
        assert!(result.recv_timeout(POLL_INTERVAL * 3).is_err(), "the lock is held");
        drop(held);
        result.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
        thread.join().unwrap();
    }

    /// Podman takes POSIX locks.
    #[test]
    fn lock_times_out_and_names_the_holder_of_a_posix_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let podman = open(&path);
        fcntl(&podman, FcntlArg::F_SETLK(&whole_file(LockMode::Exclusive))).unwrap();
        let limit = Duration::from_millis(50);
        let begin = Instant::now();
        let error = lock_file(&open(&path), LockMode::Shared, "lock", limit).unwrap_err();
        assert!(begin.elapsed() >= limit && error.kind() == ErrorKind::TimedOut);
        let message = error.to_string();
        let holder = format!("process {} (", std::process::id());
        assert!(
            message.starts_with(&holder) && message.ends_with("has held lock for 0 s"),
            "{message}"
        );
    }

    #[test]
    fn directory_is_locked_by_one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::open(directory.path()).unwrap();
        let held = lock_directory(open(), Duration::ZERO).unwrap();
        let error = lock_directory(open(), Duration::ZERO).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())));
        drop(held);
        lock_directory(open(), Duration::ZERO).unwrap();
    }

    #[test]
    fn holder_is_neither_a_waiting_process_nor_one_of_another_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 00:2a:99 0 EOF\n\
                     2: OFDLCK ADVISORY  READ  -1 00:2a:7 0 EOF\n\
                     3: POSIX  ADVISORY  WRITE 34 00:2a:7 0 EOF\n\
                     3: -> POSIX  ADVISORY  WRITE 56 00:2a:8 0 EOF\n";
        assert_eq!(pid_of_holder(locks, "00:2a:7"), Some(34));
        assert_eq!(pid_of_holder(locks, "00:2a:8"), None);
    }
}
