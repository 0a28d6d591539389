//! `psid init`: makes a key, seals it to the backend, checks that it opens, and writes an empty cache.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use psi_common::{BackendTag, Problem, SecretBytes};

use super::error::CommandError;
use crate::config::{Config, with_seal_line};
use crate::crypto::aead::DataKey;
use crate::crypto::envelope::WrappedKeyHeader;
use crate::crypto::keyring::Keyring;
use crate::crypto::recovery_key::{self, RecoveryError, RecoveryKey};
use crate::keys::{KeyBackend, SealOptions, SealWith, TpmKey};
use crate::legacy::adopt::is_old;
use crate::runtime::build::{self, Environment};
use crate::storage::cache_file;
use crate::sys::files::{self, DirectoryLock};

/// The options of the command.
pub struct InitOptions {
    /// The key backend, tpm or hsm; none: that of the config.
    pub backend: Option<String>,
    /// What systemd-creds seals the key to; none: `seal_with` of the config.
    pub seal_with: Option<String>,
    /// The PCRs to which the TPM binds the key.
    pub tpm2_pcrs: String,
    /// Whether a key and a cache in use are replaced.
    pub force: bool,
    /// Whether a recovery key is made.
    pub recovery: bool,
    /// The file that the recovery key is written to, instead of being shown.
    pub recovery_file: Option<PathBuf>,
    /// Whether a refused PIN is tried once more.
    pub retry: bool,
}

/// The work to do, by the options and the config.
struct Plan<'a> {
    environment: &'a Environment,
    options: &'a InitOptions,
    tag: BackendTag,
    backend: Box<dyn KeyBackend>,
    seal: SealOptions,
    /// The config; none if there is no file yet.
    config: Option<Config>,
}

/// Makes a key and an empty cache. Returns the report for the admin.
pub async fn run(environment: &Environment, options: &InitOptions) -> Result<String, Problem> {
    provision(&plan(environment, options)?).await
}

fn plan<'a>(environment: &'a Environment, options: &'a InitOptions) -> Result<Plan<'a>, Problem> {
    let path = &environment.paths.config;
    let config = match Config::read(path) {
        Ok(config) => Some(config),
        // The key may be made before the config is written.
        Err(error) if error.is_missing => None,
        Err(error) => return Err(CommandError::from(error).problem),
    };
    let named = config.as_ref().and_then(|config| config.cache.backend);
    let tag = match options.backend.as_deref() {
        Some("hsm") => BackendTag::Hsm,
        Some(_) => BackendTag::Tpm,
        None => named.ok_or_else(|| {
            Problem::new(
                format!("{} names no key backend", path.display()),
                "choose --backend tpm (a key sealed to this host's TPM) or --backend hsm (a key wrapped by a PKCS#11 \
                 token)",
            )
        })?,
    };
    let demand = config.as_ref().map_or_else(
        || environment.default_seal_with(),
        |config| build::seal_with(&config.cache, environment),
    );
    let seal = SealOptions {
        with_key: options
            .seal_with
            .clone()
            .unwrap_or_else(|| environment.creds.seal_for(demand).with_key),
        tpm2_pcrs: options.tpm2_pcrs.clone(),
    };
    let backend: Box<dyn KeyBackend> = match tag {
        BackendTag::Tpm => Box::new(TpmKey {
            credential: environment.cache_key(),
            state: environment.paths.state.clone(),
            config: path.clone(),
            // The option wins over the config, which is changed to match.
            required_seal: Mutex::new(if options.seal_with.is_some() {
                SealWith::Any
            } else {
                demand
            }),
        }),
        BackendTag::Hsm => {
            let hsm =
                config.as_ref().and_then(|config| build::hsm(config, environment, options.retry));
            Box::new(hsm.ok_or_else(|| {
                Problem::new(
                    format!("{} names no token", path.display()),
                    "add [providers.pkcs11], see psi.toml(5)",
                )
            })?)
        }
    };
    Ok(Plan { environment, options, tag, backend, seal, config })
}

