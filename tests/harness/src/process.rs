//! A child process that ends with its test.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;
use parking_lot::{Condvar, Mutex};

use super::wait::{LIMIT, is_readable};

/// A running program and its stderr.
pub struct Process {
    name: String,
    child: Child,
    /// Signals go through it, so they cannot reach another process with the same pid.
    handle: OwnedFd,
    ended: Option<ExitStatus>,
    stderr: Arc<Captured>,
    reader: Option<JoinHandle<()>>,
}

/// The captured text.
#[derive(Default)]
struct Captured {
    text: Mutex<(String, bool)>,
    grew: Condvar,
}

impl Process {
    /// Starts `command` and captures its stderr.
    pub fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let handle = pidfd_open(child.id()).unwrap();
        let stderr = Arc::new(Captured::default());
        let (mut pipe, sink) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                sink.text.lock().0.push_str(&String::from_utf8_lossy(&buffer[..count]));
                sink.grew.notify_all();
            }
            sink.text.lock().1 = true;
            sink.grew.notify_all();
        });
        Self { name, child, handle, ended: None, stderr, reader: Some(reader) }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its other pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text.lock().0.clone()
    }

    /// Waits until stderr contains `words`.
    #[track_caller]
    pub fn await_stderr(&self, words: &str) {
        let start = Instant::now();
        let mut text = self.stderr.text.lock();
        while !text.0.contains(words) {
            let left = LIMIT.checked_sub(start.elapsed());
            let (Some(left), false) = (left, text.1) else {
                panic!("{} never wrote '{words}':\n{}", self.name, text.0);
            };
            self.stderr.grew.wait_for(&mut text, left);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).unwrap();
    }

    /// Whether it has ended within `limit`.
    pub fn has_ended_within(&mut self, limit: Duration) -> bool {
        if self.ended.is_none() && is_readable(&self.handle, limit) {
            self.ended = Some(self.child.wait().unwrap());
        }
        self.ended.is_some()
    }

    /// Waits for the end and for the rest of stderr.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        assert!(self.has_ended_within(LIMIT), "{} does not end:\n{}", self.name, self.stderr());
        // A grandchild may hold the pipe; its output is not awaited.
        if let Some(reader) = self.reader.take() {
            let mut text = self.stderr.text.lock();
            let limit = Duration::from_secs(2);
            self.stderr.grew.wait_while_for(&mut text, |text| !text.1, limit);
            drop(reader);
        }
        self.ended.unwrap()
    }

    /// Kills it, and waits.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::SIGKILL);
            self.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended already.
            let _ = pidfd_send_signal(&self.handle, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// The exit status; panics for an end by signal.
#[track_caller]
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by signal {:?}", status.signal()))
}

/// A descriptor of this process, which cannot refer to a later one with its pid.
#[expect(unsafe_code, reason = "nix has no pidfd_open")]
fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and returns a descriptor that has no other owner.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(unsafe_code, reason = "nix has no pidfd_send_signal")]
fn pidfd_send_signal(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and without a siginfo_t nothing is read.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as i32, null, 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
