//! systemd-creds(1) as a child process. Secrets pass through pipes only.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use psi_common::{Exit, Scope, SecretBytes};

use super::{SealFlags, TpmSupport, is_system};
use crate::error::CliError;

/// Since this version, systemd seals for users too.
pub(in crate::ctl) const USER_SCOPE_SINCE: u32 = 256;
/// systemd accepts credentials of up to 1 MiB; sealed, in base64, they are larger.
const MAX_OUTPUT: usize = 2 << 20;
/// The bytes of stderr that are kept.
const MAX_STDERR: usize = 16 << 10;

/// The systemd-creds of this host.
pub(in crate::ctl) struct SystemdCreds {
    version: u32,
    scope: Scope,
}

impl SystemdCreds {
    /// Asks for its version. Root seals for the system, a user for that user.
    pub(in crate::ctl) fn of_this_process() -> Result<Self, CliError> {
        let output = Command::new("systemd-creds").arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|cause| {
            CliError::io(
                "running systemd-creds",
                &cause,
                "install systemd 250 or newer, or set PATH",
            )
        })?;
        let version = version_in(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            let what = "`systemd-creds --version` names no version";
            CliError::new(Exit::Protocol, what, "install systemd 250 or newer")
        })?;
        let is_root = nix::unistd::geteuid().is_root();
        let uid = nix::unistd::geteuid().as_raw();
        let scope = if is_root { Scope::System } else { Scope::User { uid } };
        Ok(Self { version, scope })
    }

    /// systemd's version.
    pub(in crate::ctl) fn version(&self) -> u32 {
        self.version
    }

    /// Whether it seals credentials of users.
    pub(in crate::ctl) fn seals_for_users(&self) -> bool {
        self.version >= USER_SCOPE_SINCE
    }

    /// Whose credentials it seals.
    pub(in crate::ctl) fn scope(&self) -> Scope {
        self.scope
    }

    /// The error that this systemd seals nothing for users.
    pub(in crate::ctl) fn no_user_scope(&self) -> CliError {
        CliError::new(
            Exit::BadInput,
            format!(
                "systemd {} seals credentials for root alone, {USER_SCOPE_SINCE} and newer also for users",
                self.version
            ),
            "run it as root for the system's podman, or upgrade systemd for a psid of your own",
        )
    }

    /// What the TPM can do.
    pub(in crate::ctl) fn tpm_support(&self) -> TpmSupport {
        // The verb moved in systemd 257.
        ["systemd-analyze", "systemd-creds"]
            .into_iter()
            .filter_map(|program| {
                let output =
                    Command::new(program).arg("has-tpm2").stdin(Stdio::null()).output().ok()?;
                Some(TpmSupport::parse(&String::from_utf8_lossy(&output.stdout)))
            })
            .find(|support| *support != TpmSupport::Unknown)
            .unwrap_or(TpmSupport::Unknown)
    }

    /// Seals a secret and verifies that it opens; `Err` is systemd's message.
    pub(super) fn seal(
        &self,
        name: &str,
        secret: &SecretBytes,
        flags: &SealFlags,
    ) -> Result<SecretBytes, String> {
        let sealed = self.run("encrypt", name, &flags.args(), secret)?;
        match self.open(name, &sealed) {
            Ok(opened) if opened.same_as(secret) => Ok(sealed),
            Ok(_) => Err("the new credential opens to something else".into()),
            Err(why) => Err(format!("the new credential does not open: {why}")),
        }
    }

    /// Opens a credential; `Err` is systemd's message.
    pub(in crate::ctl) fn open(
        &self,
        name: &str,
        sealed: &SecretBytes,
    ) -> Result<SecretBytes, String> {
        self.run("decrypt", name, &[], sealed)
    }

    fn run(
        &self,
        verb: &str,
        name: &str,
        flags: &[String],
        input: &SecretBytes,
    ) -> Result<SecretBytes, String> {
        let mut command = Command::new("systemd-creds");
        if !is_system(self.scope) {
            command.arg("--user");
        }
        command.arg(verb).arg(format!("--name={name}")).args(flags).args(["-", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|cause| format!("systemd-creds does not run: {cause}"))?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (output, messages) = thread::scope(|scope| {
            let output = scope.spawn(|| read(stdout, MAX_OUTPUT));
            let messages = scope.spawn(|| read(stderr, MAX_STDERR));
            if let Some(mut stdin) = stdin {
                // If it fails before it reads, its stderr has the reason.
                let _ = stdin.write_all(input.expose_secret());
            }
            (output.join(), messages.join())
        });
        let status = child.wait().map_err(|cause| format!("waiting for systemd-creds: {cause}"))?;
        let output = output.unwrap_or_default();
        let messages = String::from_utf8_lossy(&messages.unwrap_or_default()).into_owned();
        let output = SecretBytes::new(output);
        if status.success() {
            return Ok(output);
        }
        Err(error_line(&messages).map_or_else(|| format!("systemd-creds: {status}"), str::to_owned))
    }
}

/// Reads up to `limit` bytes, into one allocation: a buffer that grows leaves copies of the secret behind.
fn read(pipe: Option<impl Read>, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(limit + 1);
    if let Some(pipe) = pipe {
        // What was read so far is what there is.
        let _ = pipe.take(limit as u64).read_to_end(&mut bytes);
    }
    bytes
}

/// `systemd 257 (257.9-1)`
fn version_in(text: &str) -> Option<u32> {
    let number = text.split_whitespace().nth(1)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The last line that is not a diagnostic of the TPM library, else the last diagnostic's message.
fn error_line(messages: &str) -> Option<&str> {
    let lines = || messages.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_diagnostic = |line: &&str| line.starts_with("ERROR:") || line.starts_with("WARNING:");
    let message = |line| str::split_once(line, "() ").map_or(line, |(_, what)| what);
    lines().rfind(|line| !is_diagnostic(line)).or_else(|| lines().next_back().map(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_of_each_distribution_s_text() {
        assert_eq!(version_in("systemd 252 (252.39-1~deb12u2)\n+PAM"), Some(252));
        assert_eq!(version_in("systemd 258~rc1 (258~rc1-1.fc43)"), Some(258));
        assert_eq!(version_in(""), None);
        assert_eq!(version_in("systemd x"), None);
    }

    #[test]
    fn error_line_prefers_the_message_of_systemd() {
        let messages =
            "Failed to create TPM2 context\nERROR:tcti:src/x.c:455:Init() no /dev/tpmrm0\n";
        assert_eq!(error_line(messages), Some("Failed to create TPM2 context"));
        assert_eq!(
            error_line("ERROR:tcti:src/x.c:455:Init() no /dev/tpmrm0\n"),
            Some("no /dev/tpmrm0")
        );
        assert_eq!(error_line("\n"), None);
    }
}
