//! What a migration did or would do. It has names, never a value.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{Moved, Outcome};
use crate::ctl::args::{MigrateOptions, OldStore};
use crate::ctl::json;
use crate::ctl::plaintext::Plaintext;
use crate::ctl::wording::counted;

/// The report as text or JSON.
pub(super) fn of(done: &Outcome, from: OldStore, options: &MigrateOptions) -> String {
    if options.json { as_json(done, options) } else { as_text(done, from, options) }
}

fn as_text(done: &Outcome, from: OldStore, options: &MigrateOptions) -> String {
    let verb = if options.dry_run { "would move" } else { "moved" };
    let mut text = String::new();
    for Moved { name, what, compared, .. } in &done.moved {
        let alone = if *compared || options.dry_run {
            ""
        } else {
            "; not compared, because the old store does not answer"
        };
        text += &format!("{verb} {name}: {what}{alone}\n");
    }
    for (name, why) in &done.failed {
        text += &format!("left {name}: {why}\n");
    }
    if done.moved.is_empty() && done.failed.is_empty() {
        text += match from {
            OldStore::File => "podman's file driver has no secret to move\n",
            OldStore::Psi => "no secret has the commands of another psi\n",
        };
    } else if !options.dry_run {
        let count = done.moved.len();
        text +=
            &format!("{count} moved, {} left; ids and names are unchanged\n", done.failed.len());
    }
    let default = done.plaintext.first().map(Plaintext::directory);
    text.extend(done.plaintext.iter().map(|directory| of_plaintext(directory, default, options)));
    text
}

/// The lines of one directory. Podman's `default` directory is read anyway; any other one has to be given from now on.
fn of_plaintext(plaintext: &Plaintext, default: Option<&Path>, options: &MigrateOptions) -> String {
    let path = plaintext.path();
    let path = path.display();
    let mut text = String::new();
    for (name, why) in &plaintext.differing {
        text += &format!("left the plaintext value of {name} in {path}: {why}\n");
    }
    let proven = counted(plaintext.proven.len(), "plaintext value");
    text + &match (plaintext.proven.len(), plaintext.removed) {
        (0, _) => String::new(),
        (_, removed) if removed > 0 => format!(
            "removed {} from {path}; the disk's free blocks and backups may still have them\n",
            counted(removed, "plaintext value")
        ),
        _ if options.remove_plaintext => format!("would remove {proven} from {path}\n"),
        _ if default == Some(plaintext.directory()) => format!(
            "{path} still has {proven} that psi serves: run it again with --remove-plaintext\n"
        ),
        _ => format!(
            "{path} still has {proven} that psi serves, in a directory that podman's record no longer has: \
             run it again with --remove-plaintext --plaintext {}\n",
            plaintext.directory().display()
        ),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    moved: Vec<MovedSecret<'a>>,
    left: &'a BTreeMap<String, String>,
    plaintext: Vec<PlaintextDirectory<'a>>,
}

#[derive(Serialize)]
struct MovedSecret<'a> {
    name: &'a str,
    to: &'a str,
    compared: bool,
}

#[derive(Serialize)]
struct PlaintextDirectory<'a> {
    path: String,
    served: Vec<String>,
    differing: &'a BTreeMap<String, String>,
    removed: usize,
}

fn as_json(done: &Outcome, options: &MigrateOptions) -> String {
    let moved = done.moved.iter();
    let moved = moved.map(|Moved { name, what, compared, .. }| MovedSecret {
        name,
        to: what,
        compared: *compared,
    });
    let plaintext = done.plaintext.iter().map(|plaintext| PlaintextDirectory {
        path: plaintext.path().display().to_string(),
        served: plaintext.proven.iter().map(ToString::to_string).collect(),
        differing: &plaintext.differing,
        removed: plaintext.removed,
    });
    json::text(&Report {
        dry_run: options.dry_run,
        moved: moved.collect(),
        left: &done.failed,
        plaintext: plaintext.collect(),
    })
}
