//! The users of workloads: root's setup leaves their workloads to them, and makes them members of the group that may
//! connect to psid's socket for users.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use nix::unistd::{Group, Uid, User};
use psi_common::{Problem, Scope, passwd};
use psi_proto::v1::PlannedWorkload;
use serde::Serialize;

/// The group of `/run/psi/users.sock`.
const GROUP: &str = "psi-users";

/// A user of workloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::ctl) struct WorkloadUser {
    pub(in crate::ctl) name: String,
    pub(in crate::ctl) uid: u32,
}

/// The users of workloads that cannot connect to psid.
#[derive(Debug, Default)]
pub(in crate::ctl) struct Outsiders {
    /// Those that are no members of the group.
    pub(in crate::ctl) users: Vec<WorkloadUser>,
    /// Why nobody can become one.
    pub(in crate::ctl) problem: Option<Problem>,
}

/// The workloads that this process's podman runs, and those that other users' run.
pub(in crate::ctl) fn divide(
    planned: Vec<PlannedWorkload>,
) -> (Vec<PlannedWorkload>, Vec<PlannedWorkload>) {
    if Scope::of_this_process() != Scope::System {
        return (planned, Vec::new());
    }
    let is_own = |workload: &PlannedWorkload| workload.uid.is_none_or(|uid| uid == 0);
    let (mut own, others): (Vec<_>, Vec<_>) = planned.into_iter().partition(is_own);
    for PlannedWorkload { user, uid, error, .. } in &mut own {
        if !user.is_empty() && uid.is_none() && error.is_empty() {
            *error = format!(
                "psid does not know its user {user}, so that nothing is set up for it; see `getent passwd {user}`, or \
                 correct the config"
            );
        }
    }
    (own, others)
}

/// The users of root's config that cannot connect to psid; only root can change that.
pub(in crate::ctl) fn outsiders(planned: &[PlannedWorkload]) -> Outsiders {
    let uids = planned.iter().filter_map(|workload| workload.uid).filter(|uid| *uid != 0);
    let uids: BTreeSet<u32> = uids.collect();
    if uids.is_empty() || Scope::of_this_process() != Scope::System {
        return Outsiders::default();
    }
    let Some(group) = Group::from_name(GROUP).ok().flatten() else {
        let what = format!("there is no group {GROUP}, to which the users of workloads belong");
        let problem = Some(Problem::new(what, "make it with `systemd-sysusers`"));
        return Outsiders { users: Vec::new(), problem };
    };
    let users = passwd::users().unwrap_or_default();
    let is_member = |user: &WorkloadUser| {
        let is_primary = |one: &passwd::User| one.uid == user.uid && one.gid == group.gid.as_raw();
        group.mem.contains(&user.name) || users.iter().any(is_primary)
    };
    let mut others: Vec<_> = uids.into_iter().map(WorkloadUser::of).collect();
    others.retain(|user| !is_member(user));
    others.sort();
    Outsiders { users: others, problem: None }
}

impl WorkloadUser {
    fn of(uid: u32) -> Self {
        let of_directory = || User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let name = passwd::name_of(uid).or_else(|| of_directory().map(|user| user.name));
        Self { name: name.unwrap_or_else(|| uid.to_string()), uid }
    }

    /// Makes it a member of the group.
    pub(super) fn admit(&self) -> Result<(), String> {
        let name = self.name.as_str();
        // gpasswd knows the users of a directory service too; adduser is that of busybox.
        let commands: [(&str, &[&str]); 3] = [
            ("usermod", &["-aG", GROUP, name]),
            ("gpasswd", &["-a", name, GROUP]),
            ("adduser", &[name, GROUP]),
        ];
        let remedy = format!("make {name} a member of the group {GROUP} by hand");
        if name.starts_with('-') {
            return Err(format!("no command takes this name; {remedy}"));
        }
        let mut failure = None;
        for (program, args) in commands {
            match run(program, args) {
                Ok(()) => return Ok(()),
                Err(None) => {}
                Err(Some(why)) => {
                    failure.get_or_insert(why);
                }
            }
        }
        let why = failure.unwrap_or_else(|| "this host has neither usermod nor gpasswd".into());
        Err(format!("{why}; {remedy}"))
    }

    /// What was done with it, or would be.
    pub(super) fn admitted(&self, verb: &str) -> String {
        let Self { name, uid } = self;
        format!(
            "{verb} {name} to the group {GROUP}; its running podman reaches psid after `systemctl restart \
             user@{uid}.service`\n"
        )
    }
}

/// Runs a command; the error is none if the host does not have it.
fn run(program: &str, args: &[&str]) -> Result<(), Option<String>> {
    let directories = ["", "/usr/sbin/", "/sbin/"].into_iter();
    let outputs = directories.map(|directory| {
        let mut command = Command::new(format!("{directory}{program}"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).output()
    });
    let is_missing = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
    };
    let mut outputs = outputs.skip_while(|output| output.as_ref().is_err_and(is_missing));
    match outputs.next() {
        None => Err(None),
        Some(Err(error)) => Err(Some(format!("{program}: {error}"))),
        Some(Ok(output)) if output.status.success() => Ok(()),
        Some(Ok(output)) => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(Some(why.trim().replace(|c: char| c.is_control(), " ")))
        }
    }
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
            workload("c", "unknown", None),
        ];
        let (own, others) = divide(planned);
        let names = own.iter().map(|one| (one.name.as_str(), !one.error.is_empty()));
        let names: Vec<_> = names.collect();
        assert_eq!(names, [("mine", false), ("root", false), ("c", true)]);
        assert_eq!((others.len(), others[0].name.as_str()), (1, "a"));
    }

    #[test]
    fn run_distinguishes_a_missing_program_from_one_that_fails() {
        assert_eq!(run("no program of this name", &[]), Err(None));
        assert_eq!(run("true", &[]), Ok(()));
        assert!(run("ls", &["/no such directory"]).unwrap_err().unwrap().contains("ls: "));
    }
}
