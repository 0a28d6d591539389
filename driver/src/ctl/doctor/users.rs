//! Other users' units that name secrets which their podman lacks: rootless podman has a store of its own, and does not
//! see root's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use psi_common::passwd::{self, User};
use psi_common::{Finding, Scope};

use super::named;
use super::secrets::Inventory;
use super::units::Unit;
use super::workloads::Workloads;
use crate::ctl::podman::{OfDriver, STORE_IN_HOME, record_in_home};
use crate::ctl::quadlet;

/// The secrets that a user's units name, each with the units.
type Needed = BTreeMap<String, BTreeSet<String>>;

/// The findings about the units of all users; only root can read their stores.
pub(super) fn findings(
    of_users: &[Unit],
    inventory: &Inventory,
    workloads: &Workloads,
) -> Vec<Finding> {
    if Scope::of_this_process() != Scope::System {
        return Vec::new();
    }
    let users = passwd::users().unwrap_or_default();
    let others = users.iter().filter(|user| user.uid != 0 && user.home.is_absolute());
    let of_user = |user| of_user(user, &needed(user, of_users), inventory, workloads);
    others.flat_map(of_user).collect()
}

/// The secrets of a user's own quadlets, and of root's units that run podman as this user.
fn needed(user: &User, of_users: &[Unit]) -> Needed {
    let mut needed = Needed::new();
    let own = user.quadlets();
    let of_admin = Path::new("/etc/containers/systemd/users").join(user.uid.to_string());
    // A quadlet for every user is none of a user who has no other.
    if own.is_dir() || of_admin.is_dir() {
        let directories = quadlet::directories(Scope::User { uid: user.uid }, &own);
        for quadlet in quadlet::containers(&directories) {
            for secret in quadlet.secrets {
                needed.entry(secret.name).or_default().insert(quadlet.unit.clone());
            }
        }
    }
    let is_users = |unit: &&Unit| unit.user.as_deref().is_some_and(|named| user.is_meant_by(named));
    for unit in of_users.iter().filter(is_users) {
        for name in &unit.secrets {
            needed.entry(name.clone()).or_default().insert(unit.name.clone());
        }
    }
    needed
}

fn of_user(
    user: &User,
    needed: &Needed,
    inventory: &Inventory,
    workloads: &Workloads,
) -> Vec<Finding> {
    if needed.is_empty() {
        return Vec::new();
    }
    let store = user.home.join(STORE_IN_HOME);
    let record = match record_in_home(&user.home, OfDriver::Any) {
        Ok(record) => record.unwrap_or_default(),
        Err(error) => {
            let what = format!("reading the podman secrets in {}: {error}", store.display());
            return vec![
                Finding::warning(what, "`podman secret ls` as that user").of("podman-of-user"),
            ];
        }
    };
    let has = |name: &str| {
        record.iter().any(|(id, known)| known == name || id.as_str().starts_with(name))
    };
    let missing = needed.iter().filter(|(name, _)| !has(name));
    let all = missing.map(|(name, units)| {
        let units = units.iter().map(|unit| format!("{unit} of {}", user.name));
        let units: Vec<String> = units.collect();
        let (cause, roots) = match inventory.secrets.has(name) {
            true => ("secret-of-root", ", and does not see root's secret of this name"),
            false => ("secret-missing", ""),
        };
        let what = format!(
            "the podman of {} ({}) has no secret {name}{roots}; it is named by {}",
            user.name,
            store.display(),
            named(units.iter().map(String::as_str))
        );
        let remedy = match workloads.has_of_user(name, user.uid) {
            true => format!("as {}: `psictl setup`", user.name),
            false => format!("as {}: `podman secret create {name} -`", user.name),
        };
        Finding::error(what, remedy).of(cause).on_units(units.iter().map(String::as_str))
    });
    all.collect()
}
