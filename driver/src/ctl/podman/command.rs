//! Calls of the `podman` command.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use psi_common::{Exit, SecretBytes};
use serde_json::Value;

use super::unrecognized;
use crate::error::CliError;

/// Names in one call: the length of an argument list is limited.
const MAX_NAMES: usize = 2_000;

/// A podman that runs.
pub(crate) struct Running(Child);

impl Running {
    /// Waits until it ends.
    pub(crate) fn finish(self) -> Result<(), CliError> {
        let output = self.0.wait_with_output().map_err(|cause| not_started(&cause))?;
        checked(output).map(|_| ())
    }
}

/// Every secret: first the ids, then all secrets in one call.
pub(super) fn secrets() -> Result<Vec<Value>, CliError> {
    let ids = text(&podman(["secret", "ls", "--quiet"], b"")?);
    inspect("secret", &ids)
}

/// The names of the secrets, one a line.
pub(super) fn names() -> Result<String, CliError> {
    Ok(text(&podman(["secret", "ls", "--format", "{{.Name}}"], b"")?))
}

/// Every container, in the same two steps.
pub(super) fn containers() -> Result<Vec<Value>, CliError> {
    let ids = text(&podman(["ps", "--all", "--quiet", "--no-trunc"], b"")?);
    inspect("container", &ids)
}

pub(super) fn info() -> Result<Value, CliError> {
    json(&podman(["info", "--format", "json"], b"")?)
}

/// Starts to create a secret with the shell driver and these commands, regardless of podman's config.
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

/// Creates a secret with the driver of podman's config.
pub(super) fn create_by_default(name: &str, data: &SecretBytes) -> Result<(), CliError> {
    podman(["secret", "create", "--", name, "-"], data.expose_secret()).map(|_| ())
}

/// One secret, by its name.
pub(super) fn secret(name: &str) -> Result<Value, CliError> {
    match inspect("secret", name)?.pop() {
        Some(secret) => Ok(secret),
        None => Err(unrecognized(&Value::Null)),
    }
}

/// Removes a secret, by its name or id.
pub(crate) fn remove(name: &str) -> Result<(), CliError> {
    podman(["secret", "rm", "--", name], b"").map(|_| ())
}

fn inspect(kind: &str, ids: &str) -> Result<Vec<Value>, CliError> {
    let ids: Vec<&str> = ids.lines().map(str::trim).filter(|id| !id.is_empty()).collect();
    let mut all = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_NAMES) {
        let mut args = vec![kind, "inspect"];
        args.extend(ids);
        // If one was removed in the meantime, podman prints the others and fails.
        let output = run(&args, b"")?;
        let inspected = match json(&output.stdout) {
            Ok(inspected) => inspected,
            Err(_) => json(&checked(output)?)?,
        };
        let Value::Array(inspected) = inspected else { return Err(unrecognized(&inspected)) };
        all.extend(inspected);
    }
    Ok(all)
}

/// Podman's stdout; if podman fails, its stderr is the error.
fn podman<S: AsRef<OsStr>>(
    args: impl IntoIterator<Item = S>,
    stdin: &[u8],
) -> Result<Vec<u8>, CliError> {
    let args: Vec<S> = args.into_iter().collect();
    checked(run(&args, stdin)?)
}

fn run<S: AsRef<OsStr>>(args: &[S], stdin: &[u8]) -> Result<Output, CliError> {
    start(args, stdin)?.wait_with_output().map_err(|cause| not_started(&cause))
}

fn not_started(cause: &std::io::Error) -> CliError {
    CliError::io("running podman", cause, "install podman, or set PATH")
}

fn start<S: AsRef<OsStr>>(args: &[S], stdin: &[u8]) -> Result<Child, CliError> {
    let mut command = Command::new("podman");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|cause| not_started(&cause))?;
    if let Some(mut pipe) = child.stdin.take() {
        // If podman does not read it, its stderr has the cause.
        let _ = pipe.write_all(stdin);
    }
    Ok(child)
}

fn checked(output: Output) -> Result<Vec<u8>, CliError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = text(&output.stderr);
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let why = match lines.is_empty() {
        true => output.status.to_string(),
        false => lines.join(" · "),
    };
    Err(CliError::without_remedy(Exit::Io, format!("podman: {why}")))
}

fn json(bytes: &[u8]) -> Result<Value, CliError> {
    serde_json::from_slice(bytes).map_err(|_| unrecognized(&Value::from(text(bytes))))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
