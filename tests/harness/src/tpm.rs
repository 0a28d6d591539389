//! A software TPM for one test, behind the real systemd-creds.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::Process;
use super::wait::eventually;

/// A running swtpm. Its state survives a power cycle, its PCRs do not.
pub struct Tpm {
    process: Process,
    directory: TempDir,
}

impl Tpm {
    /// A new TPM.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("tpm-").tempdir_in("/tmp").unwrap();
        let process = boot(&directory);
        Self { process, directory }
    }

    /// The value of `SYSTEMD_TPM2_DEVICE`.
    pub fn device(&self) -> String {
        format!("swtpm:path={}", self.socket().display())
    }

    /// Powers it off and on, as a reboot does: the PCRs are zero, and nothing is loaded.
    pub fn power_cycle(&mut self) {
        self.power_off();
        self.power_on();
    }

    /// Powers it on.
    pub fn power_on(&mut self) {
        self.process = boot(&self.directory);
    }

    /// Powers it off.
    pub fn power_off(&mut self) {
        // A clean end makes it write its state, which the next one needs.
        self.process.signal(Signal::SIGTERM);
        self.process.wait();
    }

    /// Flushes sessions and objects of clients, as the kernel's resource manager does for real
    /// ones; otherwise the third call of systemd-creds has no space.
    pub fn flush(&self) {
        for what in ["--transient-object", "--loaded-session", "--saved-session"] {
            self.tool("tpm2_flushcontext", &[what]);
        }
    }

    /// Extends a PCR, as other firmware or another Secure Boot state would.
    pub fn extend(&self, pcr: u32) {
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={}", "ab".repeat(32))]);
    }

    /// Makes it refuse all authorizations from now on: one failure suffices, and a power loss after
    /// an opened key counts as one.
    pub fn lock_out(&mut self) {
        let set = ["--setup-parameters", "--max-tries=1", "--recovery-time=1000"];
        self.tool(
            "tpm2_dictionarylockout",
            &[&set[..], &["--lockout-recovery-time=1000"]].concat(),
        );
        self.process.kill();
        for left in ["pid", "s", "s.ctrl"] {
            let _ = std::fs::remove_file(self.directory.path().join(left));
        }
        self.power_on();
    }

    /// Ends the lockout.
    pub fn unlock(&self) {
        self.tool("tpm2_dictionarylockout", &["--clear-lockout"]);
    }

    fn tool(&self, name: &str, args: &[&str]) {
        let output = Command::new(name)
            .args(["-T", &self.device()])
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("{name}: {error}; install tpm2-tools"));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }
}

fn boot(directory: &TempDir) -> Process {
    let path = |name: &str| directory.path().join(name);
    let mut command = Command::new("swtpm");
    command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
    command.arg("--tpmstate").arg(format!("dir={}", directory.path().display()));
    command.arg("--server").arg(format!("type=unixio,path={}", path("s").display()));
    command.arg("--ctrl").arg(format!("type=unixio,path={}", path("s.ctrl").display()));
    command.arg("--pid").arg(format!("file={}", path("pid").display()));
    let process = Process::start(command);
    // It is written last, and removed at a clean end.
    eventually("swtpm to be up (install swtpm)", || path("pid").exists().then_some(()));
    process
}
