//! Becomes psid's user, so that a check meets what psid will meet. Only the kernel knows all that decides on a
//! permission.

use std::ffi::CString;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getgroups, initgroups, setgid, setgroups, setuid};
use psi_common::{Paths, Problem, Scope};
use serde_json::Value;
use tokio::process::Command;

use super::unit::ServiceUnit;
use crate::keys::credential::Creds;
use crate::runtime::build::Environment;
use crate::sys::files;

/// The system's psid: its unit, and the user of that.
pub(crate) struct PsidUser {
    uid: Uid,
    gid: Gid,
    pub(super) unit: ServiceUnit,
}

impl PsidUser {
    /// The user, if this process is root's and the paths are the system's, which psid.service uses.
    pub(crate) fn of(environment: &Environment) -> Option<Self> {
        if !is_systems(environment) {
            return None;
        }
        let mut unit = ServiceUnit::read();
        if unit.user.is_empty() {
            "root".clone_into(&mut unit.user);
        }
        let user = account(&unit.user)?;
        let group = Group::from_name(&unit.group).ok().flatten();
        Some(Self { uid: user.uid, gid: group.map_or(user.gid, |group| group.gid), unit })
    }

    /// The user's name.
    pub(crate) fn name(&self) -> &str {
        &self.unit.user
    }

    /// Becomes this user for good. Before the process has other threads, and before it locks its memory, which a
    /// user without privileges may not do without a limit.
    pub(super) fn become_it(&self, environment: &mut Environment) -> nix::Result<()> {
        self.give_run_directory(environment);
        if self.uid.is_root() {
            return Ok(());
        }
        let name = CString::new(self.name()).map_err(|_| nix::Error::EINVAL)?;
        initgroups(&name, self.gid)?;
        let named = self.unit.supplementary_groups.iter();
        let more = named.filter_map(|name| Some(Group::from_name(name).ok()??.gid));
        let groups: Vec<Gid> = getgroups()?.into_iter().chain(more).collect();
        setgroups(&groups)?;
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

fn is_systems(environment: &Environment) -> bool {
    environment.paths.run == Path::new("/run/psid")
        && environment.paths.state == Paths::new(Scope::System).state
        && nix::unistd::geteuid().is_root()
}

/// The user of a name or a number.
fn account(user: &str) -> Option<User> {
    match user.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)).ok().flatten(),
        Err(_) => User::from_name(user).ok().flatten(),
    }
}

/// What a `psid check` reports.
pub(crate) struct Checked {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
}

/// The report of a `psid check` as psid's user; `None` if it cannot be run.
pub(super) async fn check_by_child(config: &Path) -> Option<Checked> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg("--config").arg(config).args(["check", "--json"]).kill_on_drop(true);
    let output = command.output().await.ok()?;
    let mut report: Value = serde_json::from_slice(&output.stdout).ok()?;
    let mut take = |list: &str| report[list].take();
    Some(Checked {
        problems: serde_json::from_value(take("problems")).ok()?,
        warnings: serde_json::from_value(take("warnings")).ok()?,
    })
}
