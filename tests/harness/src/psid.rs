//! A running psid; it is ready when it notifies its service manager, which the harness imitates.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::driver::{self, Driver, Outcome};
use super::instance::Instance;
use super::process::{Process, code};
use super::programs::program;
use super::wait::{LIMIT, eventually, is_readable};

/// A psid that is not started yet.
pub struct Start {
    environment: BTreeMap<OsString, OsString>,
    args: Vec<String>,
    program: OsString,
    notify: UnixDatagram,
    status: Driver,
    sockets: Vec<OwnedFd>,
}

/// A psid that is ready.
pub struct Psid {
    /// The process.
    pub process: Process,
    notify: UnixDatagram,
    notifications: Vec<String>,
    status: Driver,
}

impl Start {
    pub(crate) fn new(instance: &Instance) -> Self {
        let address = instance.run().join("notify.sock");
        // psids run one after the other: the address of the last one is free again.
        let _ = std::fs::remove_file(&address);
        let start = Self {
            environment: BTreeMap::new(),
            args: ["--log-format", "text", "--log-level", "debug"].map(String::from).to_vec(),
            program: program("psid").into(),
            notify: bind(&address),
            status: instance.driver(&["cache", "status", "--json"]),
            sockets: Vec::new(),
        };
        start
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PSI_CONFIG", instance.config())
            .env("PSI_STATE_DIR", instance.state())
            .env("PSI_SOCKET", instance.socket())
            .env("PSI_RUN_DIR", instance.run_directory())
            .env("CREDENTIALS_DIRECTORY", instance.credentials())
            .env("NOTIFY_SOCKET", address)
    }

    /// Adds a variable; psid gets only those named here.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().into());
        self
    }

    /// Without a variable.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(OsStr::new(name));
        self
    }

    /// Uses other arguments than those for the log.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(ToString::to_string).collect();
        self
    }

    /// Runs psid through another program, which must run it at its end.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        let mut args: Vec<String> = wrapper[1..].iter().map(ToString::to_string).collect();
        args.push(self.program.to_string_lossy().into_owned());
        args.append(&mut self.args);
        self.args = args;
        self.program = wrapper[0].into();
        self
    }

    /// Uses another file of the program.
    pub fn with_program(mut self, path: &Path) -> Self {
        self.program = path.into();
        self
    }

    /// Passes a listening socket as the service manager does, as the first descriptor.
    pub fn activated_by(mut self, socket: &impl AsFd) -> Self {
        self.sockets = vec![socket.as_fd().try_clone_to_owned().unwrap()];
        // The shell gets the descriptor as its stdin and becomes psid.
        self.through(&["/bin/sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&0 <&-", "sh"])
    }

    /// Passes two listening sockets, with these names (`LISTEN_FDNAMES`).
    pub fn activated_by_both(mut self, sockets: [&dyn AsFd; 2], names: &str) -> Self {
        self.sockets = sockets.map(|one| one.as_fd().try_clone_to_owned().unwrap()).into();
        // The shell gets the second one as its stdout.
        let script = format!(
            "LISTEN_FDS=2 LISTEN_FDNAMES={names} LISTEN_PID=$$ exec \"$@\" 3<&0 4<&1 <&- >/dev/null"
        );
        self.through(&["/bin/sh", "-c", &script, "sh"])
    }

    /// Passes the admin's and the users' socket, as psid.socket and psid-users.socket do. Every user can connect to
    /// both, so that psid alone refuses.
    pub fn with_users_socket(self, instance: &Instance) -> Self {
        let [admin, users] = [instance.socket(), instance.users_socket()].map(|path| {
            let _ = std::fs::remove_file(&path);
            let socket = UnixListener::bind(&path).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
            socket
        });
        self.activated_by_both([&admin, &users], "admin:users")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.environment).current_dir("/");
        let mut streams = self.sockets.iter().map(|one| Stdio::from(one.try_clone().unwrap()));
        command.stdin(streams.next().unwrap_or_else(Stdio::null));
        if let Some(second) = streams.next() {
            command.stdout(second);
        }
        command
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Psid {
        let mut psid = self.launch();
        psid.await_notification("READY=1");
        psid
    }

    /// Starts it.
    pub fn launch(self) -> Psid {
        let mut command = self.command();
        if self.sockets.len() < 2 {
            command.stdout(Stdio::null());
        }
        let process = Process::start(command);
        Psid { process, notify: self.notify, notifications: Vec::new(), status: self.status }
    }

    /// Runs it until it ends.
    #[track_caller]
    pub fn run(self) -> Outcome {
        driver::finish(self.command())
    }

    /// Runs it until it fails with this exit status; returns the last line of its stderr.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        let Outcome { code: found, stdout, stderr } = self.run();
        assert_eq!((found, stdout.len()), (code, 0), "{stderr}");
        let last = stderr.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("psid: "), "{stderr}");
        last
    }
}

