//! `psictl migrate`: psi becomes the driver of secrets that another store has now.
//!
//! First psid learns of each (`from_file`, `from_psi`), under podman's own id. Then the very command that
//! podman is to run is run, and what it gives is compared with what the old store gives. Only then podman's
//! record changes, by one rename under podman's lock: a start before it asks the old store, one after it psi,
//! and a crash leaves the one or the other. The old store is not touched.

mod from_file;
mod from_psi;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use psi_common::{Exit, Paths, SecretBytes, SecretId};
use psi_proto::v1::{Registration, StoreKind};

use super::plaintext::Plaintext;
use super::progress::Progress;
use super::psid;
use crate::client::{Client, Deadline};
use crate::ctl::args::{MigrateOptions, OldStore};
use crate::ctl::podman::{self, About, Commands, FileDriver, Secret, Secrets, Store, resolve};
use crate::error::CliError;
use crate::stdio;

/// What there is.
struct Host {
    secrets: Secrets,
    registered: BTreeMap<SecretId, Registration>,
    about: About,
    commands: Commands,
}

/// A store that secrets are taken from.
trait Old {
    /// Whether a secret is to be taken.
    fn has(&self, secret: &Secret) -> bool;

    /// What psid is to know of it.
    fn plan(&self, secret: &Secret) -> Result<Plan<'_>, String>;

    /// Whether it gives this value for it; none, when nobody can tell any more.
    fn gives(&self, secret: &Secret, value: &SecretBytes) -> Option<bool>;
}

/// What psid is to know of a secret.
struct Plan<'a> {
    /// In words.
    what: String,
    /// What it is to be told; none, when it knows.
    data: Option<(Data<'a>, StoreKind)>,
}

/// What psid is told.
enum Data<'a> {
    Borrowed(&'a SecretBytes),
    Owned(SecretBytes),
}

/// What became of a secret.
struct Moved {
    id: SecretId,
    name: String,
    /// What it is to psid.
    what: String,
    /// Whether the old store could be asked for its value.
    compared: bool,
}

/// What was done.
#[derive(Default)]
struct Done {
    moved: Vec<Moved>,
    /// By name, and why.
    failed: BTreeMap<String, String>,
    /// Values in clear, by folder, when the old store has such.
    plaintext: Vec<Plaintext>,
}

pub(crate) fn run(paths: &Paths, options: &MigrateOptions) -> Result<(), CliError> {
    if options.cache {
        return take_over(paths, options);
    }
    let host = Host::look(paths, options)?;
    let old: Box<dyn Old + '_> = match options.from {
        OldStore::File => Box::new(from_file::FileStore::open(paths, &host)?),
        OldStore::Psi => Box::new(from_psi::PythonPsi::open(paths, &host, options)),
    };
    let chosen = host.chosen(&*old, &options.names)?;
    let mut done = if options.dry_run {
        plan(&*old, &chosen)
    } else {
        let done = host.hand_over(prepare(paths, &host, &*old, &chosen))?;
        let moved = done.moved.iter().map(|moved| (moved.id, moved.name.clone())).collect();
        let store = host.about.graph_root.clone();
        super::names::note(paths, &BTreeMap::from([(store, moved)]));
        done
    };
    if options.from == OldStore::File {
        done.plaintext = clear(&host, options)?;
    }
    stdio::write_text(&report::of(&done, options))?;
    verdict(&done)
}

/// Takes over the Python PSI's cache, which psid does.
fn take_over(paths: &Paths, options: &MigrateOptions) -> Result<(), CliError> {
    if options.from != OldStore::Psi || !options.names.is_empty() {
        let words = "--cache takes over all of the Python PSI's state, and nothing else";
        return Err(CliError::new(Exit::Usage, words, "use it with --from psi, and without names"));
    }
    let mut args: Vec<&OsStr> = ["migrate", "--from", "psi"].map(OsStr::new).to_vec();
    if let Some(key) = &options.key {
        args.extend([OsStr::new("--key"), key.as_os_str()]);
    }
    for (asked, flag) in [(options.dry_run, "--dry-run"), (options.json, "--json")] {
        args.extend(asked.then_some(OsStr::new(flag)));
    }
    let state = options.state.as_deref().unwrap_or(&paths.state);
    args.extend([OsStr::new("--"), state.as_os_str()]);
    psid::run(paths, &args)
}

impl Host {
    fn look(paths: &Paths, options: &MigrateOptions) -> Result<Self, CliError> {
        let registered = Client::new(paths, Deadline::Admin).registrations()?;
        Ok(Self {
            secrets: podman::secrets()?,
            registered: registered
                .into_iter()
                .filter_map(|one| Some((one.id.parse().ok()?, one)))
                .collect(),
            about: podman::about()?,
            commands: Commands::of(options.program.as_deref(), paths)?,
        })
    }

