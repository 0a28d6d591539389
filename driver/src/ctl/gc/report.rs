//! What was removed, what was kept, and what was not looked at. Names and places, never a value.

use psi_proto::v1::{Registration, RegistrationKind};
use serde_json::json;

use super::look::Found;
use crate::ctl::args::GcOptions;

pub(super) fn as_text(found: &Found, options: &GcOptions) -> String {
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
        text += "within ten minutes, `psictl restore ID` brings a registration back, and `psictl restore --all` each of them\n";
    }
    if found.kept.iter().any(|(_, why)| !why.contains("--accept-removals")) {
        text += "`psictl gc --store FOLDER` looks at one more store; --force removes what is not proven to be unused\n";
    }
    for (root, why) in &found.unread {
        text += &format!("not looked at: {}: {why}\n", root.display());
    }
    if found.has_users {
        text += "not looked at: users' stores at other places than ~/.local/share/containers/storage, unless a registration is noted of them\n";
    }
    let stores: Vec<_> = found.stores.keys().map(|root| root.display().to_string()).collect();
    text + &format!(
        "looked at {} registrations and the stores {}\n",
        found.registered,
        stores.join(", ")
    )
}

fn of_plaintext(found: &Found, verb: &str) -> String {
    let path = found.plaintext.path();
    let path = path.display();
    let mut text = String::new();
    let removed = found.values_to_remove().len();
    if removed > 0 {
        text += &format!("{verb} {} from {path}\n", values(removed));
    }
    for (name, why) in &found.plaintext.differing {
        text += &format!("kept the value in plaintext of {name} in {path}: {why}\n");
    }
    let left = found.left_values();
    if left > 0 {
        text += &format!(
            "kept {} in {path} that no secret of podman's refers to, and psid does not serve: --remove-plaintext removes them for good\n",
            values(left)
        );
    }
    text
}

fn values(count: usize) -> String {
    if count == 1 { "1 value in plaintext".into() } else { format!("{count} values in plaintext") }
}

pub(super) fn as_json(found: &Found, options: &GcOptions) -> String {
    let one = |one: &Registration| json!({"id": one.id, "name": one.name, "about": about(one)});
    let kept = found.kept.iter().map(|(it, why)| {
        json!({"id": it.id, "name": it.name, "about": about(it), "store": it.store, "why": why})
    });
    let ids = |ids: &std::collections::BTreeSet<psi_common::SecretId>| {
        ids.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let left = if found.takes_leftover { Vec::new() } else { ids(&found.leftover) };
    let unread = found.unread.iter().map(|(root, why)| (root.display().to_string(), json!(why)));
    let report = json!({
        "dry_run": options.dry_run,
        "registered": found.registered,
        "orphans": found.unused.iter().map(one).collect::<Vec<_>>(),
        "kept": kept.collect::<Vec<_>>(),
        "only_in_clear": found.plaintext.differing,
        "values_in_clear": ids(&found.values_to_remove()),
        "leftover_in_clear": left,
        "unread": unread.collect::<serde_json::Map<_, _>>(),
        "stores": found.stores.keys().map(|root| root.display().to_string()).collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

/// The id, and podman's name where psid knows it.
fn shown(one: &Registration) -> String {
    if one.name.is_empty() { one.id.clone() } else { format!("{} ({})", one.id, one.name) }
}

fn about(registration: &Registration) -> &str {
    match registration.kind() {
        RegistrationKind::Literal => "a literal, which only psid has",
        _ => &registration.description,
    }
}