async fn provision(plan: &Plan<'_>) -> Result<String, Problem> {
    let Plan { environment, options, tag, backend, .. } = plan;
    let paths = &environment.paths;
    let (sealed, cache) = (paths.sealed_key(), paths.cache_file());
    let recovery = cache.with_file_name("recovery.enc");
    files::create_private_directory(&paths.state)
        .map_err(|error| not_writable(&paths.state, &error))?;
    if !options.force {
        refuse_to_replace(&**backend, &sealed, &cache).await?;
    }
    // A running psid would write the cache again, under its own key.
    let _lock = lock(environment)?;
    let key = DataKey::generate().map_err(|error| {
        Problem::new(format!("the kernel returns no random numbers: {error}"), "try again")
    })?;
    let is_lowered = lower_seal_with(plan);
    let stored = backend.store(key, Some(&plan.seal)).await.map_err(|error| error.problem)?;
    // Each replaced file is kept under another name. Until the commit, psid opens the old key and the new one; after
    // it, only the new one, and files under the old one are unusable.
    let mut report = match tag {
        BackendTag::Tpm => set_aside_line(&sealed, set_aside(&sealed)?.as_deref()),
        BackendTag::Hsm => String::new(),
    };
    report += &set_aside_line(&recovery, set_aside(&recovery)?.as_deref());
    let keyring = Keyring::new(stored.key, WrappedKeyHeader { tag: *tag, bytes: stored.header });
    backend.commit().await.map_err(|error| error.problem)?;
    report += &write_cache(&cache, &keyring)?;
    report += &match tag {
        BackendTag::Tpm => sealed_lines(plan, &sealed, is_lowered),
        BackendTag::Hsm => {
            "the token wrapped and signed a new key, and proved that it opens\n".into()
        }
    };
    report += &make_recovery_key(&keyring, &recovery, options)?;
    Ok(report + &next_line(plan))
}

/// Writes a weaker `seal_with` before the key is sealed, and returns whether it did, so that after a crash in between,
/// psid accepts the old key and the new one. A stronger `seal_with` is written last, for the same reason.
fn lower_seal_with(plan: &Plan<'_>) -> bool {
    let is_given = plan.options.seal_with.as_deref().is_some_and(|with_key| with_key != "auto");
    let Some(config) = &plan.config else { return false };
    let current = build::seal_with(&config.cache, plan.environment);
    if !is_given || plan.tag != BackendTag::Tpm || current.accepts(Some(&plan.seal)) {
        return false;
    }
    // `sealed_lines` tries again and reports a failure.
    write_seal_with(plan, SealWith::met_by(&plan.seal)).is_ok_and(|written| written)
}

/// The lines about the sealed key and the `seal_with` of the config.
fn sealed_lines(plan: &Plan<'_>, sealed: &Path, is_lowered: bool) -> String {
    // With `auto`, systemd-creds chooses, and the file shows its choice.
    let seal = fs::read(sealed).ok().and_then(|sealed| SealOptions::of(&sealed));
    let seal = seal.as_ref().unwrap_or(&plan.seal);
    let line =
        format!("sealed a new key in {} (to {seal}), and proved that it opens\n", sealed.display());
    if plan.options.seal_with.is_none() {
        return line;
    }
    let seal_with = SealWith::met_by(seal);
    match write_seal_with(plan, seal_with) {
        Ok(written) if written || is_lowered => {
            let path = plan.environment.paths.config.display();
            line + &format!("wrote seal_with = \"{}\" to [cache] of {path}\n", seal_with.name())
        }
        Ok(_) => line,
        Err(why) => {
            line + &format!(
                "psid refuses this key until [cache] has seal_with = \"{}\", which was not written: {why}; add that line\n",
                seal_with.name()
            )
        }
    }
}

/// Writes the `seal_with` that the new key meets into the config; false if the config has it already. The error is the
/// cause.
fn write_seal_with(plan: &Plan<'_>, seal_with: SealWith) -> Result<bool, String> {
    let (environment, path) = (plan.environment, &plan.environment.paths.config);
    let default = environment.default_seal_with();
    if plan.config.is_none() {
        return if seal_with == default {
            Ok(false)
        } else {
            Err(format!("there is no {}", path.display()))
        };
    }
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(failed)?;
    let changed =
        with_seal_line(&text, path, seal_with, default).map_err(|error| error.to_string())?;
    if changed == text {
        return Ok(false);
    }
    files::replace_in_place(path, changed.as_bytes()).map_err(failed)?;
    Ok(true)
}

fn next_line(plan: &Plan<'_>) -> String {
    let tag = plan.tag;
    let named = plan.config.as_ref().and_then(|config| config.cache.backend);
    if named == Some(tag) {
        return "next: `systemctl restart psid`\n".into();
    }
    format!(
        "next: set backend = \"{tag}\" in [cache] of the config, then `systemctl restart psid`\n"
    )
}

