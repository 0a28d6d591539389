//! The workloads of the config, and whether their quadlets have their secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use psi_common::{Finding, Paths, Problem};
use psi_proto::v1::{PlanRequest, PlannedWorkload, StatusResponse};

use super::named;
use crate::client::{Client, Deadline};
use crate::ctl::quadlet::Quadlet;
use crate::ctl::setup::{self, DropIn, Outsiders, Present};
use crate::ctl::wording::counted;
use crate::error::CliError;

/// The workloads as psid plans them from its cache, and psi's drop-ins.
pub(super) struct Workloads {
    quadlets: PathBuf,
    planned: Vec<PlannedWorkload>,
    /// The workloads that other users' podmans run.
    of_users: Vec<PlannedWorkload>,
    outsiders: Outsiders,
    drop_ins: BTreeMap<String, DropIn>,
    failure: Option<Finding>,
    /// The secrets of plans and drop-ins.
    names: BTreeSet<String>,
}

impl Workloads {
    pub(super) fn load(
        paths: &Paths,
        quadlets: &Path,
        status: &Result<StatusResponse, CliError>,
    ) -> Self {
        let (mut planned, mut failure) = (Vec::new(), None);
        // A psid that is down is a finding of its own.
        if status.is_ok() {
            match Client::new(paths, Deadline::Probe).plan(&PlanRequest::default(), &mut |_| {}) {
                Ok(plan) => planned = plan,
                Err(error) => {
                    let Problem { what, remedy } = error.into_problem();
                    failure = Some(Finding::warning(what, remedy).of("psid"));
                }
            }
        }
        let outsiders = setup::outsiders(&planned);
        let (planned, of_users) = setup::divide(planned);
        let drop_ins = DropIn::all_written_by_psi(quadlets);
        let of_plan =
            planned.iter().flat_map(|workload| workload.secrets.iter().chain(&workload.kube));
        let names = of_plan.map(|secret| secret.name.clone());
        let of_drop_ins = drop_ins.values().flat_map(|drop_in| drop_in.lines().into_keys());
        let names = names.chain(of_drop_ins).collect();
        Self {
            quadlets: quadlets.to_owned(),
            planned,
            of_users,
            outsiders,
            drop_ins,
            failure,
            names,
        }
    }

    /// Whether a user's `psictl setup` makes a secret.
    pub(super) fn has_of_user(&self, name: &str, uid: u32) -> bool {
        let mut of_user = self.of_users.iter().filter(|workload| workload.uid == Some(uid));
        of_user.any(|workload| {
            workload.secrets.iter().chain(&workload.kube).any(|secret| secret.name == name)
        })
    }

    /// The users of workloads whose podmans cannot connect to psid.
    fn outsiders(&self) -> impl Iterator<Item = Finding> {
        let problem = self.outsiders.problem.iter();
        let problem = problem.map(|Problem { what, remedy }| Finding::error(what, remedy));
        let users = self.outsiders.users.iter().map(|user| {
            let (name, uid) = (&user.name, user.uid);
            let what = format!(
                "{name}, the user of a workload, is no member of the group psi-users, so that its podman does not \
                 reach psid"
            );
            Finding::error(what, format!("`psictl setup`, then `systemctl restart user@{uid}.service`"))
        });
        problem.chain(users).map(|finding| finding.of("user-outside"))
    }

    /// Whether `psictl setup` makes a secret.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn findings(&self, quadlets: &[Quadlet]) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            self.failure.iter().cloned().chain(self.outsiders()).collect();
        for workload in self.planned.iter().filter(|workload| workload.error.is_empty()) {
            if let Some(quadlet) = of_workload(quadlets, &workload.name) {
                findings.extend(self.without_secrets(workload, quadlet));
            }
        }
        // The quadlet of a workload for `podman kube play` is no container, if it has one at all.
        let is_kube =
            |name: &str| self.planned.iter().any(|one| one.name == name && one.kube.is_some());
        let unused = self.drop_ins.iter();
        let unused =
            unused.filter(|(name, _)| of_workload(quadlets, name).is_none() && !is_kube(name));
        findings.extend(unused.map(|(name, drop_in)| {
            let unit = self.quadlets.join(format!("{name}.container"));
            let what = format!(
                "{} has no effect: {} does not exist",
                drop_in.path.display(),
                unit.display()
            );
            let remedy =
                "give the workload in the config its quadlet's name, or install the quadlet";
            Finding::warning(what, remedy).of("quadlet-missing")
        }));
        findings
    }

    /// A quadlet that does not name its workload's secrets: podman starts the container without them.
    fn without_secrets(&self, workload: &PlannedWorkload, quadlet: &Quadlet) -> Option<Finding> {
        let planned = workload.secrets.iter().filter(|secret| secret.error.is_empty());
        let planned: Vec<&str> = planned.map(|secret| secret.name.as_str()).collect();
        let is_named = |name: &str| quadlet.secrets.iter().any(|one| one.name == name);
        let lacking: Vec<&str> = planned.iter().copied().filter(|name| !is_named(name)).collect();
        if lacking.is_empty() {
            return None;
        }
        let drop_in = DropIn::of(&self.quadlets, &workload.name);
        let path = drop_in.path.display();
        let secrets = counted(lacking.len(), "secret");
        let starts = format!("{} starts without {secrets} of its workload", quadlet.unit);
        let (cause, why, remedy) = match &drop_in.present {
            Present::Nothing => ("drop-in-missing", "does not exist", "`psictl setup` writes it"),
            Present::Ours(_) if drop_in.lines().is_empty() => {
                ("drop-in-empty", "names no secret", "`psictl setup` writes it")
            }
            Present::Ours(_) => ("drop-in-outdated", "does not name them", "`psictl setup`"),
            Present::Foreign(why) => ("drop-in-foreign", why.as_str(), "`psictl setup`"),
        };
        let names = named(lacking.iter().copied());
        let what = format!("{starts}: {path} {why}: {names}");
        // Some containers do with the secrets that they have.
        let finding = match lacking.len() == planned.len() {
            true => Finding::error(what, remedy),
            false => Finding::warning(what, remedy),
        };
        Some(finding.of(cause).affecting(lacking).on_units([quadlet.unit.as_str()]))
    }
}

fn of_workload<'a>(quadlets: &'a [Quadlet], workload: &str) -> Option<&'a Quadlet> {
    quadlets.iter().find(|quadlet| quadlet.path.file_stem().is_some_and(|stem| stem == workload))
}
