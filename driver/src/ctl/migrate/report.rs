//! What a migration did or would do. Names, never a value.

use std::path::Path;

use serde_json::json;

use super::{Done, Moved};
use crate::ctl::args::{MigrateOptions, OldStore};
use crate::ctl::plaintext::Plaintext;

/// In the form that was asked for.
pub(super) fn of(done: &Done, options: &MigrateOptions) -> String {
    if options.json { as_json(done, options) } else { as_text(done, options) }
}

fn as_text(done: &Done, options: &MigrateOptions) -> String {
    let verb = if options.dry_run { "would move" } else { "moved" };
    let mut text = String::new();
    for Moved { name, what, compared, .. } in &done.moved {
        let alone =
            if *compared || options.dry_run { "" } else { "; the old store does not answer" };
        text += &format!("{verb} {name}: {what}{alone}\n");
    }
    for (name, why) in &done.failed {
        text += &format!("left {name}: {why}\n");
    }
    if done.moved.is_empty() && done.failed.is_empty() {
        text += match options.from {
            OldStore::File => "podman's file driver has nothing to move\n",
            OldStore::Psi => "no secret runs another psi's commands\n",
        };
    } else if !options.dry_run {
        let count = done.moved.len();
        text +=
            &format!("{count} moved, {} left; ids and names are as they were\n", done.failed.len());
    }
    let own = done.plaintext.first().map(Plaintext::folder);
    text.extend(done.plaintext.iter().map(|folder| of_plaintext(folder, own, options)));
    text
}

/// Podman's `own` folder is looked at anyway; any other one has to be named from now on.
fn of_plaintext(plaintext: &Plaintext, own: Option<&Path>, options: &MigrateOptions) -> String {
    let path = plaintext.path();
    let path = path.display();
    let mut text = String::new();
    for (name, why) in &plaintext.differing {
        text += &format!("left {name} in clear in {path}: {why}\n");
    }
    let proven = plaintext.proven.len();
    text + &match (proven, plaintext.removed) {
        (0, _) => String::new(),
        (_, removed) if removed > 0 => format!(
            "removed {removed} values in clear from {path}; what a disk or a backup has of it is not reached\n"
        ),
        _ if options.remove_plaintext => {
            format!("would remove {proven} values in clear from {path}\n")
        }
        _ if own == Some(plaintext.folder()) => format!(
            "{proven} values that psi serves are still in clear in {path}: run it with --remove-plaintext\n"
        ),
        _ => format!(
            "{proven} values that psi serves are still in clear in {path}, a folder that their record names no more: \
             run it with --remove-plaintext --plaintext {}\n",
            plaintext.folder().display()
        ),
    }
}

fn as_json(done: &Done, options: &MigrateOptions) -> String {
    let moved = done.moved.iter().map(
        |Moved { name, what, compared, .. }| json!({"name": name, "to": what, "compared": compared}),
    );
    let plaintext = done.plaintext.iter().map(|folder| {
        json!({
            "path": folder.path().display().to_string(),
            "served": folder.proven.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "differing": folder.differing,
            "removed": folder.removed,
        })
    });
    let report = json!({
        "dry_run": options.dry_run,
        "moved": moved.collect::<Vec<_>>(),
        "left": done.failed,
        "plaintext": plaintext.collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}
