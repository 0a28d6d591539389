//! The units of a workload, by the systemd manager that runs them.

use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use psi_common::{Scope, check, passwd};
use psi_proto::v1::{ChangedWorkload, OnChange};

use crate::ctl::systemctl;

/// The properties of a unit that are asked for.
const PROPERTIES: &str = "--property=Id,Type,ActiveState,InactiveExitTimestampMonotonic,SourcePath";

/// A systemd manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SystemdManager {
    /// The system's.
    System,
    /// The caller's own.
    Own { uid: u32 },
    /// That of another user, by root.
    UserOf { name: String, uid: u32 },
}

/// A unit that runs, or starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RunningUnit {
    pub(super) name: String,
    /// When it began to start, in milliseconds on the boot clock.
    pub(super) began_boot_ms: u64,
    /// Whether quadlet generated it.
    pub(super) is_quadlet: bool,
}

impl SystemdManager {
    /// The manager that runs a workload's units.
    pub(super) fn of(workload: &ChangedWorkload, scope: Scope) -> Result<Self, String> {
        match (scope, workload.uid) {
            (Scope::User { uid }, _) => Ok(Self::Own { uid }),
            (Scope::System, None | Some(0))
                if workload.user.is_empty() || workload.uid == Some(0) =>
            {
                Ok(Self::System)
            }
            (Scope::System, None) => Err(format!("its user {} is unknown", workload.user)),
            (Scope::System, Some(uid)) => match passwd::name_of(uid) {
                Some(name) => Ok(Self::UserOf { name, uid }),
                None => Err(format!("/etc/passwd has no user with uid {uid}")),
            },
        }
    }

    /// `systemctl ARGS`, for messages.
    pub(super) fn command(&self, args: &str) -> String {
        match self {
            Self::System => format!("systemctl {args}"),
            Self::Own { .. } => format!("systemctl --user {args}"),
            Self::UserOf { name, .. } => format!("systemctl --user -M {name}@ {args}"),
        }
    }

    /// The unit's name as the trail has it.
    pub(super) fn in_trail(&self, unit: &str) -> String {
        match self {
            Self::System => unit.to_owned(),
            Self::Own { uid } | Self::UserOf { uid, .. } => format!("user@{uid}.service/{unit}"),
        }
    }

    /// Runs systemctl; `Err` is its message.
    pub(super) fn call(&self, args: &[&str]) -> Result<String, String> {
        let machine;
        let manager: &[&str] = match self {
            Self::System => &[],
            Self::Own { .. } => &["--user"],
            Self::UserOf { name, .. } => {
                machine = format!("--machine={name}@");
                &["--user", &machine]
            }
        };
        systemctl::call(&[manager, args].concat())
    }

    /// Whether it runs: without systemd, or for a user without a session, there is nothing to restart.
    fn is_there(&self) -> bool {
        let is_booted = Path::new("/run/systemd/system").is_dir();
        is_booted
            && match self {
                Self::System => true,
                Self::Own { uid } | Self::UserOf { uid, .. } => {
                    Path::new("/run/user").join(uid.to_string()).join("systemd").exists()
                }
            }
    }

    /// The running units of a workload: each instance of a template, and the one that renders its files if it is reloaded.
    pub(super) fn running(&self, workload: &ChangedWorkload) -> Result<Vec<RunningUnit>, String> {
        if !self.is_there() {
            return Ok(Vec::new());
        }
        let name = &workload.name;
        let pattern = match name.ends_with('@') {
            true => format!("{name}*.service"),
            false => format!("{name}.service"),
        };
        let render = render_unit(name);
        let mut args = vec!["show", PROPERTIES, "--", &pattern];
        if workload.on_change() == OnChange::Reload {
            args.push(&render);
        }
        let shown = self.call(&args)?;
        Ok(parse(&shown, suspended()?))
    }

    /// Whether a unit is active.
    pub(super) fn is_active(&self, unit: &str) -> Result<bool, String> {
        let state = self.call(&["show", "--property=ActiveState", "--value", "--", unit])?;
        Ok(state == "active")
    }
}

