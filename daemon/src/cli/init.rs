//! `psid init`: makes and keeps a key, proves that it opens, and writes an empty cache.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use psi_common::{BackendTag, SecretBytes};

use crate::config::{Config, with_seal_line};
use crate::crypto::aead::DataKey;
use crate::crypto::envelope::WrappedKeyHeader;
use crate::crypto::keyring::Keyring;
use crate::crypto::recovery_key::{self, RecoveryKey};
use crate::keys::{KeyBackend, SealOptions, SealWith, TpmKey};
use crate::legacy::adopt::is_old;
use crate::runtime::build::{self, Environment};
use crate::storage::cache_file;
use crate::sys::files::{self, DirectoryLock};

/// What an admin asks for.
pub struct InitOptions {
    /// Where the key lives: tpm or hsm; none: as the config says.
    pub backend: Option<String>,
    /// What systemd-creds seals the key to; none: what the config demands.
    pub seal_with: Option<String>,
    /// The PCRs of a key that is sealed to the TPM.
    pub tpm2_pcrs: String,
    /// Whether a key and a cache that are in use are replaced.
    pub force: bool,
    /// Whether a recovery key is made.
    pub recovery: bool,
    /// The file that the recovery key is written to, instead of being shown.
    pub recovery_file: Option<PathBuf>,
    /// Whether the PIN is tried once more after a refusal.
    pub retry: bool,
}

/// What is to be done, as options and config have it.
struct Plan<'a> {
    surroundings: &'a Environment,
    options: &'a InitOptions,
    tag: BackendTag,
    backend: Box<dyn KeyBackend>,
    seal: SealOptions,
    /// What the config says now; none without a readable one.
    config: Option<Config>,
}

/// Makes a key and an empty cache; `Ok` is what was done, for people.
pub async fn run(surroundings: &Environment, options: &InitOptions) -> Result<String, String> {
    provision(&plan(surroundings, options)?).await
}

fn plan<'a>(surroundings: &'a Environment, options: &'a InitOptions) -> Result<Plan<'a>, String> {
    let path = &surroundings.paths.config;
    let config = match Config::read(path) {
        Ok(config) => Some(config),
        // The key may be made before the config is written.
        Err(error) if error.is_missing => None,
        Err(error) => return Err(format!("{error}; `psid check` checks it")),
    };
    let named = config.as_ref().and_then(|config| config.cache.backend);
    let tag = match options.backend.as_deref() {
        Some("hsm") => BackendTag::Hsm,
        Some(_) => BackendTag::Tpm,
        None => named.ok_or_else(|| {
            format!(
                "which key backend? {} names none; choose --backend tpm (a key sealed to this host's TPM) or \
                 --backend hsm (a key wrapped by a PKCS#11 token)",
                path.display()
            )
        })?,
    };
    let demand = config.as_ref().map_or_else(
        || surroundings.default_seal_with(),
        |config| build::seal_with(&config.cache, surroundings),
    );
    let seal = SealOptions {
        with_key: options
            .seal_with
            .clone()
            .unwrap_or_else(|| surroundings.creds.seal_for(demand).with_key),
        tpm2_pcrs: options.tpm2_pcrs.clone(),
    };
    let backend: Box<dyn KeyBackend> = match tag {
        BackendTag::Tpm => Box::new(TpmKey {
            credential: surroundings.cache_key(),
            state: surroundings.paths.state.clone(),
            config: path.clone(),
            // What is asked for here counts, and the config follows it.
            required_seal: Mutex::new(if options.seal_with.is_some() {
                SealWith::Any
            } else {
                demand
            }),
        }),
        BackendTag::Hsm => {
            let hsm =
                config.as_ref().and_then(|config| build::hsm(config, surroundings, options.retry));
            Box::new(hsm.ok_or_else(|| {
                format!(
                    "{} does not name a token; say in [providers.pkcs11] which one",
                    path.display()
                )
            })?)
        }
    };
    Ok(Plan { surroundings, options, tag, backend, seal, config })
}

