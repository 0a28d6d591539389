//! `psid migrate --from psi DIR`: takes over the mappings and the cache of version 1 while psid is stopped. DIR may be
//! psid's own state directory.

mod report;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use psi_common::{Exit, Problem};

use crate::cli::error::CommandError;
use crate::cli::migrate::report::{MigratedValues, MigrationReport};
use crate::config::Config;
use crate::keys::KeyBackend;
use crate::legacy::adopt::old_key::{KeyUnwrapper, OldCacheError, OldKeys};
use crate::legacy::adopt::old_state::{self, Mappings, is_old};
use crate::legacy::adopt::placement::{self, Placement, SEALED};
use crate::legacy::adopt::target_cache::{TakenValues, TargetCache};
use crate::lookup::{Service, ServiceError};
use crate::model::reference::Reference;
use crate::registry::Registered;
use crate::runtime::build::{self, Components, Environment};
use crate::runtime::open_keyring;
use crate::sys::files::{self, DirectoryLock};

/// The options of the command.
pub(crate) struct MigrateOptions {
    /// The state directory of version 1, or one cache file.
    pub from: PathBuf,
    /// The key of the tpm backend, if it is not psid's own.
    pub key: Option<PathBuf>,
    /// Whether to report only.
    pub dry_run: bool,
}

/// The state of version 1.
struct Source {
    /// The path, without symbolic links.
    from: PathBuf,
    mappings: Mappings,
    /// The path of the cache.
    cache: PathBuf,
    /// The cache file; none if it is missing or of version 2.
    file: Option<Vec<u8>>,
}

/// psid's own state.
struct Destination<'a> {
    config: &'a Config,
    /// The path of psid's cache, which may not exist.
    cache: PathBuf,
    service: Service,
    backend: Option<Box<dyn KeyBackend>>,
    old_keys: OldKeys,
}

/// Takes over the state in `options.from`. An unusable cache is reported, and the mappings are taken over without it.
pub(crate) async fn adopt(
    config: &Config,
    environment: &Environment,
    options: &MigrateOptions,
) -> Result<MigrationReport, CommandError> {
    let state = &environment.paths.state;
    let source = Source::find(&options.from, state)?;
    let _lock = lock(state, options.dry_run).map_err(CommandError::of(Exit::BadInput))?;
    let Components { service, backend, token, .. } = build::components(config, environment);
    // Version 1 has the same credential name.
    let credential = environment.cache_key();
    let token = token.map(|token| Box::new(token) as Box<dyn KeyUnwrapper>);
    let mut old_keys = OldKeys { credential, token };
    if let Some(key) = &options.key {
        old_keys = old_keys.with_key_in(key);
    }
    let cache = environment.paths.cache_file();
    let own = Destination { config, cache, service, backend, old_keys };
    let mut report = MigrationReport { dry_run: options.dry_run, ..own.compare(&source) };
    let merged = match &source.file {
        Some(file) => Some(own.merge(&source, file, &mut report).await),
        None => None,
    };
    if !options.dry_run {
        own.register(&source.mappings)?;
    }
    report.values = match merged {
        None => None,
        Some(Err(problem)) => Some(Err(problem)),
        Some(Ok((target, values))) => {
            if !options.dry_run && target.is_changed() {
                target.write().map_err(|error| {
                    let what = format!("writing {}: {error}", own.cache.display());
                    CommandError::io(what, "check the disk")
                })?;
            }
            Some(Ok(values))
        }
    };
    Ok(report)
}

/// Locks the state directory: two writers would overwrite each other's cache.
fn lock(state: &Path, dry_run: bool) -> Result<Option<DirectoryLock>, Problem> {
    if dry_run && !state.exists() {
        return Ok(None);
    }
    let locked = files::create_private_directory(state)
        .and_then(|()| files::lock_directory(state, Duration::ZERO));
    locked.map(Some).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            Problem::new("psid is running", "stop it first, `systemctl stop psid`")
        }
        _ => Problem::new(
            format!("{}: {error}", state.display()),
            "run it as psid's user or as root",
        ),
    })
}

impl Source {
    fn find(named: &Path, state: &Path) -> Result<Self, CommandError> {
        let from = fs::canonicalize(named).map_err(|error| {
            let what = format!("{}: {error}", named.display());
            CommandError::bad_input(what, "name the old state directory, or an old cache.enc")
        })?;
        let read = Self::read(from.clone(), state);
        read.map_err(|error| {
            CommandError::io(format!("{}: {error}", from.display()), "run it as root")
        })
    }

