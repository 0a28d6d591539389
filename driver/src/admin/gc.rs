//! `psi-driver gc`: what psid keeps and no podman asks for any more, and what podman's file driver keeps of
//! secrets that are elsewhere now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use psi_common::{Exit, Paths, Scope, SecretId};
use psi_proto::v1::{Registration, RegistrationKind};
use serde_json::json;

use super::plaintext::Plaintext;
use super::progress::Progress;
use crate::args::GcOptions;
use crate::client::{Client, Patience};
use crate::failure::Failure;
use crate::podman::{self, FileDriver, IN_A_HOME, Secret, Store, ids, ids_in_home};
use crate::stdio;

const TITLE: &str = "gc";

/// What was looked at, and what of it is garbage.
struct Found {
    /// The stores whose secrets are known.
    stores: Vec<PathBuf>,
    /// Those of users that could not be read, and why.
    unread: BTreeMap<String, String>,
    registered: usize,
    orphans: Vec<Registration>,
    /// Values of podman's file driver that no secret refers to.
    left: BTreeSet<SecretId>,
    /// Likewise, but psi does not serve the same for the secret that has the id now: its name, and why.
    only_in_clear: BTreeMap<String, String>,
    files: FileDriver,
}

/// What podmans besides this one know.
#[derive(Default)]
struct Others {
    known: BTreeSet<SecretId>,
    stores: BTreeSet<PathBuf>,
    unread: BTreeMap<String, String>,
}

pub(crate) fn run(paths: &Paths, options: &GcOptions) -> Result<(), Failure> {
    let found = look(paths, options)?;
    for (root, why) in &found.unread {
        stdio::note(TITLE, &format!("the store {root} is left out: {why}"));
    }
    found.guard(options)?;
    if !options.dry_run {
        found.remove(paths)?;
    }
    stdio::write_text(&if options.json { found.as_json(options) } else { found.as_text(options) })
}

/// What psid and the file driver have first: podman has recorded each of it by the time that it answers, for it
/// holds its lock from before it hands a value over. The other way round, a secret that is made meanwhile would
/// be nobody's, and be destroyed.
fn look(paths: &Paths, options: &GcOptions) -> Result<Found, Failure> {
    let registered = Client::new(paths, Patience::Admin).registrations()?;
    let graph_root = podman::about()?.graph_root;
    let files = FileDriver::of(&graph_root);
    let in_clear = files.ids()?;
    let secrets = podman::secrets()?;
    let Others { mut known, stores, unread } = others(options, &graph_root)?;
    known.extend(ids(secrets.iter()));
    let count = registered.len();
    let is_orphan = |one: &Registration| one.id.parse().is_ok_and(|id| !known.contains(&id));
    let only_in_clear = Plaintext::look(FileDriver::of(&graph_root), &secrets)?.differing;
    let keeps =
        |secret: &&Secret| secret.driver == "file" || only_in_clear.contains_key(&secret.name);
    let kept = ids(secrets.iter().filter(keeps));
    Ok(Found {
        stores: [graph_root].into_iter().chain(stores).collect(),
        unread,
        registered: count,
        orphans: registered.into_iter().filter(is_orphan).collect(),
        left: in_clear.difference(&kept).copied().collect(),
        only_in_clear,
        files,
    })
}

/// What other podmans that this psid may serve know: those that are named, and every user's who has one. Only
/// a named one must be readable: nobody's home is to keep gc from looking at the rest.
fn others(options: &GcOptions, graph_root: &Path) -> Result<Others, Failure> {
    let mut others = Others::default();
    for root in options.store.iter().filter(|root| *root != graph_root) {
        others.known.extend(Store::of(root).ids()?);
        others.stores.insert(root.clone());
    }
    for home in homes() {
        let root = home.join(IN_A_HOME);
        if root == graph_root || others.stores.contains(&root) {
            continue;
        }
        match ids_in_home(&home) {
            Ok(None) => {}
            Ok(Some(ids)) => {
                others.known.extend(ids);
                others.stores.insert(root);
            }
            Err(cause) => {
                others.unread.insert(root.display().to_string(), cause.to_string());
            }
        }
    }
    Ok(others)
}

/// Every user's, where this psid serves them.
fn homes() -> BTreeSet<PathBuf> {
    if Scope::of_this_process() != Scope::System {
        return BTreeSet::new();
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let homes = users.lines().filter_map(|user| user.split(':').nth(5)).map(PathBuf::from);
    homes.filter(|home| home.is_absolute()).collect()
}

impl Found {
    /// What a store that could not be read knows is no orphan. A podman that knows nothing of what psid has is
    /// another podman, or one that was reset.
    fn guard(&self, options: &GcOptions) -> Result<(), Failure> {
        if options.force || options.dry_run || self.orphans.is_empty() {
            return Ok(());
        }
        if let Some(root) = self.unread.keys().next() {
            return Err(Failure::new(
                Exit::BadInput,
                format!(
                    "{} registrations that no other podman knows may be those of {root}; nothing was removed",
                    self.orphans.len()
                ),
                "correct the store, name it with --store if it is behind a link, or remove them all with --force",
            ));
        }
        if self.orphans.len() < self.registered {
            return Ok(());
        }
        Err(Failure::new(
            Exit::BadInput,
            format!(
                "podman knows none of the {} secrets that psid has; nothing was removed",
                self.registered
            ),
            "name its store with --store, or remove them all with --force",
        ))
    }

    fn remove(&self, paths: &Paths) -> Result<(), Failure> {
        let client = Client::new(paths, Patience::Admin);
        let progress = Progress::of("registrations removed", self.orphans.len());
        for (count, orphan) in self.orphans.iter().enumerate() {
            progress.show(count);
            if let Ok(id) = orphan.id.parse() {
                client.delete(id)?;
            }
        }
        if !self.left.is_empty() {
            self.files.remove(&self.left)?;
        }
        Ok(())
    }

    fn as_text(&self, options: &GcOptions) -> String {
        let verb = if options.dry_run { "would remove" } else { "removed" };
        let mut text: String = self
            .orphans
            .iter()
            .map(|orphan| format!("{verb} {}: {}\n", orphan.id, about(orphan)))
            .collect();
        if !self.left.is_empty() {
            let (count, path) = (self.left.len(), self.files.path());
            text += &format!("{verb} {count} values in clear from {}\n", path.display());
        }
        for (name, why) in &self.only_in_clear {
            let path = self.files.path();
            text += &format!("kept the value in clear of {name} in {}: {why}\n", path.display());
        }
        if self.orphans.is_empty() && self.left.is_empty() {
            text += "nothing to remove\n";
        } else if !self.orphans.is_empty() && !options.dry_run {
            text += "within ten minutes, `psi-driver restore ID` brings a registration back\n";
        }
        let stores: Vec<_> = self.stores.iter().map(|root| root.display().to_string()).collect();
        text + &format!(
            "looked at {} registrations and the stores {}\n",
            self.registered,
            stores.join(", ")
        )
    }

    fn as_json(&self, options: &GcOptions) -> String {
        let orphans =
            self.orphans.iter().map(|orphan| json!({"id": orphan.id, "about": about(orphan)}));
        let report = json!({
            "dry_run": options.dry_run,
            "registered": self.registered,
            "orphans": orphans.collect::<Vec<_>>(),
            "only_in_clear": self.only_in_clear,
            "values_in_clear": self.left.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "unread": self.unread,
            "stores": self.stores.iter().map(|root| root.display().to_string()).collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }
}

fn about(registration: &Registration) -> &str {
    match registration.kind() {
        RegistrationKind::Literal => "a literal, which only psid has",
        _ => &registration.about,
    }
}
