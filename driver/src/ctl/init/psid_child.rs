//! psid as a child of `psictl init`: as its own user where there is one, with a config and a secret that lie on no
//! disk.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use psi_common::passwd::{self, User};
use psi_common::{Exit, Paths, SecretBytes};

use crate::ctl::psid;
use crate::error::CliError;

/// The user of the system's psid.
const SERVICE_USER: &str = "psi";
/// A pipe takes this much before anything reads it.
const MAX_SECRET: usize = 32 << 10;

/// Settings in messages of psid, and the flags that set them.
const FLAGS: [(&str, &str); 4] = [
    ("api_url in [providers.infisical]", "--api-url"),
    ("set allow_http = true", "add --allow-http"),
    ("set ca_cert in [providers.infisical]", "give --ca-cert"),
    (
        "correct the path, or environment in [",
        "correct the path of --workload, or the environment in [",
    ),
];

/// How a psid ended.
pub(super) struct Finished {
    pub(super) exit: Exit,
    pub(super) stdout: String,
    /// The last line of stderr, without the program's name.
    pub(super) error: String,
}

/// What a login is tried with, where it is not what is sealed.
pub(super) struct LoginSecrets<'a> {
    /// The secret of the one identity.
    pub(super) secret: Option<&'a SecretBytes>,
    /// The PIN of the token.
    pub(super) pin: Option<&'a SecretBytes>,
}

impl LoginSecrets<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.secret.is_none() && self.pin.is_none()
    }
}

/// Calls of psid.
pub(super) struct PsidChild<'a> {
    paths: &'a Paths,
    /// psid's user, if this process is root and sets up the system's psid.
    pub(super) service: Option<User>,
}

impl<'a> PsidChild<'a> {
    pub(super) fn of(paths: &'a Paths) -> Self {
        // With another config, it is a psid of root's own.
        let is_system = paths.config == Path::new("/etc/psi/config.toml");
        let is_root = nix::unistd::geteuid().is_root();
        let users =
            if is_system && is_root { passwd::users().unwrap_or_default() } else { Vec::new() };
        Self { paths, service: users.into_iter().find(|user| user.name == SERVICE_USER) }
    }

    /// Runs psid as this user, with the config that is installed.
    pub(super) fn run(&self, args: &[impl AsRef<OsStr>]) -> Result<Finished, CliError> {
        finish(self.command(&self.paths.config, args))
    }

    /// The same as psid's user.
    pub(super) fn run_as_service(&self, args: &[impl AsRef<OsStr>]) -> Result<Finished, CliError> {
        finish(self.as_service(self.command(&self.paths.config, args)))
    }

    /// Runs `psid check --online`, which becomes psid's user by itself: before that, it makes the directory in which
    /// refused logins are remembered. A candidate and a secret are handed over by descriptors.
    pub(super) fn check_online(
        &self,
        candidate: Option<&str>,
        secrets: &LoginSecrets<'_>,
        retry: bool,
    ) -> Result<Finished, CliError> {
        let handing = |cause| CliError::io("handing the config to psid", &cause, "run it again");
        let candidate = candidate.map(in_memory).transpose().map_err(handing)?;
        let secret = secrets.secret.map(in_pipe).transpose()?;
        let pin = secrets.pin.map(in_pipe).transpose()?;
        let config = candidate.as_ref().map_or_else(|| self.paths.config.clone(), path_of);
        let mut args = vec!["check".to_owned(), "--online".into()];
        if let Some(secret) = &secret {
            args.extend(["--secret-fd".to_owned(), secret.as_raw_fd().to_string()]);
        }
        if let Some(pin) = &pin {
            args.extend(["--pin-fd".to_owned(), pin.as_raw_fd().to_string()]);
        }
        if retry {
            args.push("--retry".into());
        }
        let mut finished = finish(self.command(&config, &args))?;
        if candidate.is_some() {
            let path = config.display().to_string();
            finished.error = of_candidate(&finished.error, &path);
            finished.stdout = of_candidate(&finished.stdout, &path);
        }
        Ok(finished)
    }

    fn command(&self, config: &Path, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(psid::installed());
        command.arg("--config").arg(config).args(args).stdin(Stdio::null());
        // A psid with another config than the system's finds the same places.
        let Paths { state, run, socket, .. } = self.paths;
        command.env("PSI_STATE_DIR", state).env("PSI_RUN_DIR", run).env("PSI_SOCKET", socket);
        command
    }

