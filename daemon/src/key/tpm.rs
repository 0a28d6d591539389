//! A 32-byte key sealed by systemd-creds(1), as a rule to this host's TPM.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use psi_common::{BackendTag, SecretBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{CREDENTIAL, KeyBackend, KeyError};
use crate::files;
use crate::sealer::DataKey;

/// A TPM that is busy or being reset takes seconds; one that takes a minute is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key that systemd hands over as a credential, or that `systemd-creds` opens for us.
pub struct TpmKey {
    /// Where systemd puts the opened credential, when psid runs as a unit that loads it.
    pub credential: Option<PathBuf>,
    /// The sealed key.
    pub sealed: PathBuf,
    /// How a new key is sealed.
    pub seal: SealOptions,
}

/// What `systemd-creds encrypt` seals a new key to.
#[derive(Clone, Debug)]
pub struct SealOptions {
    /// Its `--with-key`: tpm2, host, host+tpm2 or auto.
    pub with_key: String,
    /// Its `--tpm2-pcrs`; empty for none.
    pub tpm2_pcrs: String,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { with_key: "tpm2".into(), tpm2_pcrs: "7".into() }
    }
}

#[async_trait]
impl KeyBackend for TpmKey {
    fn tag(&self) -> BackendTag {
        BackendTag::Tpm
    }

    async fn load(&self, _part: Option<&[u8]>) -> Result<DataKey, KeyError> {
        let key = match self.delivered()? {
            Some(key) => key,
            None => self.unseal().await?,
        };
        DataKey::from_secret(&key).ok_or_else(|| {
            KeyError::new(
                format!("the cache key has {} bytes instead of {}", key.len(), DataKey::LEN),
                "make a new one with `psi-driver cache init --backend tpm --force`",
            )
        })
    }

    async fn provision(&self) -> Result<(DataKey, Vec<u8>), KeyError> {
        let key = DataKey::generate()
            .map_err(|error| KeyError::new(format!("no random numbers: {error}"), "try again"))?;
        let sealed = self.seal(&key).await?;
        let kept = self.sealed.parent().map_or(Ok(()), files::make_folder);
        kept.and_then(|()| files::replace(&self.sealed, sealed.expose_secret())).map_err(
            |error| {
                KeyError::new(
                    format!("writing {}: {error}", self.sealed.display()),
                    "run it as the owner of that folder",
                )
            },
        )?;
        if !self.unseal().await?.same_as(&key.to_secret()) {
            return Err(KeyError::new("the sealed key opens to another key", "check the TPM"));
        }
        Ok((key, Vec::new()))
    }
}

impl TpmKey {
    /// The credential, as systemd opened it for this unit.
    fn delivered(&self) -> Result<Option<SecretBytes>, KeyError> {
        let Some(path) = &self.credential else { return Ok(None) };
        match std::fs::read(path) {
            // The unit ships an empty default, so that psid starts although a credential does not open.
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => Ok(Some(SecretBytes::new(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(KeyError::new(
                format!("reading the credential {}: {error}", path.display()),
                "check LoadCredentialEncrypted= in psid.service",
            )),
        }
    }

    async fn seal(&self, key: &DataKey) -> Result<SecretBytes, KeyError> {
        let mut command = Command::new("systemd-creds");
        command.arg("encrypt").arg(name_option()).arg(format!("--with-key={}", self.seal.with_key));
        if self.seal.with_key != "host" {
            command.arg(format!("--tpm2-pcrs={}", self.seal.tpm2_pcrs));
        }
        command.args(["-", "-"]);
        run(command, Some(&key.to_secret())).await.map_err(|why| {
            KeyError::new(
                format!("sealing a key with --seal-with {}: {why}", self.seal.with_key),
                "check `systemd-creds has-tpm2`; without a TPM, --seal-with host keeps the key in \
                 /var/lib/systemd/credential.secret, on the same disk",
            )
        })
    }

    async fn unseal(&self) -> Result<SecretBytes, KeyError> {
        if !self.sealed.exists() {
            return Err(KeyError::new(
                format!(
                    "there is no key: no credential {CREDENTIAL}, no {}",
                    self.sealed.display()
                ),
                "make one with `psi-driver cache init --backend tpm`",
            ));
        }
        let mut command = Command::new("systemd-creds");
        command.arg("decrypt").arg(name_option()).args([self.sealed.as_os_str(), OsStr::new("-")]);
        run(command, None).await.map_err(|why| {
            KeyError::new(
                format!("the key in {} does not open: {why}", self.sealed.display()),
                "if firmware or Secure Boot changed, its PCRs did: psid serves live; make a new key \
                 with `psi-driver cache init --backend tpm --force`",
            )
        })
    }
}

fn name_option() -> String {
    format!("--name={CREDENTIAL}")
}

/// Runs systemd-creds; the key goes through pipes only. `Err` is its own last line.
async fn run(mut command: Command, input: Option<&SecretBytes>) -> Result<SecretBytes, String> {
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("systemd-creds does not run: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            stdin.write_all(input.expose_secret()).await?;
        }
        let mut output = Vec::with_capacity(64 * 1024);
        if let Some(stdout) = stdout {
            stdout.take(1 << 20).read_to_end(&mut output).await?;
        }
        let output = SecretBytes::new(output);
        let mut words = String::new();
        if let Some(stderr) = stderr {
            stderr.take(1 << 16).read_to_string(&mut words).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, output, words))
    };
    let (status, output, words) = tokio::time::timeout(PATIENCE, talk)
        .await
        .map_err(|_| format!("systemd-creds did not end within {} s", PATIENCE.as_secs()))?
        .map_err(|error| format!("talking to systemd-creds: {error}"))?;
    if status.success() {
        return Ok(output);
    }
    let last = words.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| format!("systemd-creds: {status}"), |line| line.trim().to_owned()))
}
