//! What was removed, what was kept, and what was not read. It has names and places, never a value.

use std::collections::{BTreeMap, BTreeSet};

use psi_common::SecretId;
use psi_proto::v1::{Registration, RegistrationKind};
use serde::Serialize;

use super::inventory::GcInventory;
use crate::ctl::args::GcOptions;
use crate::ctl::json;
use crate::ctl::wording::counted;

pub(super) fn as_text(found: &GcInventory, options: &GcOptions) -> String {
    let verb = if options.dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for unused in &found.unused {
        text += &format!("{verb} {}: {}\n", shown(unused), about(unused));
    }
    for (one, why) in &found.kept {
        text += &format!("kept {}: {}; {why}\n", shown(one), about(one));
    }
    text += &of_plaintext(found, verb);
    let removes = !found.unused.is_empty() || !found.values_to_remove().is_empty();
    if !removes {
        text += "nothing to remove\n";
    } else if !found.unused.is_empty() && !options.dry_run {
        text += "within ten minutes, `psictl restore ID` restores a registration, and `psictl restore --all` all of them\n";
    }
    if found.kept.iter().any(|(_, why)| !why.contains("--accept-removals")) {
        text += "`psictl gc --store DIRECTORY` reads one more store; --force removes also what is not proven to be unused\n";
    }
    for (root, why) in &found.unread {
        text += &format!("not read: {}: {why}\n", root.display());
    }
    if found.has_users {
        text += "not read: users' stores outside ~/.local/share/containers/storage that no registration names\n";
    }
    let stores: Vec<_> = found.stores.keys().map(|root| root.display().to_string()).collect();
    text + &format!(
        "checked {} against the stores {}\n",
        counted(found.registered, "registration"),
        stores.join(", ")
    )
}

fn of_plaintext(found: &GcInventory, verb: &str) -> String {
    let path = found.plaintext.path();
    let path = path.display();
    let mut text = String::new();
    let removed = found.values_to_remove().len();
    if removed > 0 {
        text += &format!("{verb} {} from {path}\n", values(removed));
    }
    for (name, why) in &found.plaintext.differing {
        text += &format!("kept the plaintext value of {name} in {path}: {why}\n");
    }
    let left = found.left_values();
    if left > 0 {
        text += &format!(
            "kept {} in {path} that no podman secret refers to and psid does not serve: --remove-plaintext removes them permanently\n",
            values(left)
        );
    }
    text
}

fn values(count: usize) -> String {
    counted(count, "plaintext value")
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    registered: usize,
    orphans: Vec<Orphan<'a>>,
    kept: Vec<Kept<'a>>,
    only_in_clear: &'a BTreeMap<String, String>,
    values_in_clear: Vec<String>,
    leftover_in_clear: Vec<String>,
    unread: BTreeMap<String, &'a str>,
    stores: Vec<String>,
}

#[derive(Serialize)]
struct Orphan<'a> {
    id: &'a str,
    name: &'a str,
    about: &'a str,
}

#[derive(Serialize)]
struct Kept<'a> {
    #[serde(flatten)]
    orphan: Orphan<'a>,
    store: &'a str,
    why: &'a str,
}

impl<'a> Orphan<'a> {
    fn of(one: &'a Registration) -> Self {
        Self { id: &one.id, name: &one.name, about: about(one) }
    }
}

pub(super) fn as_json(found: &GcInventory, options: &GcOptions) -> String {
    let kept = found.kept.iter();
    let kept = kept.map(|(one, why)| Kept { orphan: Orphan::of(one), store: &one.store, why });
    let ids = |ids: &BTreeSet<SecretId>| ids.iter().map(ToString::to_string).collect();
    let unread = found.unread.iter().map(|(root, why)| (root.display().to_string(), why.as_str()));
    json::text(&Report {
        dry_run: options.dry_run,
        registered: found.registered,
        orphans: found.unused.iter().map(Orphan::of).collect(),
        kept: kept.collect(),
        only_in_clear: &found.plaintext.differing,
        values_in_clear: ids(&found.values_to_remove()),
        leftover_in_clear: if found.removes_leftover { Vec::new() } else { ids(&found.leftover) },
        unread: unread.collect(),
        stores: found.stores.keys().map(|root| root.display().to_string()).collect(),
    })
}

/// The id, and podman's name if psid knows it.
fn shown(one: &Registration) -> String {
    if one.name.is_empty() { one.id.clone() } else { format!("{} ({})", one.id, one.name) }
}

fn about(registration: &Registration) -> &str {
    match registration.kind() {
        RegistrationKind::Literal => "a literal that only psid has",
        _ => &registration.description,
    }
}
