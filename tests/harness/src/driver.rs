//! One call of psi-driver or psictl, with exactly the given environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::instance::Instance;
use super::process::{Process, code};
use super::programs::{copy_program, program};

/// A call that is not made yet.
#[derive(Clone)]
pub struct Driver {
    program: PathBuf,
    args: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    stdin: Vec<u8>,
    user: Option<(u32, u32)>,
}

/// The result of a call.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status.
    pub code: i32,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: String,
}

impl Outcome {
    /// All of stdout, as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Driver {
    pub(crate) fn new(instance: &Instance, args: &[&str]) -> Self {
        let driver = Self {
            program: program(program_of(args)),
            args: args.iter().map(OsString::from).collect(),
            environment: BTreeMap::new(),
            stdin: Vec::new(),
            user: None,
        };
        driver
            .env("PSI_SOCKET", instance.socket())
            .env("PSI_RUN_DIR", instance.run_directory())
            .env("PSI_CONFIG", instance.config())
            .env("PSI_STATE_DIR", instance.state())
    }

    /// Runs this program in place of the command's own.
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Sets `SECRET_ID`.
    pub fn id(self, id: impl AsRef<OsStr>) -> Self {
        self.env("SECRET_ID", id)
    }

    /// Adds a variable; the environment has no other ones.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.into(), value.as_ref().into());
        self
    }

    /// Removes a variable.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(OsStr::new(name));
        self
    }

    /// Writes these bytes to stdin.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// Runs as another user, from a copy of the program that this user can execute, at the users' socket if there is one.
    pub fn user(mut self, instance: &Instance, uid: u32, gid: u32) -> Self {
        let name = self.program.file_name().and_then(OsStr::to_str).unwrap();
        let copy = instance.run().join(name);
        if !copy.exists() {
            copy_program(name, &copy);
        }
        self.program = copy;
        self.user = Some((uid, gid));
        match instance.users_socket() {
            socket if socket.exists() => self.env("PSI_SOCKET", socket),
            _ => self,
        }
    }

    /// The command, for a test that sets up its streams itself.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.environment).current_dir("/");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// The same call from a shell: `script` has it as `"$@"`.
    pub fn through_shell(&self, script: &str) -> Outcome {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(&self.program).args(&self.args);
        command.env_clear().envs(&self.environment).current_dir("/");
        run(command, &self.stdin)
    }

    /// Makes the call and waits for its end.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        run(self.command(), &self.stdin)
    }

    /// Makes the call, which must succeed with an empty stderr; returns its stdout.
    #[track_caller]
    pub fn ok(&self) -> Vec<u8> {
        let outcome = self.run();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{:?}", self.args);
        outcome.stdout
    }

    /// The same as text.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.ok()).unwrap()
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.ok()).unwrap()
    }

    /// Makes a call that reports, with exit status 0, or 1 for findings; returns its stdout.
    #[track_caller]
    pub fn report(&self) -> String {
        let outcome = self.run();
        assert!(matches!(outcome.code, 0 | 1), "{:?}: {outcome:?}", self.args);
        assert_eq!(outcome.stderr, "", "{:?}", self.args);
        String::from_utf8(outcome.stdout).unwrap()
    }

    /// The same as JSON.
    #[track_caller]
    pub fn report_json(&self) -> Value {
        serde_json::from_str(&self.report()).unwrap()
    }

    /// Makes the call, which must fail with this exit status, one line on stderr, and an empty
    /// stdout. Returns the line without its end.
    #[track_caller]
    pub fn fails(&self, code: i32) -> String {
        let outcome = self.run();
        let Outcome { stdout, stderr, .. } = &outcome;
        assert_eq!(outcome.code, code, "{:?}: {stderr}", self.args);
        assert_eq!(String::from_utf8_lossy(stdout), "", "{:?}", self.args);
        one_line(stderr)
    }
}

/// The program of a command: psi-driver for what podman and scripts run.
fn program_of(args: &[&str]) -> &'static str {
    const VERBS: [&str; 6] = ["lookup", "store", "delete", "list", "get", "health"];
    match args.first() {
        Some(verb) if VERBS.contains(verb) => "psi-driver",
        _ => "psictl",
    }
}

/// Asserts that stderr is one line that begins with the program's name.
#[track_caller]
pub fn one_line(stderr: &str) -> String {
    let line = stderr.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {stderr:?}"));
    assert!(!line.contains(['\n', '\r']), "more than one line: {stderr:?}");
    let programs = ["psi-driver: ", "psictl: ", "psid: "];
    assert!(programs.iter().any(|program| line.starts_with(program)), "{line}");
    line.to_owned()
}

/// Runs a program until it ends, with these bytes on its stdin.
#[track_caller]
pub fn run(mut command: Command, stdin: &[u8]) -> Outcome {
    let (reader, mut writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read its stdin leaves a broken pipe.
            let _ = writer.write_all(stdin);
        });
        finish(command)
    })
}

/// Runs a program until it ends; the caller writes its stdin.
#[track_caller]
pub(crate) fn finish(mut command: Command) -> Outcome {
    command.stdout(Stdio::piped());
    let mut process = Process::start(command);
    let mut output = process.child().stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut stdout = Vec::new();
        output.read_to_end(&mut stdout).map(|_| stdout)
    });
    let status = process.wait();
    let stdout = reader.join().unwrap().unwrap();
    Outcome { code: code(status), stdout, stderr: process.stderr() }
}
