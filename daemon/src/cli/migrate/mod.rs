//! `psid migrate --from psi DIR`: takes over from a folder, its own too, while psid is stopped.

mod report;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use psi_common::Exit;

use crate::cli::migrate::report::{MigratedValues, MigrationReport};
use crate::config::Config;
use crate::keys::KeyBackend;
use crate::legacy::adopt::old_key::{NotOpened, OldKeys, Unwrap};
use crate::legacy::adopt::old_state::{self, Mappings, is_old};
use crate::legacy::adopt::ours::Ours;
use crate::legacy::adopt::values::{self, Placed, SEALED};
use crate::lookup::{Service, ServiceError};
use crate::model::reference::Reference;
use crate::registry::Registered;
use crate::runtime::build::{self, Components, Environment};
use crate::runtime::open_keyring;
use crate::sys::files::{self, DirectoryLock};

/// What an admin asks for.
pub(crate) struct MigrateOptions {
    /// The state folder of the Python PSI, or a cache file of it.
    pub from: PathBuf,
    /// The key of the tpm backend, when it is not our own.
    pub key: Option<PathBuf>,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
}

/// What there is to be taken over.
struct Source {
    /// As it was named, without links.
    from: PathBuf,
    mappings: Mappings,
    /// Where the cache is.
    cache: PathBuf,
    /// What is in it, when it is there and not our own.
    file: Option<Vec<u8>>,
}

/// Our own side.
struct Place<'a> {
    config: &'a Config,
    /// Where our own cache is, or will be.
    cache: PathBuf,
    service: Service,
    backend: Option<Box<dyn KeyBackend>>,
    old_keys: OldKeys,
}

/// Takes over what is in `options.from`. A cache that is not usable is told in the report, and keeps no
/// mapping from being taken over.
pub(crate) async fn adopt(
    config: &Config,
    surroundings: &Environment,
    options: &MigrateOptions,
) -> Result<MigrationReport, (Exit, String)> {
    let state = &surroundings.paths.state;
    let source = Source::find(&options.from, state)?;
    let _owner = own(state, options.dry_run).map_err(|why| (Exit::BadInput, why))?;
    let Components { service, backend, token, .. } = build::parts(config, surroundings);
    // Python's credential has the name of ours.
    let credential = surroundings.cache_key();
    let token = token.map(|token| Box::new(token) as Box<dyn Unwrap>);
    let mut old_keys = OldKeys { credential, token };
    if let Some(key) = &options.key {
        old_keys = old_keys.with_key_in(key);
    }
    let cache = surroundings.paths.cache_file();
    let place = Place { config, cache, service, backend, old_keys };
    let mut report = MigrationReport { dry_run: options.dry_run, ..place.judge(&source) };
    let merged = match &source.file {
        Some(file) => Some(place.merge(&source, file, &mut report).await),
        None => None,
    };
    if !options.dry_run {
        place.register(&source.mappings)?;
    }
    report.values = match merged {
        None => None,
        Some(Err(why)) => Some(Err(why)),
        Some(Ok((ours, values))) => {
            if !options.dry_run && ours.differs() {
                let told =
                    |why| format!("writing {}: {why}; check the disk", place.cache.display());
                ours.write().map_err(|why| (Exit::Io, told(why)))?;
            }
            Some(Ok(values))
        }
    };
    Ok(report)
}

/// Two writers on one state folder would overwrite each other's cache.
fn own(state: &Path, dry_run: bool) -> Result<Option<DirectoryLock>, String> {
    if dry_run && !state.exists() {
        return Ok(None);
    }
    let locked = files::create_private_directory(state)
        .and_then(|()| files::lock_directory(state, Duration::ZERO));
    locked.map(Some).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => "psid is running; stop it first, `systemctl stop psid`".into(),
        _ => format!("{}: {error}; run it as psid's user or as root", state.display()),
    })
}

impl Source {
    fn find(named: &Path, state: &Path) -> Result<Self, (Exit, String)> {
        let from = fs::canonicalize(named).map_err(|error| {
            let named = named.display();
            let words = format!("{named}: {error}; name the old state folder, or an old cache.enc");
            (Exit::BadInput, words)
        })?;
        let read = Self::read(from.clone(), state);
        read.map_err(|error| (Exit::Io, format!("{}: {error}; run it as root", from.display())))
    }