    /// The named ones of the old store, or all.
    fn chosen<'a>(&'a self, old: &dyn Old, names: &[String]) -> Result<Vec<&'a Secret>, CliError> {
        let all = || self.secrets.iter().filter(|secret| old.has(secret));
        if names.is_empty() {
            return Ok(all().collect());
        }
        if let Some(unknown) = names.iter().find(|name| !self.secrets.has(name)) {
            return Err(CliError::new(
                Exit::NoSuchSecret,
                format!("podman has no secret {}", unknown.escape_debug()),
                "see `podman secret ls`",
            ));
        }
        Ok(all().filter(|secret| names.contains(&secret.name)).collect())
    }

    /// By one write. What was removed meanwhile is nobody's any more, and not missed.
    fn hand_over(&self, mut done: Done) -> Result<Done, CliError> {
        let ready: BTreeSet<SecretId> = done.moved.iter().map(|moved| moved.id).collect();
        if ready.is_empty() {
            return Ok(done);
        }
        let store = Store::of(&self.about.graph_root);
        let handed = store.hand_to_psi(&ready, &self.commands)?;
        let gone = done.moved.extract_if(.., |moved| !handed.contains(&moved.id));
        let why = "podman has it no more; `psictl gc` removes what psid has of it";
        done.failed.extend(gone.map(|moved| (moved.name, why.to_owned())));
        Ok(done)
    }
}

fn plan(old: &dyn Old, chosen: &[&Secret]) -> Done {
    let mut done = Done::default();
    for secret in chosen {
        done.note(secret, old.plan(secret).map(|plan| (plan.what, false)));
    }
    done
}

/// Everything but podman's part.
fn prepare(paths: &Paths, host: &Host, old: &dyn Old, chosen: &[&Secret]) -> Done {
    let mut done = Done::default();
    let progress = Progress::of("secrets compared", chosen.len());
    for (count, secret) in chosen.iter().enumerate() {
        progress.show(count);
        done.note(secret, one(paths, host, old, secret));
    }
    done
}

fn one(
    paths: &Paths,
    host: &Host,
    old: &dyn Old,
    secret: &Secret,
) -> Result<(String, bool), String> {
    let Plan { what, data } = old.plan(secret)?;
    if let Some((data, kind)) = data {
        let stored = Client::new(paths, Deadline::Admin).store(secret.id, data.bytes(), kind);
        stored.map_err(|failure| failure.to_string())?;
    }
    let ours = resolve(&host.commands.lookup(), secret.id)
        .map_err(|why| format!("it does not resolve through psi: {why}"))?;
    match old.gives(secret, &ours) {
        Some(false) => Err(
            "psi gives another value than the old store; see which one is right, `psictl get` gives psi's"
                .into(),
        ),
        same => Ok((what, same.is_some())),
    }
}

/// Looks again at what is in clear by now, and removes what is to be removed. Which folders hold it, podman's
/// record told before: of a secret that was handed over it tells no more.
fn clear(host: &Host, options: &MigrateOptions) -> Result<Vec<Plaintext>, CliError> {
    let secrets = if options.dry_run { &host.secrets } else { &podman::secrets()? };
    let folders = FileDriver::all(&host.about.graph_root, host.secrets.iter(), &options.plaintext);
    let looks = folders.into_iter().map(|files| Plaintext::look(files, secrets));
    let mut all = looks.collect::<Result<Vec<_>, _>>()?;
    if options.remove_plaintext && !options.dry_run {
        all.iter_mut().try_for_each(Plaintext::remove_proven)?;
    }
    Ok(all)
}

impl Data<'_> {
    fn bytes(&self) -> &SecretBytes {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Done {
    fn note(&mut self, secret: &Secret, fate: Result<(String, bool), String>) {
        let name = secret.name.clone();
        match fate {
            Ok((what, compared)) => self.moved.push(Moved { id: secret.id, name, what, compared }),
            Err(why) => {
                self.failed.insert(name, why);
            }
        }
    }
}

fn verdict(done: &Done) -> Result<(), CliError> {
    let differing: usize = done.plaintext.iter().map(|folder| folder.differing.len()).sum();
    match done.failed.len() + differing {
        0 => Ok(()),
        1 => Err(CliError::new(
            Exit::BadInput,
            "1 secret was left as it is",
            "see the line that begins with `left`",
        )),
        count => Err(CliError::new(
            Exit::BadInput,
            format!("{count} secrets were left as they are"),
            "see the lines that begin with `left`",
        )),
    }
}