impl RunningUnit {
    /// The unit, if it read its secrets again at a later time.
    pub(super) fn reloaded_at(self, boot_ms: Option<u64>) -> Self {
        let began_boot_ms = self.began_boot_ms.max(boot_ms.unwrap_or_default());
        Self { began_boot_ms, ..self }
    }
}

/// The unit that renders a workload's files.
pub(super) fn render_unit(workload: &str) -> String {
    format!("psi-render@{workload}.service")
}

/// The present time on the boot clock, in milliseconds.
pub(super) fn boot_ms() -> std::io::Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// How long the host was suspended since the boot: the boot clock counts that, systemd's monotonic times do not.
fn suspended() -> Result<Duration, String> {
    let read = |clock| clock_gettime(clock).map(Duration::from).map_err(|error| error.to_string());
    let monotonic = read(ClockId::CLOCK_MONOTONIC)?;
    Ok(read(ClockId::CLOCK_BOOTTIME)?.saturating_sub(monotonic))
}

/// The running units in the output of `systemctl show`: lines `NAME=VALUE`, a blank line between units.
fn parse(shown: &str, suspended: Duration) -> Vec<RunningUnit> {
    let unit = |block: &str| {
        let value =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let runs = ["active", "reloading", "refreshing", "activating"];
        let name = value("Id").filter(|name| check::unit(name).is_ok())?;
        let _ = value("ActiveState").filter(|state| runs.contains(state))?;
        let began: u64 = value("InactiveExitTimestampMonotonic")?.parse().ok()?;
        let began = Duration::from_micros(began) + suspended;
        let began_boot_ms = u64::try_from(began.as_millis()).ok()?;
        let source = value("SourcePath").map(Path::new).and_then(Path::extension);
        let is_quadlet = source.is_some_and(|it| it == "container" || it == "kube");
        // A job is not interrupted, nor run once more: its next run has the new values.
        let is_job = is_quadlet && value("Type") == Some("oneshot");
        if is_job {
            return None;
        }
        Some(RunningUnit { name: name.to_owned(), began_boot_ms, is_quadlet })
    };
    shown.split("\n\n").filter_map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_units_are_those_that_are_active_or_start_but_no_jobs() {
        let shown = "Id=job@a.service\nActiveState=active\nInactiveExitTimestampMonotonic=5000999\nSourcePath=/etc/containers/systemd/job@.container\n\n\
            Id=job@b.service\nActiveState=inactive\nInactiveExitTimestampMonotonic=6000000\n\n\
            ActiveState=activating\nInactiveExitTimestampMonotonic=7000000\nId=job@c.service\n\n\
            Id=job@d.service\nActiveState=failed\nInactiveExitTimestampMonotonic=0\n\n\
            Id=job@e.service\nType=oneshot\nActiveState=activating\nInactiveExitTimestampMonotonic=1\nSourcePath=/etc/containers/systemd/job@.container\n\n\
            Id=psi-render@job.service\nType=oneshot\nActiveState=active\nInactiveExitTimestampMonotonic=8000000\nSourcePath=\n\n\
            Id=../x.service\nActiveState=active\nInactiveExitTimestampMonotonic=1";
        let found = parse(shown, Duration::from_secs(10));
        let names: Vec<_> =
            found.iter().map(|it| (it.name.as_str(), it.began_boot_ms, it.is_quadlet)).collect();
        let expected = [
            ("job@a.service", 15_000, true),
            ("job@c.service", 17_000, false),
            ("psi-render@job.service", 18_000, false),
        ];
        assert_eq!(names, expected);
        assert_eq!(parse("", Duration::ZERO), []);
    }

    #[test]
    fn manager_is_that_of_the_workloads_user() {
        let workload = |user: &str, uid| ChangedWorkload {
            user: user.into(),
            uid,
            ..ChangedWorkload::default()
        };
        let of = |user, uid| SystemdManager::of(&workload(user, uid), Scope::System);
        assert_eq!(of("", None), Ok(SystemdManager::System));
        assert_eq!(of("root", Some(0)), Ok(SystemdManager::System));
        assert!(of("anna", None).is_err() && of("4000000", Some(4_000_000)).is_err());
        let own = SystemdManager::of(&workload("anna", Some(7)), Scope::User { uid: 7 });
        assert_eq!(own, Ok(SystemdManager::Own { uid: 7 }));
    }
}
