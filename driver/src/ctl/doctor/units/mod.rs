//! The units and containers that need secrets of podman: quadlets, other units that run podman, and containers of
//! compose and of commands.

mod containers;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use psi_common::{Finding, Paths, Scope};
use serde::Serialize;

use super::named;
use super::secrets::Inventory;
use super::workloads::Workloads;
use crate::ctl::args::DoctorOptions;
use crate::ctl::podman::Container;
use crate::ctl::quadlet::{self, Quadlet, SecretUse};
use crate::ctl::wording::counted;

/// The kind of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum UnitKind {
    Quadlet,
    Service,
    Compose,
    Container,
}

/// A unit or a container, and the secrets without which it does not start.
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) kind: UnitKind,
    /// The file that names the secrets; a container has none.
    pub(super) path: Option<PathBuf>,
    /// The user whose podman runs it; none: the one that doctor examines.
    pub(super) user: Option<String>,
    pub(super) secrets: BTreeSet<String>,
}

/// All units, and what quadlet refuses.
pub(super) struct Units {
    pub(super) quadlets: Vec<Quadlet>,
    /// The units of the podman that doctor examines.
    pub(super) own: Vec<Unit>,
    /// Units of root's service manager that run another user's podman.
    pub(super) of_users: Vec<Unit>,
}

impl Units {
    pub(super) fn load(
        paths: &Paths,
        options: &DoctorOptions,
        containers: &[Container],
        inventory: &Inventory,
    ) -> Self {
        let scope = Scope::of_this_process();
        let directories = options.quadlets.as_ref().map_or_else(
            || quadlet::directories(scope, &paths.quadlets),
            |directory| quadlet::below(directory),
        );
        let quadlets = quadlet::containers(&directories);
        let directories = match &options.units {
            Some(directory) => vec![directory.clone()],
            None => services::directories(scope, paths),
        };
        let services = services::load(&directories);
        let (of_users, mut own): (Vec<Unit>, Vec<Unit>) =
            services.into_iter().partition(|unit| unit.user.is_some());
        own.extend(quadlets.iter().map(Unit::of_quadlet));
        let known: BTreeSet<String> = own.iter().map(|unit| unit.name.clone()).collect();
        own.extend(containers::load(containers, &known));
        for unit in &mut own {
            let names = std::mem::take(&mut unit.secrets);
            unit.secrets = names.into_iter().map(|name| inventory.name_of(name)).collect();
        }
        own.sort_by(|a, b| a.name.cmp(&b.name));
        Self { quadlets, own, of_users }
    }

    pub(super) fn findings(&self, inventory: &Inventory, workloads: &Workloads) -> Vec<Finding> {
        let refused = self.quadlets.iter().flat_map(|quadlet| {
            let unit = quadlet.unit.as_str();
            quadlet.refused.iter().map(move |problem| {
                let finding = Finding::error(problem.what.as_str(), problem.remedy.as_str());
                finding.of("quadlet-refused").on_units([unit])
            })
        });
        let mut findings: Vec<Finding> = refused.collect();
        if inventory.has_podman {
            findings.extend(missing(&self.own, inventory, workloads));
        }
        findings
    }
}

impl Unit {
    fn of_quadlet(quadlet: &Quadlet) -> Self {
        Self {
            name: quadlet.unit.clone(),
            kind: UnitKind::Quadlet,
            path: Some(quadlet.path.clone()),
            user: None,
            secrets: names_of(&quadlet.secrets),
        }
    }
}

fn names_of(uses: &BTreeSet<SecretUse>) -> BTreeSet<String> {
    uses.iter().map(|one| one.name.clone()).collect()
}

/// The secrets that units need and podman lacks: those of workloads in one finding, for one command makes them all.
fn missing(units: &[Unit], inventory: &Inventory, workloads: &Workloads) -> Vec<Finding> {
    let mut needed: BTreeMap<&str, Vec<&Unit>> = BTreeMap::new();
    for unit in units {
        for name in unit.secrets.iter().filter(|name| !inventory.secrets.has(name)) {
            needed.entry(name).or_default().push(unit);
        }
    }
    let (planned, others): (BTreeMap<&str, Vec<&Unit>>, BTreeMap<_, _>) =
        needed.into_iter().partition(|(name, _)| workloads.has(name));
    let mut findings: Vec<Finding> =
        others.iter().map(|(name, units)| by_hand(name, units, inventory)).collect();
    if !planned.is_empty() {
        let names: Vec<&str> = planned.keys().copied().collect();
        let units: BTreeSet<&str> =
            planned.values().flatten().map(|unit| unit.name.as_str()).collect();
        let what = format!(
            "podman has no {} of workloads, named by {}: {}",
            if names.len() == 1 { "secret".to_owned() } else { counted(names.len(), "secret") },
            named(units.iter().copied()),
            named(names.iter().copied())
        );
        let finding = Finding::error(what, "`psictl setup` creates them").of("secret-missing");
        findings.push(finding.affecting(names).on_units(units));
    }
    findings
}

/// A secret that no workload has.
fn by_hand(name: &str, units: &[&Unit], inventory: &Inventory) -> Finding {
    let places = units.iter().map(|unit| match &unit.path {
        Some(path) => format!("{} ({})", unit.name, path.display()),
        None => unit.name.clone(),
    });
    let places: Vec<String> = places.collect();
    let places = named(places.iter().map(String::as_str));
    let elsewhere = inventory.stores_with(name);
    let elsewhere = match elsewhere.is_empty() {
        true => String::new(),
        false => format!("; only the podman of {} has it", named(elsewhere)),
    };
    let what = format!("podman has no secret {name}, named by {places}{elsewhere}");
    let remedy = format!("`podman secret create {name} -` creates it from stdin");
    Finding::error(what, remedy)
        .of("secret-missing")
        .affecting([name])
        .on_units(units.iter().map(|unit| unit.name.as_str()))
}
