//! The process at the other end of a unix socket, and its systemd unit.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, LazyLock, OnceLock};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use parking_lot::Mutex;

use super::cgroup_id::cgroup_id;
use super::unit_of_cgroup::{is_of_unified, unit_of_cgroup};

/// The longest `/proc/PID/cgroup` that is read: a path and the lines of version 1's hierarchies.
const MAX_CGROUP: usize = 4_096;
/// Control groups whose units are known. Beyond it all are forgotten, and read again.
const MAX_KNOWN: usize = 1_024;

/// The units of control groups by the groups' ids, which are the host's.
static KNOWN_UNITS: LazyLock<Mutex<HashMap<u64, Unit>>> = LazyLock::new(Mutex::default);

/// A unit; none for a process that is in none.
type Unit = Option<Arc<str>>;

/// The process that connected. Its unit is a hint for people: a process may fork, and hand its connection on.
pub(crate) struct PeerProcess {
    pid: Option<i32>,
    handle: Handle,
    /// Read once, at the first call that needs it.
    unit: OnceLock<Unit>,
}

/// What keeps the pid from naming another process.
enum Handle {
    /// The process itself: once it has ended, its pid may be another one's.
    PidFd(OwnedFd),
    /// A kernel before 6.5 has no such handle.
    Unsupported,
    /// The process has ended.
    Gone,
}

impl PeerProcess {
    /// The peer of a socket; `pid` is the one of its credentials, if it is visible in this pid namespace.
    pub(crate) fn of(socket: &impl AsFd, pid: Option<i32>) -> Self {
        let handle = match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Handle::PidFd(pidfd),
            Err(Errno::ENOPROTOOPT) => Handle::Unsupported,
            Err(_) => Handle::Gone,
        };
        Self { pid: pid.filter(|pid| *pid > 0), handle, unit: OnceLock::new() }
    }

    /// The unit in whose control group the process is. None if it is in none, has ended, or may not be read.
    pub(crate) fn unit(&self) -> Unit {
        self.unit.get_or_init(|| self.read_unit()).clone()
    }

    fn read_unit(&self) -> Unit {
        let pid = self.pid?;
        let pidfd = match &self.handle {
            Handle::PidFd(pidfd) => pidfd,
            Handle::Unsupported => return unit_of(&read_cgroup(pid)?),
            Handle::Gone => return None,
        };
        let group = cgroup_id(pidfd);
        if let Some(known) = group.and_then(|group| KNOWN_UNITS.lock().get(&group).cloned()) {
            return known;
        }
        let text = read_cgroup(pid)?;
        // The pid named the process while the file was read only if the process is still there.
        if has_ended(pidfd) {
            return None;
        }
        let unit = unit_of(&text);
        // Not if the process moved meanwhile.
        if group == cgroup_id(pidfd) && is_of_unified(&text) {
            note(group, &unit);
        }
        unit
    }
}

fn note(group: Option<u64>, unit: &Unit) {
    let Some(group) = group else { return };
    let mut known = KNOWN_UNITS.lock();
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(group, unit.clone());
}

fn unit_of(text: &str) -> Unit {
    unit_of_cgroup(text).map(Arc::from)
}

/// By one read: procfs writes the whole text at once.
fn read_cgroup(pid: i32) -> Option<String> {
    let mut buffer = [0; MAX_CGROUP];
    let count = File::open(format!("/proc/{pid}/cgroup")).ok()?.read(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..count]).ok().map(str::to_owned)
}

/// A pidfd becomes readable when its process ends.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut polled, PollTimeout::ZERO), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that is connected to the socket, and its end of the connection.
    fn client(listener: &UnixListener, path: &std::path::Path) -> (Child, UnixStream) {
        const CONNECT: &str = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n\
                               s.connect(sys.argv[1])\nsys.stdin.read()\n";
        let mut python = Command::new("python3");
        python.args(["-c", CONNECT]).arg(path).stdin(Stdio::piped());
        let child = python.spawn().unwrap();
        (child, listener.accept().unwrap().0)
    }

    fn pid_of(socket: &UnixStream) -> i32 {
        getsockopt(socket, sockopt::PeerCredentials).unwrap().pid()
    }

    #[test]
    fn unit_of_this_process_is_what_its_cgroup_says() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let process = PeerProcess::of(&ours, Some(pid_of(&ours)));
        assert_eq!(process.unit().as_deref(), unit_of_cgroup(&own).as_deref());
    }

    /// The group's id finds the unit of a later process of the same group.
    #[test]
    fn known_group_is_not_read_again_and_few_are_known() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let process = PeerProcess::of(&ours, Some(pid_of(&ours)));
        let Handle::PidFd(pidfd) = &process.handle else { panic!("the kernel is older than 6.5") };
        let group = cgroup_id(pidfd).expect("the kernel is older than 6.13");
        let text = read_cgroup(pid_of(&ours)).unwrap();
        assert_eq!(process.read_unit(), unit_of(&text));
        let known = KNOWN_UNITS.lock().get(&group).cloned();
        assert_eq!(known, is_of_unified(&text).then(|| unit_of(&text)));
        for group in 0..3 * MAX_KNOWN as u64 {
            note(Some(u64::MAX - group), &None);
        }
        assert!(KNOWN_UNITS.lock().len() <= MAX_KNOWN);
    }

    /// A reused pid names nobody else: once the process has ended, its pid is not looked at.
    #[test]
    fn ended_process_has_no_unit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (mut child, socket) = client(&listener, &path);
        let process = PeerProcess::of(&socket, Some(pid_of(&socket)));
        let Handle::PidFd(pidfd) = &process.handle else { panic!("the kernel is older than 6.5") };
        assert!(!has_ended(pidfd));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(has_ended(pidfd));
        // As if the pid were another process's by now.
        let reused = PeerProcess { pid: Some(1), ..process };
        assert_eq!(reused.read_unit(), None);
    }

    #[test]
    fn process_of_another_namespace_or_a_closed_proc_has_no_unit() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        for pid in [None, Some(0), Some(i32::MAX)] {
            assert_eq!(PeerProcess::of(&ours, pid).unit(), None, "{pid:?}");
        }
    }
}