    fn read(from: PathBuf, state: &Path) -> io::Result<Self> {
        if !from.is_dir() {
            let (file, mappings) = (old_state::cache(&from)?, Mappings::default());
            return Ok(Self { cache: from.clone(), file, mappings, from });
        }
        if fs::canonicalize(state).is_ok_and(|state| state == from) {
            let cache = old_state::cache_in_own_state(&from)?;
            let file = cache.as_deref().map(old_state::cache).transpose()?.flatten();
            let cache = cache.unwrap_or_else(|| from.join("cache.enc"));
            // Its subdirectory holds psid's own registrations.
            return Ok(Self { mappings: old_state::mappings(&[&from])?, cache, file, from });
        }
        let (cache, below) = (from.join("cache.enc"), from.join("secrets"));
        let mappings = old_state::mappings(&[&from, &below])?;
        Ok(Self { file: old_state::cache(&cache)?, cache, mappings, from })
    }
}

impl Destination<'_> {
    /// Compares the mappings with psid's registrations.
    fn compare(&self, source: &Source) -> MigrationReport {
        let invalid = source.mappings.invalid.iter();
        let mut report = MigrationReport {
            from: source.from.clone(),
            unrecognised: invalid.map(|(id, error)| (*id, error.to_string())).collect(),
            ..MigrationReport::default()
        };
        let registry = self.service.registry();
        for mapping in &source.mappings.valid {
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
                    report.unrecognised.push((mapping.id, why.into()));
                }
            }
        }
        report
    }

    fn register(&self, mappings: &Mappings) -> Result<(), CommandError> {
        let all = mappings.valid.iter().map(|found| (found.id, &found.reference, &found.raw));
        let registered = self.service.registry().adopt(all);
        registered.map_err(|error| CommandError::io(ServiceError::from(error).to_string(), ""))?;
        Ok(())
    }

    /// Opens both caches and merges their values.
    async fn merge(
        &self,
        source: &Source,
        file: &[u8],
        report: &mut MigrationReport,
    ) -> Result<(TargetCache, MigratedValues), Problem> {
        if !self.config.cache.enabled {
            return Err(Problem::new(
                "the cache is off, and stores no value",
                "set enabled = true in [cache] of the config, and run this again",
            ));
        }
        let old =
            self.old_keys.open(file).await.map_err(|error| not_opened(&source.cache, &error))?;
        let mut target = self.target(&source.cache).await?;
        let written_at = old.written_at();
        let registered = self.service.registry().all();
        let understood = &source.mappings.valid;
        let named = understood.iter().map(|found| &found.reference);
        let mappings = named.chain(placement::references(&registered));
        let Placement { values, without_mapping, sealed, without_config } =
            placement::place(old, mappings, &self.service);
        let TakenValues { taken, present } = target.take(values);
        for (provider, count) in &taken {
            report.providers.entry(provider.clone()).or_default().values += count;
        }
        let lacks = |reference: &Reference| {
            let key = self.service.resolve_key(reference);
            reference.provider() != SEALED && key.is_some_and(|key| !target.contains(&key))
        };
        let missing = understood.iter().filter(|found| lacks(&found.reference));
        let values = MigratedValues {
            cache: source.cache.clone(),
            written_at,
            taken: taken.values().sum(),
            present,
            without_mapping,
            sealed,
            without_config,
            missing: missing.map(|found| found.id).collect(),
        };
        Ok((target, values))
    }

    /// psid's own cache; empty if the cache that is taken over is in its place.
    async fn target(&self, old: &Path) -> Result<TargetCache, Problem> {
        let backend = self.backend.as_ref().ok_or_else(|| {
            Problem::new(
                "there is no key backend, and no value can be stored",
                "set backend in [cache] of the config, and run `psictl cache init`",
            )
        })?;
        let path = &self.cache;
        let keyring = open_keyring(&**backend, path, self.service.registry()).await?;
        if !is_old(path).map_err(|error| files::problem(path, &error))? {
            return TargetCache::open(path, keyring);
        }
        if fs::canonicalize(path).is_ok_and(|path| path == old) {
            return Ok(TargetCache::replacing(path, keyring));
        }
        let path = path.display();
        Err(Problem::new(
            format!("{path} is of psi version 1 too"),
            format!("take it over first, `psid migrate --from psi {path}`"),
        ))
    }
}

fn not_opened(path: &Path, error: &OldCacheError) -> Problem {
    let path = path.display();
    match error {
        OldCacheError::NoKey { .. }
        | OldCacheError::Credential(_)
        | OldCacheError::KeyLength(_) => {
            Problem::new(format!("{path} does not open: {error}"), "name its key with --key")
        }
        OldCacheError::Token(Problem { what, remedy }) => {
            Problem::new(format!("{path} does not open: {what}"), remedy.clone())
        }
        OldCacheError::Unusable(error) => Problem::new(
            format!("{path} is not usable: {error}"),
            "name another cache, or its key with --key",
        ),
    }
}
