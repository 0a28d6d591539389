//! A child that never outlives its test.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::wait::LIMIT;

/// A running program and what it writes to stderr.
pub struct Process {
    name: String,
    child: Child,
    /// Signals go through it: it cannot mean another process that got the same pid.
    handle: OwnedFd,
    ended: Option<ExitStatus>,
    stderr: Arc<Captured>,
    reader: Option<JoinHandle<()>>,
}

/// What was written so far.
#[derive(Default)]
struct Captured {
    text: Mutex<(String, bool)>,
    grew: Condvar,
}

impl Process {
    /// Starts `command`; its stderr is captured.
    pub fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let stderr = Arc::new(Captured::default());
        let (mut pipe, sink) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                sink.text.lock().unwrap().0.push_str(&String::from_utf8_lossy(&buffer[..count]));
                sink.grew.notify_all();
            }
            sink.text.lock().unwrap().1 = true;
            sink.grew.notify_all();
        });
        Self { name, child, handle, ended: None, stderr, reader: Some(reader) }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's other pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text.lock().unwrap().0.clone()
    }

    /// Waits until stderr holds `words`.
    #[track_caller]
    pub fn await_stderr(&self, words: &str) {
        let start = Instant::now();
        let mut text = self.stderr.text.lock().unwrap();
        while !text.0.contains(words) {
            let left = LIMIT.checked_sub(start.elapsed());
            let (Some(left), false) = (left, text.1) else {
                panic!("{} never wrote '{words}':\n{}", self.name, text.0);
            };
            text = self.stderr.grew.wait_timeout(text, left).unwrap().0;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).unwrap();
    }

    /// Whether it has ended within `limit`.
    pub fn has_ended_within(&mut self, limit: Duration) -> bool {
        if self.ended.is_none() {
            let limit = Timespec::try_from(limit).unwrap();
            let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
            if poll(&mut fds, Some(&limit)).unwrap() > 0 {
                self.ended = Some(self.child.wait().unwrap());
            }
        }
        self.ended.is_some()
    }

    /// Waits for the end, and for the last of stderr.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        assert!(self.has_ended_within(LIMIT), "{} does not end:\n{}", self.name, self.stderr());
        // A grandchild may hold the pipe; what it writes is not waited for.
        if let Some(reader) = self.reader.take() {
            let done = self.stderr.text.lock().unwrap();
            let limit = Duration::from_secs(2);
            let waited = self.stderr.grew.wait_timeout_while(done, limit, |text| !text.1).unwrap();
            drop(waited);
            drop(reader);
        }
        self.ended.unwrap()
    }

    /// Kills it, and waits.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            self.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Already gone is as good.
            let _ = pidfd_send_signal(&self.handle, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The exit code; a panic for an end by signal.
#[track_caller]
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by signal {:?}", status.signal()))
}
