//! Runs the lookup command of a secret as podman's shell driver does: by `sh -c`, with podman's environment and
//! the id (vendor/go.podman.io/common/pkg/secrets/shelldriver/shelldriver.go).

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use psi_common::{MAX_SECRET_BYTES, SecretBytes, SecretId};

use crate::client::wait;

/// Podman itself waits without limit, for example for version 1's curl when its server hangs.
const LIMIT: Duration = Duration::from_secs(30);
/// How often the command is polled for its end, once it has closed its output.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The bytes of a command's stderr that are kept.
const MAX_STDERR: usize = 4_096;

/// The failure of a lookup command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("running sh: {0}")]
    Shell(io::Error),
    #[error("the command did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The last line of its stderr.
    #[error("{0}")]
    Message(String),
    #[error("the command failed without a message ({0})")]
    Status(ExitStatus),
}

/// The value that `command` prints for `id`.
pub(crate) fn resolve(command: &str, id: SecretId) -> Result<SecretBytes, LookupError> {
    resolve_within(command, id, LIMIT)
}

fn resolve_within(
    command: &str,
    id: SecretId,
    limit: Duration,
) -> Result<SecretBytes, LookupError> {
    let deadline = Instant::now() + limit;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env("SECRET_ID", id.as_str());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = shell.spawn().map_err(LookupError::Shell)?;
    let value = read(child.stdout.take(), MAX_SECRET_BYTES + 1);
    let stderr = read(child.stderr.take(), MAX_STDERR);
    let left = || deadline.saturating_duration_since(Instant::now());
    let value = value.recv_timeout(left()).map(SecretBytes::new);
    let (Ok(value), Ok(stderr)) = (value, stderr.recv_timeout(left())) else {
        kill(&mut child);
        return Err(LookupError::TimedOut(limit));
    };
    let status = wait_until(&mut child, deadline).ok_or(LookupError::TimedOut(limit))?;
    if status.success() {
        return Ok(value);
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(match stderr.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => LookupError::Message(line.trim().to_owned()),
        None => LookupError::Status(status),
    })
}

/// Reads up to `limit` bytes and discards the rest: a full pipe would block the command.
fn read(pipe: Option<impl Read + Send + 'static>, limit: usize) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Allocated at once: a buffer that grows leaves copies of the secret behind.
        let mut bytes = Vec::with_capacity(limit + 1);
        let mut pipe = pipe?;
        pipe.by_ref().take(limit as u64).read_to_end(&mut bytes).ok()?;
        io::copy(&mut pipe, &mut io::sink()).ok()?;
        sender.send(bytes).ok()
    });
    receiver
}

/// The command's exit status; `None` if it was killed at the deadline.
fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => wait(POLL_INTERVAL),
            Ok(None) => {
                kill(child);
                return None;
            }
            // It is no longer a child of this process: its pid may be another process's.
            Err(_) => return None,
        }
    }
}

/// Kills the shell with all that it started, also when the shell itself has ended. The shell has not been waited
/// for, so its pid, which is the group's number, is not in use by any other group.
fn kill(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SecretId {
        "0123456789abcdef012345678".parse().unwrap()
    }

    #[test]
    fn resolve_returns_the_command_s_bytes() {
        let value = resolve("printf 'a\\000\\r\\n%s\\n' \"$SECRET_ID\"", id()).unwrap();
        assert!(value.same_as(&SecretBytes::new(format!("a\0\r\n{}\n", id()).into_bytes())));
        let large = resolve("head -c 511999 /dev/zero", id()).unwrap();
        assert_eq!(large.len(), 511_999);
    }

    #[test]
    fn resolve_reports_the_last_line_of_stderr() {
        let why = resolve("echo one >&2; echo two >&2; echo value; exit 3", id())
            .unwrap_err()
            .to_string();
        assert_eq!(why, "two");
        let why = resolve("exit 7", id()).unwrap_err().to_string();
        assert_eq!(why, "the command failed without a message (exit status: 7)");
        let verbose = "head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1";
        assert!(resolve(verbose, id()).unwrap_err().to_string().starts_with('x'));
    }

    #[test]
    fn resolve_kills_a_command_that_hangs_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", pid.display());
        let why = resolve_within(&script, id(), Duration::from_secs(1)).unwrap_err().to_string();
        assert_eq!(why, "the command did not end within 1 s");
        let pid = std::fs::read_to_string(pid).unwrap();
        let status = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        // No process here waits for it, so that a zombie may be left.
        let gone = (0..200).any(|_| {
            wait(Duration::from_millis(10));
            std::fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone);
    }
}
