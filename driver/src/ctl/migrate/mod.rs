//! `psictl migrate`: makes psi the driver of secrets that another store has now, or hands them back (`to_file`).
//!
//! First psid registers each secret (`from_file`, `from_psi`) under podman's id. Then the new lookup command is run and
//! its output compared with the old store's value. Only then podman's record changes, by one rename under podman's
//! lock: a container that starts before it uses the old store, one that starts after it uses psi, and a crash leaves one
//! of the two. The old store is not changed.

mod from_file;
mod from_psi;
mod report;
mod to_file;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use psi_common::{Exit, Paths, Problem, SecretBytes, SecretId};
use psi_proto::v1::{Registration, StoreKind};

use super::plaintext::Plaintext;
use super::progress::Progress;
use super::psid;
use crate::client::{Client, Deadline};
use crate::ctl::args::{MigrateOptions, OldStore};
use crate::ctl::podman::{self, About, Commands, FileDriver, Secret, Secrets, Store, resolve};
use crate::error::CliError;
use crate::stdio;

/// The secrets of podman and psid.
struct HostState {
    secrets: Secrets,
    registered: BTreeMap<SecretId, Registration>,
    about: About,
    commands: Commands,
}

/// A store that secrets are moved from.
trait SourceStore {
    /// Whether the secret is to be moved.
    fn has(&self, secret: &Secret) -> bool;

    /// The registration that psid needs.
    fn plan(&self, secret: &Secret) -> Result<PlannedRegistration<'_>, Problem>;

    /// Whether the store has this value; `None` if the store cannot be asked any more.
    fn has_value(&self, secret: &Secret, value: &SecretBytes) -> Option<bool>;
}

/// The registration that psid needs for a secret.
struct PlannedRegistration<'a> {
    /// Its description.
    what: String,
    /// The data to store; `None` if psid has it.
    data: Option<(Data<'a>, StoreKind)>,
}

/// Data to store.
enum Data<'a> {
    Borrowed(&'a SecretBytes),
    Owned(SecretBytes),
}

/// A secret that was moved.
struct Moved {
    id: SecretId,
    name: String,
    /// The description of its registration.
    what: String,
    /// Whether its value was compared with the old store's.
    compared: bool,
}

/// The outcome of a migration.
#[derive(Default)]
struct Outcome {
    moved: Vec<Moved>,
    /// The secrets that were not moved, by name, with the cause.
    failed: BTreeMap<String, String>,
    /// The plaintext values, by directory, if the old store has any.
    plaintext: Vec<Plaintext>,
}

pub(crate) fn run(paths: &Paths, options: &MigrateOptions) -> Result<(), CliError> {
    match options.from {
        Some(from) => from_store(from, paths, options),
        None => to_file::run(paths, options),
    }
}

fn from_store(from: OldStore, paths: &Paths, options: &MigrateOptions) -> Result<(), CliError> {
    if options.cache {
        return take_over(from, paths, options);
    }
    let host = HostState::load(paths, options)?;
    let old: Box<dyn SourceStore + '_> = match from {
        OldStore::File => Box::new(from_file::FileStore::open(paths, &host)?),
        OldStore::Psi => Box::new(from_psi::VersionOne::open(paths, &host, options)),
    };
    let chosen = named(&host.secrets, &options.names, |secret| old.has(secret))?;
    let mut done = if options.dry_run {
        plan(&*old, &chosen)
    } else {
        let done = host.hand_over(prepare(paths, &host, &*old, &chosen))?;
        let moved = done.moved.iter().map(|moved| (moved.id, moved.name.clone())).collect();
        let store = host.about.graph_root.clone();
        super::names::report(paths, &BTreeMap::from([(store, moved)]));
        done
    };
    if from == OldStore::File {
        done.plaintext = compare_plaintext(&host, options)?;
    }
    stdio::write_text(&report::of(&done, from, options))?;
    result(&done)
}