    fn as_service(&self, mut command: Command) -> Command {
        if let Some(user) = &self.service {
            // std drops the supplementary groups too.
            command.uid(user.uid).gid(user.gid).current_dir("/");
        }
        command
    }
}

fn finish(mut command: Command) -> Result<Finished, CliError> {
    let output = command.output().map_err(|cause| psid::not_started(&command, &cause))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let error = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match output.status.code().and_then(Exit::from_code) {
        Some(exit) => Ok(Finished {
            exit,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: error.strip_prefix("psid: ").unwrap_or(error).to_owned(),
        }),
        None => Err(psid::unknown_status(output.status)),
    }
}

/// psid's message about a candidate, which has no path and no lines for a person: a setting is named as the flag that
/// sets it.
fn of_candidate(message: &str, path: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut parts = message.split(path);
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let line = part
            .strip_prefix(':')
            .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        match line.and_then(|rest| rest.strip_prefix(": ")) {
            Some(rest) => text.push_str(rest),
            None => text.extend(["the config", part]),
        }
    }
    for (setting, flag) in FLAGS {
        text = text.replace(setting, flag);
    }
    while let Some((before, rest)) = text.split_once("[providers.infisical.projects.") {
        let Some((_, after)) = rest.split_once(']') else { break };
        text = format!("{before}--project{after}");
    }
    text
}

/// A file in RAM that a child inherits.
pub(super) struct InMemory(File);

impl InMemory {
    pub(super) fn new() -> std::io::Result<Self> {
        // Without MFD_CLOEXEC: the next child has it.
        Ok(Self(memfd_create("psi", MFdFlags::empty())?.into()))
    }

    /// Its path in the child.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.0)
    }

    /// What the child wrote, without a line end.
    pub(super) fn into_secret(mut self) -> std::io::Result<SecretBytes> {
        let mut bytes = Vec::with_capacity(4_096);
        self.0.seek(SeekFrom::Start(0))?;
        (&mut self.0).take(4_095).read_to_end(&mut bytes)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Ok(SecretBytes::new(bytes))
    }
}

fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn in_memory(text: &str) -> std::io::Result<File> {
    let mut file = InMemory::new()?.0;
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// The read end of a pipe that holds the secret. A child inherits it.
fn in_pipe(secret: &SecretBytes) -> Result<OwnedFd, CliError> {
    if secret.len() > MAX_SECRET {
        return Err(CliError::new(
            Exit::BadInput,
            format!(
                "the secret has {} bytes, and no secret of a login has that many",
                secret.len()
            ),
            "pass the secret itself",
        ));
    }
    let failed =
        |cause: std::io::Error| CliError::io("a pipe for the secret", &cause, "run it again");
    let (reader, writer) = nix::unistd::pipe().map_err(|cause| failed(cause.into()))?;
    File::from(writer).write_all(secret.expose_secret()).map_err(failed)?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_memory_is_read_back_by_its_path() {
        let file = in_memory("[cache]\n").unwrap();
        assert_eq!(std::fs::read_to_string(path_of(&file)).unwrap(), "[cache]\n");
    }

    #[test]
    fn messages_about_a_candidate_name_flags() {
        let about = |message: &str| of_candidate(message, "/proc/self/fd/3");
        assert_eq!(about("/proc/self/fd/3 is good"), "the config is good");
        assert_eq!(
            about("/proc/self/fd/3:8: plain http; make it https, or set allow_http = true"),
            "plain http; make it https, or add --allow-http"
        );
        assert_eq!(
            about(
                "copy it to [providers.infisical.projects.p], or correct api_url in [providers.infisical]"
            ),
            "copy it to --project, or correct --api-url"
        );
        assert_eq!(about("[providers.infisical.projects."), "[providers.infisical.projects.");
    }

    #[test]
    fn into_secret_drops_one_line_end() {
        let file = InMemory::new().unwrap();
        std::fs::write(file.path(), "abc\n\n").unwrap();
        assert_eq!(file.into_secret().unwrap().expose_secret(), b"abc\n");
    }

    #[test]
    fn in_pipe_refuses_what_would_block() {
        assert!(in_pipe(&SecretBytes::new(vec![b'x'; MAX_SECRET + 1])).is_err());
        let reader = in_pipe(&SecretBytes::new(b"s".to_vec())).unwrap();
        let mut read = String::new();
        File::from(reader).read_to_string(&mut read).unwrap();
        assert_eq!(read, "s");
    }
}
