//! Credentials as systemd keeps them: delivered to the unit, or sealed in a file that psid opens itself.
//!
//! A unit that loads a credential which does not open fails to start (243/CREDENTIALS), with or without
//! `SetCredential=`; tried on systemd 257. So psid can open one itself, and start without it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use psi_common::SecretBytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// A TPM that is busy or being reset takes seconds; one that takes a minute is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// One credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name, which it is sealed with.
    pub name: String,
    /// Where systemd puts it, when it runs psid as a unit with credentials.
    pub delivered: Option<PathBuf>,
    /// The file that holds it, sealed by systemd-creds(1).
    pub sealed: PathBuf,
}

impl Credential {
    /// The credential; `None` when it is nowhere, `Err` when it does not open.
    pub async fn read(&self) -> Result<Option<SecretBytes>, String> {
        match self.delivered()? {
            Some(secret) => Ok(Some(secret)),
            None if self.sealed.exists() => self.unseal().await.map(Some),
            None => Ok(None),
        }
    }

    fn delivered(&self) -> Result<Option<SecretBytes>, String> {
        let Some(path) = &self.delivered else { return Ok(None) };
        match std::fs::read(path) {
            // An empty one is the default that a unit sets for a credential that is not there.
            Ok(bytes) => Ok((!bytes.is_empty()).then(|| SecretBytes::new(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("reading the credential {}: {error}", path.display())),
        }
    }

    async fn unseal(&self) -> Result<SecretBytes, String> {
        let sealed = std::fs::read(&self.sealed).map(SecretBytes::new);
        let opened = match sealed {
            Ok(sealed) => self.open(&sealed).await,
            Err(error) => Err(error.to_string()),
        };
        opened.map_err(|why| format!("{} does not open: {why}", self.sealed.display()))
    }

    /// Opens what [`Self::seal`] made.
    pub async fn open(&self, sealed: &SecretBytes) -> Result<SecretBytes, String> {
        let mut command = Command::new("systemd-creds");
        command.arg("decrypt").arg(format!("--name={}", self.name)).args(["-", "-"]);
        run(command, sealed).await
    }

    /// Seals `secret` for this name to `with_key` (tpm2, host, host+tpm2, auto) and PCRs; the caller
    /// keeps what comes back.
    pub async fn seal(
        &self,
        secret: &SecretBytes,
        with_key: &str,
        pcrs: &str,
    ) -> Result<SecretBytes, String> {
        let mut command = Command::new("systemd-creds");
        command
            .arg("encrypt")
            .arg(format!("--name={}", self.name))
            .arg(format!("--with-key={with_key}"));
        if with_key != "host" {
            command.arg(format!("--tpm2-pcrs={pcrs}"));
        }
        command.args(["-", "-"]);
        run(command, secret).await
    }
}

/// Runs systemd-creds; the secret goes through pipes only. `Err` is its own last line.
async fn run(mut command: Command, input: &SecretBytes) -> Result<SecretBytes, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("systemd-creds does not run: {error}"))?;
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
        .map_err(|_| format!("systemd-creds did not end within {} s", PATIENCE.as_secs()))?
        .map_err(|error| format!("talking to systemd-creds: {error}"))?;
    if status.success() {
        return Ok(output);
    }
    Err(verdict(&words).map_or_else(|| format!("systemd-creds: {status}"), str::to_owned))
}

/// At most 1 MiB of what a pipe gives.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<SecretBytes> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    if let Some(pipe) = pipe {
        pipe.take(1 << 20).read_to_end(&mut bytes).await?;
    }
    Ok(SecretBytes::new(bytes))
}

/// The line that tells what went wrong: the last one that is not the TPM library's own chatter.
fn verdict(words: &str) -> Option<&str> {
    let lines = || words.lines().map(str::trim).filter(|line| !line.is_empty());
    let chatter = |line: &&str| line.starts_with("ERROR:") || line.starts_with("WARNING:");
    lines().rfind(|line| !chatter(line)).or_else(|| lines().next_back())
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
        assert_eq!(verdict("\n"), None);
    }
}