/// Lets psid take over the mappings and the cache of version 1.
fn take_over(from: OldStore, paths: &Paths, options: &MigrateOptions) -> Result<(), CliError> {
    if from != OldStore::Psi || !options.names.is_empty() {
        let what = "--cache takes over the whole state of psi version 1, and no single secrets";
        return Err(CliError::new(Exit::Usage, what, "use it with --from psi, and without names"));
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

impl HostState {
    fn load(paths: &Paths, options: &MigrateOptions) -> Result<Self, CliError> {
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

    /// Changes podman's record by one write. A secret that was removed in the meantime is reported as not moved.
    fn hand_over(&self, mut done: Outcome) -> Result<Outcome, CliError> {
        let ready: BTreeSet<SecretId> = done.moved.iter().map(|moved| moved.id).collect();
        if ready.is_empty() {
            return Ok(done);
        }
        let store = Store::of(&self.about.graph_root);
        let handed = store.hand_to_psi(&ready, &self.commands)?;
        let gone = done.moved.extract_if(.., |moved| !handed.contains(&moved.id));
        let why = "podman no longer has it; `psictl gc` removes its registration";
        done.failed.extend(gone.map(|moved| (moved.name, why.to_owned())));
        Ok(done)
    }
}

/// The named secrets that are wanted, or all of those.
fn named<'a>(
    secrets: &'a Secrets,
    names: &[String],
    wanted: impl Fn(&Secret) -> bool,
) -> Result<Vec<&'a Secret>, CliError> {
    if let Some(unknown) = names.iter().find(|name| !secrets.has(name)) {
        return Err(CliError::new(
            Exit::NoSuchSecret,
            format!("podman has no secret {}", unknown.escape_debug()),
            "see `podman secret ls`",
        ));
    }
    let is_named = |secret: &&Secret| names.is_empty() || names.contains(&secret.name);
    Ok(secrets.iter().filter(|secret| wanted(secret)).filter(is_named).collect())
}

fn plan(old: &dyn SourceStore, chosen: &[&Secret]) -> Outcome {
    let mut done = Outcome::default();
    for secret in chosen {
        done.note(secret, old.plan(secret).map(|plan| (plan.what, false)));
    }
    done
}

/// Registers and compares the secrets; podman's record is not changed.
fn prepare(paths: &Paths, host: &HostState, old: &dyn SourceStore, chosen: &[&Secret]) -> Outcome {
    let mut done = Outcome::default();
    let progress = Progress::of("secrets compared", chosen.len());
    for (count, secret) in chosen.iter().enumerate() {
        progress.show(count);
        done.note(secret, prepare_one(paths, host, old, secret));
    }
    done
}

fn prepare_one(
    paths: &Paths,
    host: &HostState,
    old: &dyn SourceStore,
    secret: &Secret,
) -> Result<(String, bool), Problem> {
    let PlannedRegistration { what, data } = old.plan(secret)?;
    if let Some((data, kind)) = data {
        let stored = Client::new(paths, Deadline::Admin).store(secret.id, data.bytes(), kind);
        stored.map_err(CliError::into_problem)?;
    }
    let value = resolve(&host.commands.lookup(), secret.id)
        .map_err(|why| Problem::without_remedy(format!("its lookup through psi fails: {why}")))?;
    match old.has_value(secret, &value) {
        Some(false) => Err(Problem::new(
            "psi has another value than the old store",
            "compare them, `psictl get` prints psi's",
        )),
        same => Ok((what, same.is_some())),
    }
}

/// Compares the plaintext values and removes those that may be removed. The directories come from podman's record as it
/// was before the move, because afterwards it no longer has them.
fn compare_plaintext(
    host: &HostState,
    options: &MigrateOptions,
) -> Result<Vec<Plaintext>, CliError> {
    let secrets = if options.dry_run { &host.secrets } else { &podman::secrets()? };
    let directories =
        FileDriver::all(&host.about.graph_root, host.secrets.iter(), &options.plaintext);
    let compared = directories.into_iter().map(|files| Plaintext::compare(files, secrets));
    let mut all = compared.collect::<Result<Vec<_>, _>>()?;
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

impl Outcome {
    fn note(&mut self, secret: &Secret, outcome: Result<(String, bool), Problem>) {
        let name = secret.name.clone();
        match outcome {
            Ok((what, compared)) => self.moved.push(Moved { id: secret.id, name, what, compared }),
            Err(problem) => {
                self.failed.insert(name, problem.to_string());
            }
        }
    }
}

fn result(done: &Outcome) -> Result<(), CliError> {
    let differing: usize = done.plaintext.iter().map(|directory| directory.differing.len()).sum();
    match done.failed.len() + differing {
        0 => Ok(()),
        1 => Err(CliError::new(
            Exit::BadInput,
            "1 secret was not moved",
            "see the line that begins with `left`",
        )),
        count => Err(CliError::new(
            Exit::BadInput,
            format!("{count} secrets were not moved"),
            "see the lines that begin with `left`",
        )),
    }
}
