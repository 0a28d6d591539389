//! A host inside this one (`stage/enter`).

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use psi_harness::{
    CLIENT_SECRET, FakeInfisical, Outcome, PROJECT, Process, Tpm, program, repository,
};

/// The host, a TPM and a fake Infisical. It goes with the value.
pub(crate) struct StagedHost {
    pub(crate) infisical: FakeInfisical,
    tpm: Option<Tpm>,
    /// Keeps the mount namespace.
    holder: Process,
    directory: TempDir,
}

/// How a host differs from the usual one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    Tpm,
    NoTpm,
}

impl StagedHost {
    pub(crate) fn new() -> Self {
        Self::with(With::Tpm)
    }

    pub(crate) fn with(tpm: With) -> Self {
        Self::of(FakeInfisical::with(&secrets()), tpm)
    }

    /// A host beside this Infisical.
    pub(crate) fn of(infisical: FakeInfisical, tpm: With) -> Self {
        let directory = tempfile::Builder::new().prefix("psi-host-").tempdir_in("/tmp").unwrap();
        let tpm = (tpm == With::Tpm).then(Tpm::start);
        let mut enter = Command::new("unshare");
        enter.args(["--mount", "--propagation", "private"]);
        enter.arg(repository().join("tests/init/stage/enter")).arg(directory.path());
        enter.arg(program("psid").parent().unwrap());
        enter.args(["sh", "-c", "echo entered; exec sleep infinity"]);
        enter
            .env("SYSTEMD_TPM2_DEVICE", device(tpm.as_ref()))
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        let mut holder = Process::start(enter);
        let stdout = holder.child().stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        if line != "entered\n" {
            holder.wait();
            panic!("the stage was not set (it takes overlayfs and root): {}", holder.stderr());
        }
        Self { infisical, tpm, holder, directory }
    }

    /// A command inside the host.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid())).arg("--").args(args);
        command.env_clear().current_dir("/").envs(self.environment());
        command
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME", "/root".into()),
            ("SYSTEMD_TPM2_DEVICE", device(self.tpm.as_ref())),
        ]
    }

    /// Runs a command inside the host to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> Outcome {
        // A whole `psictl init` on a busy machine takes longer than the harness waits for one program.
        let args = [&["timeout", "180"], args].concat();
        let mut command = self.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not read its stdin leaves a broken pipe.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a shell script inside the host, which must succeed; its stdout.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let outcome = self.run(&["sh", "-euc", script], "");
        assert_eq!(outcome.code, 0, "{script}: {}{}", outcome.stdout_text(), outcome.stderr);
        outcome.stdout_text().trim_end().to_owned()
    }

    /// A file that is at this path inside the host too: /tmp is shared.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        // The directory itself is covered by a mount inside.
        let path = PathBuf::from(self.files_prefix() + name);
        fs::write(&path, text).unwrap();
        path
    }

    /// What the paths of [`Self::file`] begin with.
    pub(crate) fn files_prefix(&self) -> String {
        format!("{}-", self.directory.path().display())
    }

    /// The flags of an admin who knows everything.
    pub(crate) fn flags(&self) -> Vec<String> {
        let secret = self.file("client-secret", &format!("{CLIENT_SECRET}\n"));
        [
            "psictl",
            "init",
            "--yes",
            "--api-url",
            self.infisical.url(),
            "--client-id",
            "client",
            "--client-secret-file",
            secret.to_str().unwrap(),
            "--project",
            &format!("myproject={PROJECT}:prod"),
            "--workload",
            "myapp=myproject:/myapp",
            "--no-recovery-key",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Runs `psictl init` with these flags.
    #[track_caller]
    pub(crate) fn init(&self, flags: &[String], more: &[&str]) -> Outcome {
        let args: Vec<&str> =
            flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.run(&args, "")
    }

    /// The same, which must end with this status; stdout and the error's line.
    #[track_caller]
    pub(crate) fn init_ends(&self, code: i32, flags: &[String], more: &[&str]) -> (String, String) {
        let outcome = self.init(flags, more);
        assert_eq!(
            outcome.code,
            code,
            "{}\n{}\n{}",
            outcome.stdout_text(),
            outcome.stderr,
            self.logs()
        );
        (outcome.stdout_text(), outcome.stderr.trim_end().to_owned())
    }

    /// What the units logged.
    pub(crate) fn logs(&self) -> String {
        self.run(&["sh", "-c", "tail -n 30 /run/stage/*.log"], "").stdout_text()
    }

    /// Every file of psi's, with its owner, mode and content's sum.
    pub(crate) fn files(&self) -> String {
        self.sh("for f in $(find /etc/psi /var/lib/psi /etc/containers/containers.conf.d -type f 2>/dev/null | \
                 grep -v -e cache.enc -e /secrets/ -e /names -e /deleted/ | sort); do stat -c '%n %U:%G %a %Y' $f; sha256sum <$f; done")
    }

    /// How often Infisical was asked for a login.
    pub(crate) fn logins(&self) -> u64 {
        self.infisical.logins()
    }
}

impl Drop for StagedHost {
    fn drop(&mut self) {
        // The processes that the stand-in for systemd started end first, then the mounts go with the last process.
        let _ = self.run(
            &["systemctl", "disable", "--now", "psid.service", "psid.socket", "psid-creds.socket"],
            "",
        );
        let _ = self.run(&["sh", "-c", "kill $(cat /run/stage/*.pid)"], "");
        let beside = self.files_prefix();
        for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            if entry.path().display().to_string().starts_with(&beside) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The secrets of the usual Infisical.
pub(crate) fn secrets() -> Value {
    json!({"/myapp": {"DB_HOST": "db.internal", "TOKEN": "t0ken"}})
}

fn device(tpm: Option<&Tpm>) -> OsString {
    match tpm {
        Some(tpm) => tpm.device().into(),
        None => "device:/dev/null-tpm".into(),
    }
}

/// The permission bits, owner and group of a file inside the host.
#[track_caller]
pub(crate) fn about(host: &StagedHost, path: impl AsRef<Path>) -> String {
    host.sh(&format!("stat -c '%U:%G %a' {}", path.as_ref().display()))
}
