//! The users of workloads: root's setup leaves their workloads to them, and makes them members of the group that may
//! connect to psid's socket for users.

use std::process::{Command, Stdio};

use nix::unistd::Group;
use psi_common::{Exit, Scope};
use psi_proto::v1::PlannedWorkload;

use crate::error::CliError;

/// The group of `/run/psi/users.sock`.
const GROUP: &str = "psi-users";

/// A user of workloads.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WorkloadUser {
    /// As configured.
    user: String,
    uid: u32,
}

/// The workloads that this process's podman runs, and the users of the others.
pub(super) fn divide(planned: Vec<PlannedWorkload>) -> (Vec<PlannedWorkload>, Vec<WorkloadUser>) {
    if Scope::of_this_process() != Scope::System {
        return (planned, Vec::new());
    }
    let is_roots = |workload: &PlannedWorkload| workload.user.is_empty() || workload.uid == Some(0);
    let (own, others): (Vec<_>, Vec<_>) = planned.into_iter().partition(is_roots);
    let users = others.into_iter();
    let mut users: Vec<_> =
        users.filter_map(|one| Some(WorkloadUser { user: one.user, uid: one.uid? })).collect();
    users.sort();
    users.dedup();
    (own, users)
}

/// Makes the users members of the group; a sentence for each that was none, or would be made one.
pub(super) fn admit(users: &[WorkloadUser], dry_run: bool) -> Result<Vec<String>, CliError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let Some(group) = Group::from_name(GROUP).ok().flatten() else {
        let what = format!("there is no group {GROUP}, to which the users of workloads belong");
        return Err(CliError::new(Exit::Io, what, "make it with `systemd-sysusers`"));
    };
    let mut done = Vec::new();
    for WorkloadUser { user, uid } in users {
        let name = psi_common::passwd::name_of(*uid).unwrap_or_else(|| user.clone());
        if group.mem.contains(&name) {
            continue;
        }
        if !dry_run {
            add_to_group(&name)?;
        }
        let would = if dry_run { "would add" } else { "added" };
        done.push(format!(
            "{would} {name} to the group {GROUP}; its running podman may call psid after `systemctl restart \
             user@{uid}.service`"
        ));
    }
    Ok(done)
}

fn add_to_group(name: &str) -> Result<(), CliError> {
    let failed = |why: String| {
        let what = format!("adding {name} to the group {GROUP}: {why}");
        CliError::new(Exit::Io, what, "run `usermod` by hand, or `psictl setup` again")
    };
    let mut usermod = Command::new("usermod");
    usermod.args(["-aG", GROUP, "--", name]).stdin(Stdio::null()).stdout(Stdio::null());
    let output = usermod.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(failed(why.trim().replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_of_users_are_left_to_them() {
        let workload = |name: &str, user: &str, uid| PlannedWorkload {
            name: name.into(),
            user: user.into(),
            uid,
            ..PlannedWorkload::default()
        };
        if Scope::of_this_process() != Scope::System {
            return;
        }
        let planned = vec![
            workload("mine", "", None),
            workload("root", "root", Some(0)),
            workload("a", "web", Some(1_000)),
            workload("b", "web", Some(1_000)),
            workload("c", "unknown", None),
        ];
        let (own, users) = divide(planned);
        let names: Vec<_> = own.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["mine", "root"]);
        assert_eq!(users, [WorkloadUser { user: "web".into(), uid: 1_000 }]);
    }
}
