//! A key backend, a token or a provider in a process of its own (`tests/probes/src/bin`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::instance::Instance;
use super::process::Process;
use super::programs::program;
use super::token::Token;
use super::tpm::Tpm;

/// A running probe. Answers come in the order in which requests end.
pub struct Probe {
    process: Process,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    early: Vec<Value>,
    asked: u64,
}

impl Probe {
    /// The tpm backend, with its sealed key in this file.
    pub fn of_tpm(tpm: &Tpm, sealed: &Path) -> Self {
        let mut command = command(&json!({ "sealed": sealed }));
        command.env("SYSTEMD_TPM2_DEVICE", tpm.device());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Self::start(command)
    }

    /// Without key backend and token, for functions that need neither.
    pub fn without_backend() -> Self {
        Self::start(command(&json!({})))
    }

    /// The hsm backend with this token.
    pub fn of_token(token: &Token) -> Self {
        Self::with_tokens(token, &[token.setup()])
    }

    /// Several handles in one process, or a token with another config.
    pub fn with_tokens(token: &Token, setups: &[Value]) -> Self {
        let mut command = command(&json!({ "tokens": setups }));
        command.envs(token.environment());
        Self::start(command)
    }

    /// A provider of this instance's config (`tests/probes/src/bin/psi-provider.rs`), with these
    /// variables.
    pub fn of_provider(name: &str, instance: &Instance, variables: &[(&str, PathBuf)]) -> Self {
        let mut command = Command::new(program("psi-provider"));
        command.arg(name).arg(instance.config()).arg(instance.credentials());
        command.env_clear().envs(variables.iter().cloned()).current_dir("/");
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(command);
        let requests = process.child().stdin.take().unwrap();
        let answers = BufReader::new(process.child().stdout.take().unwrap());
        Self { process, requests, answers, early: Vec::new(), asked: 0 }
    }

    /// Makes a request; returns its number for [`Self::answer_to`].
    pub fn begin(&mut self, mut request: Value) -> u64 {
        self.asked += 1;
        request["id"] = self.asked.into();
        self.requests.write_all(format!("{request}\n").as_bytes()).unwrap();
        self.asked
    }

    /// Waits for an answer.
    #[track_caller]
    pub fn answer_to(&mut self, request: u64) -> Value {
        loop {
            if let Some(at) = self.early.iter().position(|answer| answer["id"] == request) {
                return self.early.swap_remove(at);
            }
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "the probe ended:\n{}", self.process.stderr());
            self.early.push(serde_json::from_str(&line).unwrap());
        }
    }

    /// Makes a request and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, request: Value) -> Value {
        let request = self.begin(request);
        self.answer_to(request)
    }

    /// The same for a request that must succeed.
    #[track_caller]
    pub fn ok(&mut self, request: Value) -> Value {
        let answer = self.ask(request);
        assert!(answer["error"].is_null(), "{answer}");
        answer
    }

    /// The same for a request that must fail; returns its message, one line with a remedy, after
    /// its kind for tokens.
    #[track_caller]
    pub fn fails(&mut self, request: Value) -> String {
        let answer = self.ask(request);
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(!error.contains('\n') && error.contains("; "), "{error}");
        answer["kind"].as_str().map_or_else(|| error.to_owned(), |kind| format!("{kind}: {error}"))
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }
}

fn command(setup: &Value) -> Command {
    let mut command = Command::new(program("psi-probe"));
    command.arg(setup.to_string()).env_clear().current_dir("/");
    command
}

/// Bytes in the form that probes use.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The bytes of an answer's member.
#[track_caller]
pub fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap_or_else(|| panic!("no hex: {hex}"));
    HEXLOWER.decode(digits.as_bytes()).unwrap()
}