/// Writes an empty cache. A file in its place is set aside.
fn write_cache(path: &Path, keyring: &Keyring) -> Result<String, Problem> {
    let mut report = if is_version_1(path)? {
        let aside = files::back_up_as(path, cache_file::VERSION_1)
            .map_err(|error| files::problem(path, &error))?;
        let directory = path.parent().unwrap_or(path).display();
        let next = format!(
            "it is of psi version 1: `psid migrate --from psi {directory}` takes it over\n"
        );
        set_aside_line(path, aside.as_deref()) + &next
    } else {
        set_aside_line(path, set_aside(path)?.as_deref())
    };
    cache_file::write_empty(path, keyring).map_err(|why| not_written(path, why))?;
    report += &format!("wrote an empty {}\n", path.display());
    Ok(report)
}

/// Refuses to replace a key or a cache without `--force`.
async fn refuse_to_replace(
    backend: &dyn KeyBackend,
    sealed: &Path,
    cache: &Path,
) -> Result<(), Problem> {
    if sealed.exists() && backend.tag() == BackendTag::Tpm {
        return Err(match backend.load(&[]).await {
            Ok(_) => Problem::new(
                format!("the key in {} is in use", sealed.display()),
                "--force replaces it, and values that only its cache or a literal holds are lost",
            ),
            Err(error) if error.is_permanent => Problem::new(
                error.to_string(),
                "--force sets the old key aside, and files sealed under it become unusable",
            ),
            Err(error) => error.problem,
        });
    }
    if cache.exists() && !is_version_1(cache)? {
        return Err(Problem::new(
            format!("the cache {} exists", cache.display()),
            "--force sets it aside, and values that only it holds are lost",
        ));
    }
    Ok(())
}

fn is_version_1(cache: &Path) -> Result<bool, Problem> {
    is_old(cache).map_err(|error| files::problem(cache, &error))
}

/// Makes a recovery key and returns the lines that show it. It is stored nowhere.
fn make_recovery_key(
    keyring: &Keyring,
    path: &Path,
    options: &InitOptions,
) -> Result<String, Problem> {
    if !options.recovery {
        // The file in its place is for another data key.
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let what = format!("removing {}: {error}", path.display());
                Err(Problem::new(what, "check the disk"))
            }
            _ => Ok("made no recovery key; `psictl cache recovery-key` makes one\n".into()),
        };
    }
    let failed = |error: RecoveryError| Problem::new(error.to_string(), "try again");
    let recovery = RecoveryKey::generate().map_err(failed)?;
    let file = keyring.with_keys(|keys| recovery_key::wrap(&recovery, keys)).map_err(failed)?;
    files::replace(path, &file).map_err(|error| not_written(path, error))?;
    let text = recovery.to_text();
    if let Some(file) = &options.recovery_file {
        write_recovery_key(file, &text).map_err(|error| {
            let what = format!(
                "the recovery key was not written to {}: {error}; the key is in use",
                file.display()
            );
            Problem::new(what, "`psictl cache recovery-key` creates another one")
        })?;
        return Ok(format!(
            "wrote the recovery key to {}; keep it off this host\n",
            file.display()
        ));
    }
    Ok(format!(
        "\nrecovery key, shown only now; keep it off this host. After a change of board or firmware,\n\
         `psictl cache recover` opens the cache and the literals with it:\n\n    {}\n\n",
        String::from_utf8_lossy(text.expose_secret())
    ))
}

/// psictl has made the file, or it is one in memory that psictl holds.
fn write_recovery_key(path: &Path, text: &SecretBytes) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.expose_secret())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn lock(environment: &Environment) -> Result<DirectoryLock, Problem> {
    let state = &environment.paths.state;
    files::lock_directory(state, Duration::ZERO).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            Problem::new("psid is running", "stop it first, `systemctl stop psid`")
        }
        _ => not_writable(state, &error),
    })
}

fn not_writable(state: &Path, error: &std::io::Error) -> Problem {
    Problem::new(format!("{}: {error}", state.display()), "run it as psid's user or as root")
}

fn not_written(path: &Path, why: impl fmt::Display) -> Problem {
    Problem::new(format!("writing {}: {why}", path.display()), "check the disk")
}

/// Gives a file that will be replaced another name, and returns it. The file is sealed, and an admin may need it.
fn set_aside(path: &Path) -> Result<Option<PathBuf>, Problem> {
    files::back_up(path).map_err(|error| {
        Problem::new(
            format!("{} cannot be set aside: {error}", path.display()),
            "check the permissions of its directory",
        )
    })
}

/// The line about a file that was set aside.
fn set_aside_line(path: &Path, aside: Option<&Path>) -> String {
    aside.map_or_else(String::new, |aside| {
        format!("set the old {} aside as {}\n", path.display(), aside.display())
    })
}