async fn provision(plan: &Plan<'_>) -> Result<String, String> {
    let Plan { surroundings, options, tag, backend, .. } = plan;
    let paths = &surroundings.paths;
    let (sealed, cache) = (paths.sealed_key(), paths.cache_file());
    let recovery = cache.with_file_name("recovery.enc");
    files::create_private_directory(&paths.state).map_err(|error| {
        format!("{}: {error}; run it as psid's user or as root", paths.state.display())
    })?;
    if !options.force {
        refuse_to_replace(&**backend, &sealed, &cache).await?;
    }
    // A running psid would write the cache again, under the key that it has.
    let _owner = lock(surroundings)?;
    let key = DataKey::generate()
        .map_err(|error| format!("the kernel gives no random numbers: {error}; try again"))?;
    let is_lowered = lower_demand(plan);
    let kept = backend.keep(key, Some(&plan.seal)).await.map_err(|error| error.to_string())?;
    // All that is replaced is kept under another name. Up to the commit, psid opens both keys and loses
    // nothing; from then on there is the new one, and what is not sealed under it is out of use.
    let mut done = match tag {
        BackendTag::Tpm => told_of(&sealed, keep_aside(&sealed)?.as_deref()),
        BackendTag::Hsm => String::new(),
    };
    done += &told_of(&recovery, keep_aside(&recovery)?.as_deref());
    let keyring = Keyring::new(kept.key, WrappedKeyHeader { tag: *tag, bytes: kept.part });
    backend.commit().await.map_err(|error| error.to_string())?;
    done += &write_cache(&cache, &keyring)?;
    done += &match tag {
        BackendTag::Tpm => sealed_words(plan, &sealed, is_lowered),
        BackendTag::Hsm => {
            "the token wrapped and signed a new key, and proved that it opens\n".into()
        }
    };
    done += &make_recovery_key(&keyring, &recovery, options)?;
    Ok(done + &next_words(plan))
}

/// Writes a weaker demand before the key is there, and returns whether it did: after a crash in between, psid
/// refuses no key. A stronger demand is written last, for the same reason.
fn lower_demand(plan: &Plan<'_>) -> bool {
    let is_asked = plan.options.seal_with.as_deref().is_some_and(|with_key| with_key != "auto");
    let Some(config) = &plan.config else { return false };
    let present = build::seal_with(&config.cache, plan.surroundings);
    if !is_asked || plan.tag != BackendTag::Tpm || present.accepts(Some(&plan.seal)) {
        return false;
    }
    // What keeps it from being written is reported once the key is there.
    demand_in_config(plan, SealWith::met_by(&plan.seal)).is_ok_and(|written| written)
}

/// What the key was sealed to, and what became of the config's demand.
fn sealed_words(plan: &Plan<'_>, sealed: &Path, is_lowered: bool) -> String {
    // `auto` is a wish; the file tells what became of it.
    let seal = fs::read(sealed).ok().and_then(|sealed| SealOptions::of(&sealed));
    let seal = seal.as_ref().unwrap_or(&plan.seal);
    let words =
        format!("sealed a new key in {} (to {seal}), and proved that it opens\n", sealed.display());
    if plan.options.seal_with.is_none() {
        return words;
    }
    let demand = SealWith::met_by(seal);
    match demand_in_config(plan, demand) {
        Ok(written) if written || is_lowered => {
            let path = plan.surroundings.paths.config.display();
            words + &format!("wrote seal_with = \"{}\" to [cache] of {path}\n", demand.name())
        }
        Ok(_) => words,
        Err(why) => {
            words
                + &format!(
                    "psid refuses this key until [cache] has seal_with = \"{}\": {why}; write that line there\n",
                    demand.name()
                )
        }
    }
}

/// Writes the demand that the new key meets; false when the config says so already.
fn demand_in_config(plan: &Plan<'_>, demand: SealWith) -> Result<bool, String> {
    let (surroundings, path) = (plan.surroundings, &plan.surroundings.paths.config);
    let default = surroundings.default_seal_with();
    if plan.config.is_none() {
        return if demand == default {
            Ok(false)
        } else {
            Err(format!("there is no {}", path.display()))
        };
    }
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(told)?;
    let changed = with_seal_line(&text, path, demand, default)?;
    if changed == text {
        return Ok(false);
    }
    files::replace_in_place(path, changed.as_bytes()).map_err(told)?;
    Ok(true)
}