impl Psid {
    /// Waits for a notification with the line `line`; returns all its lines. Each notification is
    /// found once.
    #[track_caller]
    pub fn await_notification(&mut self, line: &str) -> Vec<String> {
        let start = Instant::now();
        loop {
            if let Some(at) =
                self.notifications.iter().position(|sent| sent.lines().any(|l| l == line))
            {
                let message = self.notifications.drain(..=at).next_back().unwrap();
                return message.lines().map(str::to_owned).collect();
            }
            let Some(left) = LIMIT.checked_sub(start.elapsed()) else {
                panic!("psid never sent {line}:\n{}", self.log());
            };
            assert!(self.receive(left), "psid ended:\n{}", self.process.stderr());
        }
    }

    /// Whether it sends a notification with the line `line` within `limit`.
    pub fn notifies_within(&mut self, line: &str, limit: Duration) -> bool {
        let start = Instant::now();
        loop {
            if self.notifications.iter().any(|sent| sent.lines().any(|found| found == line)) {
                return true;
            }
            match limit.checked_sub(start.elapsed()) {
                Some(left) if self.receive(left) => {}
                _ => return false,
            }
        }
    }

    /// Waits for a status text with these words; the text.
    #[track_caller]
    pub fn await_status(&mut self, words: &str) -> String {
        let start = Instant::now();
        loop {
            let texts = self.notifications.iter().flat_map(|sent| sent.lines());
            let mut texts = texts.filter_map(|line| line.strip_prefix("STATUS="));
            if let Some(text) = texts.find(|text| text.contains(words)) {
                return text.to_owned();
            }
            let left = LIMIT.checked_sub(start.elapsed());
            let is_received = left.is_some_and(|left| self.receive(left));
            assert!(is_received, "psid never sent '{words}':\n{}", self.log());
        }
    }

    /// Waits for its end; the exit status.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        code(self.process.wait())
    }

    /// Waits until it is ready; false if it ended instead.
    #[track_caller]
    pub fn becomes_ready(&mut self) -> bool {
        while !self.notifications.iter().any(|sent| sent.lines().any(|line| line == "READY=1")) {
            if !self.receive(LIMIT) {
                return false;
            }
        }
        true
    }

    /// Receives the next notification if one comes within `limit`; false if psid ended instead.
    fn receive(&mut self, limit: Duration) -> bool {
        self.notify.set_nonblocking(true).unwrap();
        // In short turns, to notice the end of the process.
        if is_readable(&self.notify, limit.min(Duration::from_millis(100))) {
            let mut buffer = [0; 4096];
            let count = self.notify.recv(&mut buffer).unwrap();
            self.notifications.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
            return true;
        }
        !self.process.has_ended_within(Duration::ZERO)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Waits until the log contains these words.
    #[track_caller]
    pub fn await_log(&self, words: &str) {
        self.process.await_stderr(words);
    }

    /// `psictl cache status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.status.report_json()
    }

    /// The reasons of its degradation, in one text.
    #[track_caller]
    pub fn degraded(&self) -> String {
        let status = self.status();
        let reasons = status["degraded"].as_array().unwrap().iter();
        reasons.map(|reason| reason.as_str().unwrap()).collect::<Vec<_>>().join("\n")
    }

    /// Waits for a later generation of `cache.enc` on disk, and returns it.
    #[track_caller]
    pub fn await_generation_after(&self, generation: u64) -> u64 {
        eventually("the cache to be written", || {
            let now = self.status()["generation"].as_u64().unwrap();
            (now > generation).then_some(now)
        })
    }

    /// The generation on disk.
    #[track_caller]
    pub fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().unwrap()
    }

    /// Sends SIGTERM and waits for a clean end.
    #[track_caller]
    pub fn terminate(mut self) -> String {
        self.end_by(Signal::SIGTERM)
    }

    /// Sends SIGINT and waits for a clean end.
    #[track_caller]
    pub fn interrupt(mut self) -> String {
        self.end_by(Signal::SIGINT)
    }

    #[track_caller]
    fn end_by(&mut self, signal: Signal) -> String {
        self.process.signal(signal);
        let status = self.process.wait();
        assert_eq!(code(status), 0, "{}", self.log());
        self.log()
    }

    /// Sends SIGKILL, as in a crash or by the OOM killer.
    pub fn crash(mut self) {
        self.process.kill();
    }

    /// Sends SIGHUP and waits until psid is ready again.
    #[track_caller]
    pub fn reload(&mut self) {
        self.process.signal(Signal::SIGHUP);
        self.await_notification("RELOADING=1");
        self.await_notification("READY=1");
    }
}

/// A notify socket that a psid of any user may write to.
fn bind(address: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(address).unwrap();
    std::fs::set_permissions(address, Permissions::from_mode(0o666)).unwrap();
    socket
}

/// A file of the directory that contains these bytes.
pub fn directory_holds(directory: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            if let Some(found) = directory_holds(&path, needle) {
                return Some(found);
            }
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                return Some(path);
            }
        }
    }
    None
}
