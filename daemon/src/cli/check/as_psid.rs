//! Becomes psid's user, so that a check meets what psid will meet. Only the kernel knows all that decides on a
//! permission.

use std::os::unix::fs::chown;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, initgroups, setgid, setuid};
use psi_common::{Paths, Problem, Scope};
use serde_json::Value;
use tokio::process::Command;

use crate::keys::credential::Creds;
use crate::runtime::build::Environment;
use crate::sys::files;

/// `User=` of psid.service.
const USER: &str = "psi";

/// The user of the system's psid.
pub(crate) struct PsidUser {
    uid: Uid,
    gid: Gid,
}

impl PsidUser {
    /// The user, if this process is root's and the paths are the system's, which psid.service uses.
    pub(crate) fn of(environment: &Environment) -> Option<Self> {
        let system = Paths::new(Scope::System);
        let is_systems = environment.paths.run == Path::new("/run/psid")
            && environment.paths.state == system.state
            && nix::unistd::geteuid().is_root();
        let user = User::from_name(USER).ok().flatten().filter(|_| is_systems)?;
        Some(Self { uid: user.uid, gid: user.gid })
    }

    /// The user's name.
    pub(crate) fn name(&self) -> &'static str {
        USER
    }

    /// Becomes this user for good. Before the process has other threads, and before it locks its memory, which a
    /// user without privileges may not do without a limit.
    pub(super) fn become_it(&self, environment: &mut Environment) -> nix::Result<()> {
        self.give_run_directory(environment);
        let name = std::ffi::CString::new(USER).map_err(|_| nix::Error::EINVAL)?;
        initgroups(&name, self.gid)?;
        setgid(self.gid)?;
        setuid(self.uid)?;
        environment.creds = Creds::Helper(environment.paths.socket.with_file_name("creds.sock"));
        Ok(())
    }

    /// The directory keeps the memory of refused logins. Before psid's first start there is none, and only root may
    /// make it.
    fn give_run_directory(&self, environment: &Environment) {
        let run = &environment.paths.run;
        let was_there = run.is_dir();
        // Without it, refused logins are remembered for as long as this process lives.
        if files::create_run_directory(&environment.paths).is_ok() && !was_there {
            let _ = chown(run, Some(self.uid.as_raw()), Some(self.gid.as_raw()));
        }
    }
}

/// The problems that a `psid check` as psid's user finds; `None` if it cannot be run.
pub(super) async fn problems_by_child(config: &Path) -> Option<Vec<Problem>> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg("--config").arg(config).args(["check", "--json"]).kill_on_drop(true);
    let output = command.output().await.ok()?;
    let mut report: Value = serde_json::from_slice(&output.stdout).ok()?;
    serde_json::from_value(report["problems"].take()).ok()
}