    fn read(from: PathBuf, state: &Path) -> io::Result<Self> {
        if !from.is_dir() {
            let (file, mappings) = (old_state::cache(&from)?, Mappings::default());
            return Ok(Self { cache: from.clone(), file, mappings, from });
        }
        if fs::canonicalize(state).is_ok_and(|state| state == from) {
            let cache = old_state::cache_among_ours(&from)?;
            let file = cache.as_deref().map(old_state::cache).transpose()?.flatten();
            let cache = cache.unwrap_or_else(|| from.join("cache.enc"));
            // What lies below is registered, and not all of it is a mapping.
            return Ok(Self { mappings: old_state::mappings(&[&from])?, cache, file, from });
        }
        let (cache, below) = (from.join("cache.enc"), from.join("secrets"));
        let mappings = old_state::mappings(&[&from, &below])?;
        Ok(Self { file: old_state::cache(&cache)?, cache, mappings, from })
    }
}

impl Place<'_> {
    /// Compares the mappings with what is registered here.
    fn judge(&self, source: &Source) -> MigrationReport {
        let strange = source.mappings.strange.clone();
        let mut report =
            MigrationReport { from: source.from.clone(), strange, ..MigrationReport::default() };
        let registry = &self.service.registry;
        for mapping in &source.mappings.understood {
            let provider = mapping.reference.provider().to_owned();
            report.providers.entry(provider).or_default().mappings += 1;
            match registry.get(mapping.id) {
                Some(Registered::Reference(known)) if **known == mapping.reference => {
                    report.present.push(mapping.id);
                }
                Some(_) => report.conflicting.push(mapping.id),
                None if registry.is_free(mapping.id) => report.taken.push(mapping.id),
                None => {
                    let why = "it was deleted here a moment ago; `psictl restore` brings it back";
                    report.strange.push((mapping.id, why.into()));
                }
            }
        }
        report
    }

    fn register(&self, mappings: &Mappings) -> Result<(), (Exit, String)> {
        let all = mappings.understood.iter().map(|found| (found.id, &found.reference, &found.raw));
        let registered = self.service.registry.adopt(all);
        registered.map_err(|error| (Exit::Io, ServiceError::from(error).to_string()))?;
        Ok(())
    }

    /// Opens both caches and puts them together.
    async fn merge(
        &self,
        source: &Source,
        file: &[u8],
        report: &mut MigrationReport,
    ) -> Result<(Ours, MigratedValues), String> {
        if !self.config.cache.enabled {
            return Err("the cache is off, and keeps no value; set enabled = true in [cache] of the config, \
                        and run this again"
                .into());
        }
        let old = self.old_keys.open(file).await.map_err(|why| told(&source.cache, &why))?;
        let mut ours = self.ours(&source.cache).await?;
        let written_at = old.written_at();
        let registered = self.service.registry.all();
        let understood = &source.mappings.understood;
        let named = understood.iter().map(|found| &found.reference);
        let mappings = named.chain(values::references(&registered));
        let Placed { values, unclaimed, sealed, homeless } =
            values::place(old, mappings, &self.service);
        let (taken, present) = ours.take(values);
        for (provider, count) in &taken {
            report.providers.entry(provider.clone()).or_default().values += count;
        }
        let lacks = |reference: &Reference| {
            let at = self.service.resolve_key(reference);
            reference.provider() != SEALED && at.is_some_and(|at| !ours.holds(&at))
        };
        let missing = understood.iter().filter(|found| lacks(&found.reference));
        let values = MigratedValues {
            cache: source.cache.clone(),
            written_at,
            taken: taken.values().sum(),
            present,
            unclaimed,
            sealed,
            homeless,
            missing: missing.map(|found| found.id).collect(),
        };
        Ok((ours, values))
    }

    /// Our own cache; empty when the file that is taken over lies in its place.
    async fn ours(&self, old: &Path) -> Result<Ours, String> {
        let backend = self.backend.as_ref().ok_or(
            "there is no key backend to keep values under; set backend in [cache] of the config, and run \
             `psictl cache init`",
        )?;
        let path = &self.cache;
        let keyring = open_keyring(&**backend, path, &self.service.registry).await?;
        if !is_old(path).map_err(|error| files::problem(path, &error).to_string())? {
            return Ours::open(path, keyring);
        }
        if fs::canonicalize(path).is_ok_and(|path| path == old) {
            return Ok(Ours::in_place_of_an_old_one(path, keyring));
        }
        let path = path.display();
        Err(format!(
            "{path} is the Python PSI's too; take that over first, `psid migrate --from psi {path}`"
        ))
    }
}

fn told(path: &Path, why: &NotOpened) -> String {
    let path = path.display();
    match why {
        NotOpened::NoKey(why) => format!("{path} does not open: {why}; name its key with --key"),
        NotOpened::NoToken(why) => format!("{path} does not open: {why}"),
        NotOpened::Unusable(why) => {
            format!("{path} is not usable: {why}; name another cache, or its key with --key")
        }
    }
}