fn next_words(plan: &Plan<'_>) -> String {
    let tag = plan.tag;
    let named = plan.config.as_ref().and_then(|config| config.cache.backend);
    if named == Some(tag) {
        return "next: `systemctl restart psid`\n".into();
    }
    format!("next: backend = \"{tag}\" in [cache] of the config, then `systemctl restart psid`\n")
}

/// Writes an empty cache. What lies there gets another name.
fn write_cache(path: &Path, keyring: &Keyring) -> Result<String, String> {
    let mut aside = if is_of_the_python_psi(path)? {
        let kept = files::back_up_as(path, cache_file::VERSION_1)
            .map_err(|error| files::problem(path, &error).to_string())?;
        let folder = path.parent().unwrap_or(path).display();
        let next =
            format!("it is the Python PSI's: `psid migrate --from psi {folder}` takes it over\n");
        told_of(path, kept.as_deref()) + &next
    } else {
        told_of(path, keep_aside(path)?.as_deref())
    };
    cache_file::write_empty(path, keyring)
        .map_err(|why| format!("writing {}: {why}; check the disk", path.display()))?;
    aside += &format!("wrote an empty {}\n", path.display());
    Ok(aside)
}

/// Not even with a key of its own may a key or a cache be lost by accident.
async fn refuse_to_replace(
    backend: &dyn KeyBackend,
    sealed: &Path,
    cache: &Path,
) -> Result<(), String> {
    if sealed.exists() && backend.tag() == BackendTag::Tpm {
        return Err(match backend.load(&[]).await {
            Ok(_) => format!(
                "the key in {} is in use; --force replaces it, and what only its cache and literals hold is lost",
                sealed.display()
            ),
            Err(error) if error.is_permanent => {
                format!("{error}; --force sets the old key aside, with what is sealed under it")
            }
            Err(error) => error.to_string(),
        });
    }
    if cache.exists() && !is_of_the_python_psi(cache)? {
        return Err(format!(
            "there is a cache in {} already; --force sets it aside, and what only it holds is lost",
            cache.display()
        ));
    }
    Ok(())
}

fn is_of_the_python_psi(cache: &Path) -> Result<bool, String> {
    is_old(cache).map_err(|error| files::problem(cache, &error).to_string())
}

/// The key is shown once, and stays nowhere.
fn make_recovery_key(
    keyring: &Keyring,
    path: &Path,
    options: &InitOptions,
) -> Result<String, String> {
    if !options.recovery {
        // One for another key is of no use.
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(format!("removing {}: {error}; check the disk", path.display()))
            }
            _ => Ok("made no recovery key; `psictl cache recovery-key` does\n".into()),
        };
    }
    let recovery = RecoveryKey::generate().map_err(|error| error.to_string())?;
    keyring
        .with_keys(|keys| recovery_key::wrap(&recovery, keys))
        .map_err(|error| error.to_string())
        .and_then(|file| files::replace(path, &file).map_err(|error| error.to_string()))
        .map_err(|error| format!("writing {}: {error}; check the disk", path.display()))?;
    let text = recovery.to_text();
    if let Some(file) = &options.recovery_file {
        write_recovery_key(file, &text).map_err(|error| {
            let again = "`psictl cache recovery-key` creates another one";
            format!(
                "writing the recovery key to {}: {error}; the key is in use, {again}",
                file.display()
            )
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

fn lock(surroundings: &Environment) -> Result<DirectoryLock, String> {
    let state = &surroundings.paths.state;
    files::lock_directory(state, Duration::ZERO).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => "psid is running; stop it first, `systemctl stop psid`".into(),
        _ => format!("{}: {error}; run it as psid's user or as root", state.display()),
    })
}

/// Keeps what a new file will replace: sealed as it is, it harms nobody, and may be wanted.
fn keep_aside(path: &Path) -> Result<Option<PathBuf>, String> {
    files::back_up(path).map_err(|error| {
        format!("{} cannot be set aside: {error}; check the folder", path.display())
    })
}

fn told_of(path: &Path, aside: Option<&Path>) -> String {
    let told =
        |aside: &Path| format!("set the present {} aside as {}\n", path.display(), aside.display());
    aside.map_or_else(String::new, told)
}
