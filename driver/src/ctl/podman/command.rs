//! By the `podman` command.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use psi_common::{Exit, SecretBytes};
use serde_json::Value;

use super::strange;
use crate::error::CliError;

/// How many are named in one call: an argument list has its limit.
const AT_ONCE: usize = 2_000;

/// A podman at work.
pub(crate) struct Running(Child);

impl Running {
    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<(), CliError> {
        let output = self.0.wait_with_output().map_err(|cause| not_run(&cause))?;
        checked(output).map(|_| ())
    }
}

/// Every secret: their ids, then all in one call.
pub(super) fn secrets() -> Result<Vec<Value>, CliError> {
    let ids = text(&podman(["secret", "ls", "--quiet"], b"")?);
    inspect("secret", &ids)
}

/// Every container, likewise.
pub(super) fn containers() -> Result<Vec<Value>, CliError> {
    let ids = text(&podman(["ps", "--all", "--quiet", "--no-trunc"], b"")?);
    inspect("container", &ids)
}

pub(super) fn info() -> Result<Value, CliError> {
    json(&podman(["info", "--format", "json"], b"")?)
}

/// Starts to make a secret with psi as its driver and these commands, whatever podman's config says.
pub(crate) fn create(
    name: &str,
    data: &SecretBytes,
    options: &BTreeMap<String, String>,
) -> Result<Running, CliError> {
    let mut args = vec!["secret".to_owned(), "create".into(), "--driver".into(), "shell".into()];
    for (verb, command) in options {
        args.extend(["--driver-opts".into(), format!("{verb}={command}")]);
    }
    args.extend(["--".into(), name.into(), "-".into()]);
    start(&args, data.expose_secret()).map(Running)
}

/// Removes a secret, by its name or id.
pub(crate) fn remove(name: &str) -> Result<(), CliError> {
    podman(["secret", "rm", "--", name], b"").map(|_| ())
}

fn inspect(kind: &str, ids: &str) -> Result<Vec<Value>, CliError> {
    let ids: Vec<&str> = ids.lines().map(str::trim).filter(|id| !id.is_empty()).collect();
    let mut all = Vec::with_capacity(ids.len());
    for ids in ids.chunks(AT_ONCE) {
        let mut args = vec![kind, "inspect"];
        args.extend(ids);
        // One that was removed meanwhile makes podman fail, once it has told of the others.
        let output = run(&args, b"")?;
        let told = match json(&output.stdout) {
            Ok(told) => told,
            Err(_) => json(&checked(output)?)?,
        };
        let Value::Array(told) = told else { return Err(strange(&told)) };
        all.extend(told);
    }
    Ok(all)
}

/// Podman's stdout; its stderr is why it failed.
fn podman<S: AsRef<OsStr>>(
    args: impl IntoIterator<Item = S>,
    stdin: &[u8],
) -> Result<Vec<u8>, CliError> {
    let args: Vec<S> = args.into_iter().collect();
    checked(run(&args, stdin)?)
}

fn run<S: AsRef<OsStr>>(args: &[S], stdin: &[u8]) -> Result<Output, CliError> {
    start(args, stdin)?.wait_with_output().map_err(|cause| not_run(&cause))
}

fn not_run(cause: &std::io::Error) -> CliError {
    CliError::io("running podman", cause, "install podman, or set PATH")
}

fn start<S: AsRef<OsStr>>(args: &[S], stdin: &[u8]) -> Result<Child, CliError> {
    let mut command = Command::new("podman");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|cause| not_run(&cause))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A podman that does not read it says why on stderr.
        let _ = pipe.write_all(stdin);
    }
    Ok(child)
}

fn checked(output: Output) -> Result<Vec<u8>, CliError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = text(&output.stderr);
    let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let why = match words.is_empty() {
        true => output.status.to_string(),
        false => words.join(" · "),
    };
    Err(CliError::without_remedy(Exit::Io, format!("podman: {why}")))
}

fn json(bytes: &[u8]) -> Result<Value, CliError> {
    serde_json::from_slice(bytes).map_err(|_| strange(&Value::from(text(bytes))))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
