//! A secret's value by its lookup command, as podman's shell driver runs it: by `sh -c`, with podman's
//! environment and the id (vendor/go.podman.io/common/pkg/secrets/shelldriver/shelldriver.go).

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use psi_common::{MAX_SECRET_BYTES, SecretBytes, SecretId};

use crate::client::wait;

/// Podman itself would wait for ever; the Python PSI's curl does, when its server hangs.
const LIMIT: Duration = Duration::from_secs(30);
/// How often an end is looked for, once the command has closed its output.
const LOOK: Duration = Duration::from_millis(5);
/// Of what a command says on stderr.
const WORDS: usize = 4_096;

/// What `command` gives for `id`; `Err` says why it gives nothing.
pub(crate) fn resolve(command: &str, id: SecretId) -> Result<SecretBytes, String> {
    resolve_within(command, id, LIMIT)
}

fn resolve_within(command: &str, id: SecretId, limit: Duration) -> Result<SecretBytes, String> {
    let deadline = Instant::now() + limit;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env("SECRET_ID", id.as_str());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = shell.spawn().map_err(|cause| format!("running sh: {cause}"))?;
    // The whole buffer at once: growing would leave copies of the secret behind.
    let value = read(child.stdout.take(), MAX_SECRET_BYTES + 1);
    let words = read(child.stderr.take(), WORDS);
    let left = || deadline.saturating_duration_since(Instant::now());
    let late = || format!("it gave no answer in {} s", limit.as_secs());
    let value = value.recv_timeout(left()).map(SecretBytes::new);
    let (Ok(value), Ok(words)) = (value, words.recv_timeout(left())) else {
        kill(&mut child);
        return Err(late());
    };
    let status = end(&mut child, deadline).ok_or_else(late)?;
    if status.success() {
        return Ok(value);
    }
    let words = String::from_utf8_lossy(&words);
    Err(match words.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => line.trim().to_owned(),
        None => format!("it failed without a word ({status})"),
    })
}

/// Reads so much, and the rest to nowhere: a pipe that nobody reads would hold the command.
fn read(pipe: Option<impl Read + Send + 'static>, limit: usize) -> Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::with_capacity(limit + 1);
        let mut pipe = pipe?;
        pipe.by_ref().take(limit as u64).read_to_end(&mut bytes).ok()?;
        std::io::copy(&mut pipe, &mut std::io::sink()).ok()?;
        tell.send(bytes).ok()
    });
    told
}

/// How the command ended; none, when it was killed at the deadline.
fn end(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => wait(LOOK),
            Ok(None) => {
                kill(child);
                return None;
            }
            // It is no child of this process any more: its pid may be another process's.
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
    fn the_bytes_are_the_command_s() {
        let value = resolve("printf 'a\\000\\r\\n%s\\n' \"$SECRET_ID\"", id()).unwrap();
        assert!(value.same_as(&SecretBytes::new(format!("a\0\r\n{}\n", id()).into_bytes())));
        let large = resolve("head -c 511999 /dev/zero", id()).unwrap();
        assert_eq!(large.len(), 511_999);
    }

    #[test]
    fn a_failure_is_told_by_the_last_word_of_stderr() {
        let why = resolve("echo one >&2; echo two >&2; echo value; exit 3", id()).unwrap_err();
        assert_eq!(why, "two");
        let why = resolve("exit 7", id()).unwrap_err();
        assert_eq!(why, "it failed without a word (exit status: 7)");
        let loud = "head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1";
        assert!(resolve(loud, id()).unwrap_err().starts_with('x'));
    }
    #[test]
    fn a_command_that_hangs_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", pid.display());
        let why = resolve_within(&script, id(), Duration::from_secs(1)).unwrap_err();
        assert_eq!(why, "it gave no answer in 1 s");
        let pid = std::fs::read_to_string(pid).unwrap();
        let status = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        // Nobody of ours waits for it, so a zombie may be left.
        let gone = (0..200).any(|_| {
            wait(Duration::from_millis(10));
            std::fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone);
    }
}
