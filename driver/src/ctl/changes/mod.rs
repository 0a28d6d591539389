//! The units that run with an older value of a secret. psid reports which values changed in this boot and which units
//! looked the new ones up; systemd, when each unit began to start. podman reads a secret when it creates the container, so
//! a unit that began to start before psid saw the change has the older value.

pub(super) mod apply;
mod reloads;
mod units;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use psi_common::{Paths, Problem, Scope, check};
use psi_proto::v1::{ChangedSecret, ChangedWorkload, OnChange};

use serde::Serialize;

use super::wording::{ago, counted, named};
use crate::client::{Client, Deadline};
use reloads::reloads;
use units::{RunningUnit, SystemdManager, render_unit};

/// The names in one line; more are counted.
const MAX_NAMES: usize = 5;

/// A workload with units that run with an older value.
pub(super) struct Outdated {
    pub(super) workload: ChangedWorkload,
    manager: SystemdManager,
    /// The one that renders the files of the others first.
    pub(super) units: Vec<OutdatedUnit>,
}

/// A unit that runs with an older value.
pub(super) struct OutdatedUnit {
    pub(super) name: String,
    /// The podman names of the secrets that changed after it began to start.
    pub(super) secrets: BTreeSet<String>,
    /// When the last of them changed, in milliseconds since 1970 UTC.
    pub(super) at_ms: u64,
    /// Whether quadlet generated it.
    is_quadlet: bool,
}

/// What was found of the changed workloads.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) outdated: Vec<Outdated>,
    /// Why the units of a workload are not known.
    pub(super) unknown: Vec<String>,
}

/// The workloads with outdated units, by name. What could not be asked is among the unknown.
pub(super) fn look(paths: &Paths, deadline: Deadline) -> Changes {
    match Client::new(paths, deadline).changes() {
        Ok(changed) => find(paths, changed),
        Err(failure) => {
            let why = format!("which values changed is not known: {failure}");
            Changes { outdated: Vec::new(), unknown: vec![why] }
        }
    }
}

fn find(paths: &Paths, changed: Vec<ChangedWorkload>) -> Changes {
    let (scope, reloads) = (Scope::of_this_process(), reloads(paths));
    let mut found = Changes::default();
    for workload in changed {
        let name = workload.name.as_str();
        let units = check::workload(name).map_err(|error| error.to_string()).and_then(|()| {
            let manager = SystemdManager::of(&workload, scope)?;
            let is_done = has_new_values(&workload, &manager);
            let units = if is_done { Vec::new() } else { manager.running(&workload)? };
            Ok((manager, units))
        });
        match units {
            Ok((manager, units)) => {
                let units = reloads.last_reads(units, &manager, &render_unit(name)).into_iter();
                let units: Vec<_> =
                    units.filter_map(|unit| outdated(&unit, &workload.secrets, &manager)).collect();
                if !units.is_empty() {
                    found.outdated.push(Outdated { workload, manager, units });
                }
            }
            Err(why) => found.unknown.push(format!("the units of workload {name}: {why}")),
        }
    }
    found
}

/// Whether the workload's unit looked up each secret that changed, so that systemd need not be asked: each question to a
/// user's manager opens a login session of the user. A template may have other instances.
fn has_new_values(workload: &ChangedWorkload, manager: &SystemdManager) -> bool {
    let in_trail = manager.in_trail(&format!("{}.service", workload.name));
    !workload.name.ends_with('@')
        && workload.secrets.iter().all(|secret| secret.used_by.contains(&in_trail))
}

/// A unit with the secrets that changed after it began to start, unless it looked them up since.
fn outdated(
    unit: &RunningUnit,
    secrets: &[ChangedSecret],
    manager: &SystemdManager,
) -> Option<OutdatedUnit> {
    let in_trail = manager.in_trail(&unit.name);
    let older = |secret: &&ChangedSecret| {
        secret.at_boot_ms >= unit.began_boot_ms && !secret.used_by.contains(&in_trail)
    };
    let older: Vec<&ChangedSecret> = secrets.iter().filter(older).collect();
    let at_ms = older.iter().map(|secret| secret.at_ms).max()?;
    let secrets = older.into_iter().map(|secret| secret.name.clone()).collect();
    let (name, is_quadlet) = (unit.name.clone(), unit.is_quadlet);
    Some(OutdatedUnit { name, secrets, at_ms, is_quadlet })
}

