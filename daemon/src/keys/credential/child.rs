//! systemd-creds(1) as a child of this process; secrets go through pipes only.

use std::process::Stdio;
use std::time::Duration;

use psi_common::SecretBytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{CredsError, SealOptions};

/// A TPM that is busy or being reset takes seconds; one that takes a minute is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose credentials these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The system's; it takes root.
    System,
    /// The user's own (systemd 256 or newer).
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

/// Seals `secret` under `name`, and proves that it opens.
pub(super) async fn seal(
    scope: Scope,
    name: &str,
    secret: &SecretBytes,
    seal: &SealOptions,
) -> Result<SecretBytes, CredsError> {
    let SealOptions { with_key, tpm2_pcrs } = seal;
    let mut command = systemd_creds(scope, "encrypt", name);
    command.arg(format!("--with-key={with_key}"));
    // A user's are sealed by a service, which chooses the PCRs by itself.
    if with_key != "host" && scope == Scope::System {
        command.arg(format!("--tpm2-pcrs={tpm2_pcrs}"));
    }
    command.args(["-", "-"]);
    let sealed = run(command, secret).await?;
    is_as_asked(seal, &sealed)?;
    match open(scope, name, &sealed).await {
        Ok(opened) if opened.same_as(secret) => Ok(sealed),
        Ok(_) => Err(CredsError::failed("what was just sealed opens to something else")),
        Err(CredsError { kind, why }) => {
            Err(CredsError::new(kind, format!("what was just sealed does not open: {why}")))
        }
    }
}

/// Asked by a user for `host+tpm2`, systemd 257 seals to the host's key alone and says nothing: only root may
/// have the TPM seal for a user.
fn is_as_asked(seal: &SealOptions, sealed: &SecretBytes) -> Result<(), CredsError> {
    let is = SealOptions::of(sealed.expose_secret());
    if seal.with_key.contains("tpm2") && is.is_some_and(|is| is.with_key == "host") {
        return Err(CredsError::failed(
            "systemd sealed it to this host's own key alone, as it does for users: seal it with \
             `--seal-with host`, and have root seal it to the TPM: Rootless in the README",
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

/// Of a failure, systemd-creds' own last line.
async fn run(mut command: Command, input: &SecretBytes) -> Result<SecretBytes, CredsError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| CredsError::not_done(format!("systemd-creds does not run: {error}")))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // One that fails before it reads has its reason on stderr.
            let _ = stdin.write_all(input.expose_secret()).await;
        }
    };
    let talk = async {
        let ((), output, words) = tokio::join!(give, all_of(stdout), all_of(stderr));
        let words = String::from_utf8_lossy(words?.expose_secret()).into_owned();
        Ok::<_, std::io::Error>((child.wait().await?, output?, words))
    };
    let (status, output, words) = tokio::time::timeout(PATIENCE, talk)
        .await
        .map_err(|_| {
            let why = format!("systemd-creds did not end within {} s", PATIENCE.as_secs());
            CredsError::not_done(why)
        })?
        .map_err(|error| CredsError::not_done(format!("talking to systemd-creds: {error}")))?;
    if status.success() {
        return Ok(output);
    }
    let why = verdict(&words).map_or_else(|| format!("systemd-creds: {status}"), str::to_owned);
    // One that was killed has no verdict.
    Err(if status.code().is_some() { CredsError::failed(why) } else { CredsError::not_done(why) })
}

/// At most 1 MiB of what a pipe gives.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<SecretBytes> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    if let Some(pipe) = pipe {
        pipe.take(1 << 20).read_to_end(&mut bytes).await?;
    }
    Ok(SecretBytes::new(bytes))
}

/// The line that tells what went wrong: the last one that is not the TPM library's own chatter. Of that,
/// `ERROR:tcti:src/file.c:1:function() what happened`, the last is what happened.
fn verdict(words: &str) -> Option<&str> {
    let lines = || words.lines().map(str::trim).filter(|line| !line.is_empty());
    let chatter = |line: &&str| line.starts_with("ERROR:") || line.starts_with("WARNING:");
    lines().rfind(|line| !chatter(line)).or_else(|| lines().next_back().map(happened))
}

fn happened(line: &str) -> &str {
    line.split_once("() ").map_or(line, |(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_line_is_systemd_s_own() {
        assert_eq!(
            verdict("Failed to unseal\nERROR:esys:x.c:1:y() z\n\n"),
            Some("Failed to unseal")
        );
        assert_eq!(verdict("WARNING:esys:a\nERROR:tcti:b\n"), Some("ERROR:tcti:b"));
        assert_eq!(
            verdict("ERROR:tcti:src/x.c:455:Init() no /dev/tpmrm0\n"),
            Some("no /dev/tpmrm0")
        );
        assert_eq!(verdict("\n"), None);
    }
}
