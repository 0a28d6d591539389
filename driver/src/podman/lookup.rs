//! A secret's value by its lookup command, as podman's shell driver runs it: by `sh -c`, with podman's
//! environment and the id (vendor/go.podman.io/common/pkg/secrets/shelldriver/shelldriver.go).

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use psi_common::{MAX_SECRET_BYTES, SecretBytes, SecretId};
use rustix::process::{Pid, Signal, kill_process_group};

/// Podman itself would wait for ever; the Python PSI's curl does, when its server hangs.
const LIMIT: Duration = Duration::from_secs(30);
/// Of what a command says on stderr.
const WORDS: usize = 4_096;

/// What `command` gives for `id`; `Err` says why it gives nothing.
pub(crate) fn resolve(command: &str, id: SecretId) -> Result<SecretBytes, String> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env("SECRET_ID", id.as_str());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = shell.spawn().map_err(|cause| format!("running sh: {cause}"))?;
    let group = Pid::from_child(&child);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(finish(child)));
    let Ok(ended) = told.recv_timeout(LIMIT) else {
        // With the curl that the shell waits for.
        let _ = kill_process_group(group, Signal::KILL);
        return Err(format!("it gave no answer in {} s", LIMIT.as_secs()));
    };
    let (status, value, words) = ended.map_err(|cause| format!("reading its answer: {cause}"))?;
    if status.success() {
        return Ok(value);
    }
    let words = String::from_utf8_lossy(&words);
    Err(match words.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => line.trim().to_owned(),
        None => format!("it failed without a word ({status})"),
    })
}

fn finish(mut child: Child) -> std::io::Result<(ExitStatus, SecretBytes, Vec<u8>)> {
    let stderr = child.stderr.take();
    let words = thread::spawn(move || {
        let mut words = Vec::new();
        let mut pipe = stderr?;
        pipe.by_ref().take(WORDS as u64).read_to_end(&mut words).ok()?;
        // A pipe that nobody reads would hold the command.
        std::io::copy(&mut pipe, &mut std::io::sink()).ok()?;
        Some(words)
    });
    // The whole buffer at once: growing would leave copies of the secret behind.
    let mut value = Vec::with_capacity(MAX_SECRET_BYTES + 2);
    if let Some(mut pipe) = child.stdout.take() {
        pipe.by_ref().take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut value)?;
    }
    let value = SecretBytes::new(value);
    let status = child.wait()?;
    Ok((status, value, words.join().ok().flatten().unwrap_or_default()))
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
}
