//! systemd-creds(1) as a child process; secrets pass through pipes only.

use std::process::Stdio;
use std::time::Duration;

use psi_common::SecretBytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{CredsError, SealOptions};

/// A TPM that is busy or being reset takes seconds to answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The owner of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The system; requires root.
    System,
    /// The user (systemd 256 or newer).
    User,
}

/// Opens a credential that was sealed under `name`.
pub(super) async fn open(
    scope: Scope,
    name: &str,
    sealed: &SecretBytes,
) -> Result<SecretBytes, CredsError> {
    let mut command = systemd_creds(scope, "decrypt", name);
    command.args(["-", "-"]);
    run(command, sealed).await
}

/// Seals `secret` under `name`, and verifies that it opens.
pub(super) async fn seal(
    scope: Scope,
    name: &str,
    secret: &SecretBytes,
    seal: &SealOptions,
) -> Result<SecretBytes, CredsError> {
    let SealOptions { with_key, tpm2_pcrs } = seal;
    let mut command = systemd_creds(scope, "encrypt", name);
    command.arg(format!("--with-key={with_key}"));
    // For a user, a service of systemd seals, which selects the PCRs itself.
    if with_key != "host" && scope == Scope::System {
        command.arg(format!("--tpm2-pcrs={tpm2_pcrs}"));
    }
    command.args(["-", "-"]);
    let sealed = run(command, secret).await?;
    check_seal(seal, &sealed)?;
    match open(scope, name, &sealed).await {
        Ok(opened) if opened.same_as(secret) => Ok(sealed),
        Ok(_) => Err(CredsError::failed("the new credential opens to something else")),
        Err(CredsError { kind, why }) => {
            Err(CredsError::new(kind, format!("the new credential does not open: {why}")))
        }
    }
}

/// Checks that the seal includes the TPM. For a user who requests `host+tpm2`, systemd 257 silently seals to the
/// key of the host alone: only root can have the TPM seal for a user.
fn check_seal(seal: &SealOptions, sealed: &SecretBytes) -> Result<(), CredsError> {
    let is = SealOptions::of(sealed.expose_secret());
    if seal.with_key.contains("tpm2") && is.is_some_and(|is| is.with_key == "host") {
        return Err(CredsError::failed(
            "systemd sealed it to the key of this host alone, as it does for users: seal it with \
             `--seal-with host`, or have root seal it to the TPM (see `man psid`)",
        ));
    }
    Ok(())
}

fn systemd_creds(scope: Scope, verb: &str, name: &str) -> Command {
    let mut command = Command::new("systemd-creds");
    if scope == Scope::User {
        command.arg("--user");
    }
    command.arg(verb).arg(format!("--name={name}"));
    command
}

/// Runs the command. The error is the last line of its stderr.
async fn run(mut command: Command, input: &SecretBytes) -> Result<SecretBytes, CredsError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| CredsError::incomplete(format!("systemd-creds does not run: {error}")))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // If it fails before it reads, its stderr has the reason.
            let _ = stdin.write_all(input.expose_secret()).await;
        }
    };
    let exchange = async {
        let ((), output, messages) = tokio::join!(write, read_all(stdout), read_all(stderr));
        let messages = String::from_utf8_lossy(messages?.expose_secret()).into_owned();
        Ok::<_, std::io::Error>((child.wait().await?, output?, messages))
    };
    let (status, output, messages) = tokio::time::timeout(TIMEOUT, exchange)
        .await
        .map_err(|_| {
            let why = format!("systemd-creds did not end within {} s", TIMEOUT.as_secs());
            CredsError::incomplete(why)
        })?
        .map_err(|error| {
            CredsError::incomplete(format!("communicating with systemd-creds: {error}"))
        })?;
    if status.success() {
        return Ok(output);
    }
    let why =
        error_line(&messages).map_or_else(|| format!("systemd-creds: {status}"), str::to_owned);
    // A process that was killed reports no result.
    Err(if status.code().is_some() { CredsError::failed(why) } else { CredsError::incomplete(why) })
}

/// Reads at most 1 MiB from a pipe.
async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<SecretBytes> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    if let Some(pipe) = pipe {
        pipe.take(1 << 20).read_to_end(&mut bytes).await?;
    }
    Ok(SecretBytes::new(bytes))
}

/// The line with the error: the last one that is not a diagnostic of the TPM library, else the message of the last
/// diagnostic, `ERROR:tcti:src/file.c:1:function() MESSAGE`.
fn error_line(messages: &str) -> Option<&str> {
    let lines = || messages.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_diagnostic = |line: &&str| line.starts_with("ERROR:") || line.starts_with("WARNING:");
    lines()
        .rfind(|line| !is_diagnostic(line))
        .or_else(|| lines().next_back().map(diagnostic_message))
}

fn diagnostic_message(line: &str) -> &str {
    line.split_once("() ").map_or(line, |(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_line_prefers_the_message_of_systemd() {
        assert_eq!(
            error_line("Failed to unseal\nERROR:esys:x.c:1:y() z\n\n"),
            Some("Failed to unseal")
        );
        assert_eq!(error_line("WARNING:esys:a\nERROR:tcti:b\n"), Some("ERROR:tcti:b"));
        assert_eq!(
            error_line("ERROR:tcti:src/x.c:455:Init() no /dev/tpmrm0\n"),
            Some("no /dev/tpmrm0")
        );
        assert_eq!(error_line("\n"), None);
    }
}