impl Changes {
    /// The units for reports, by workload and name.
    pub(super) fn units(&self) -> Vec<ReportedUnit<'_>> {
        self.outdated.iter().flat_map(Outdated::reported).collect()
    }
}

/// A unit that runs with an older value, in JSON.
#[derive(Serialize)]
pub(super) struct ReportedUnit<'a> {
    pub(super) unit: &'a str,
    pub(super) workload: &'a str,
    user: Option<&'a str>,
    pub(super) secrets: &'a BTreeSet<String>,
    pub(super) changed_at_ms: u64,
}

impl ReportedUnit<'_> {
    /// What is wrong with it, and what fixes it.
    pub(super) fn problem(&self, now: SystemTime) -> Problem {
        let then = SystemTime::UNIX_EPOCH + Duration::from_millis(self.changed_at_ms);
        let changed = ago(now.duration_since(then).unwrap_or_default());
        let of_user = self.user.map(|user| format!(" of user {user}")).unwrap_or_default();
        let what = format!(
            "{}{of_user} runs with an older value of {}, changed {changed}",
            self.unit,
            secrets_in_words(self.secrets)
        );
        Problem::new(what, format!("run `psictl apply-changes {}`", self.workload))
    }
}

/// `2 secrets (a, b)`.
fn secrets_in_words(secrets: &BTreeSet<String>) -> String {
    let names = named(secrets.iter().map(String::as_str), MAX_NAMES);
    format!("{} ({names})", counted(secrets.len(), "secret"))
}

impl Outdated {
    fn reported(&self) -> impl Iterator<Item = ReportedUnit<'_>> {
        let user = Some(self.workload.user.as_str()).filter(|user| !user.is_empty());
        self.units.iter().map(move |unit| ReportedUnit {
            unit: &unit.name,
            workload: &self.workload.name,
            user,
            secrets: &unit.secrets,
            changed_at_ms: unit.at_ms,
        })
    }

    pub(super) fn action(&self) -> OnChange {
        self.workload.on_change()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, at_boot_ms: u64, used_by: &[&str]) -> ChangedSecret {
        let used_by = used_by.iter().map(ToString::to_string).collect();
        ChangedSecret { name: name.into(), at_boot_ms, at_ms: at_boot_ms + 1, used_by }
    }

    #[test]
    fn unit_is_outdated_by_what_changed_after_it_began_to_start_and_was_not_looked_up_since() {
        let unit = RunningUnit { name: "web.service".into(), began_boot_ms: 100, is_quadlet: true };
        let names = |secrets: &[ChangedSecret]| {
            let found = outdated(&unit, secrets, &SystemdManager::System);
            found
                .map(|found| (found.secrets.into_iter().collect::<Vec<_>>().join(" "), found.at_ms))
        };
        assert_eq!(names(&[secret("a", 99, &[])]), None);
        assert_eq!(names(&[secret("a", 100, &[])]), Some(("a".into(), 101)));
        assert_eq!(names(&[secret("a", 200, &["web.service"])]), None);
        let secrets =
            [secret("a", 99, &[]), secret("b", 300, &["db.service"]), secret("c", 200, &[])];
        assert_eq!(names(&secrets), Some(("b c".into(), 301)));
    }

    #[test]
    fn systemd_is_asked_until_the_unit_has_looked_up_each_secret() {
        let is_done = |name: &str, by: &[&str]| {
            let secrets = vec![secret("a", 200, &["web.service"]), secret("b", 200, by)];
            let workload = ChangedWorkload { name: name.into(), secrets, ..Default::default() };
            has_new_values(&workload, &SystemdManager::System)
        };
        assert!(is_done("web", &["other.service", "web.service"]));
        assert!(!is_done("web", &["other.service"]));
        assert!(!is_done("web", &[]));
        assert!(!is_done("web@", &["web@.service"]), "of which instance?");
    }

    #[test]
    fn unit_of_a_user_has_the_name_of_its_manager_in_the_trail() {
        let unit = RunningUnit { name: "web.service".into(), began_boot_ms: 100, is_quadlet: true };
        let manager = SystemdManager::UserOf { name: "anna".into(), uid: 1_000 };
        let is_outdated =
            |by: &str| outdated(&unit, &[secret("a", 200, &[by])], &manager).is_some();
        assert!(is_outdated("web.service"));
        assert!(!is_outdated("user@1000.service/web.service"));
    }
}
