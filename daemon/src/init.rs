//! `psid init`: makes and keeps a key, proves that it opens, and writes an empty cache.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::adopt::first_start;
use crate::assemble::Surroundings;
use crate::envelope::{BackendPart, Vault};
use crate::files;
use crate::key::{KeyBackend, SealOptions};
use crate::persist;
use crate::recovery::{self, RecoveryKey};
use crate::sealer::DataKey;

/// What an admin asks for.
pub struct Options {
    /// How a key of systemd's is sealed.
    pub seal: SealOptions,
    /// Whether a key and a cache that are in use are replaced.
    pub force: bool,
    /// Whether a recovery key is made.
    pub recovery: bool,
}

/// Provisions a key backend; `Ok` is what was done, for people.
pub async fn provision(
    surroundings: &Surroundings,
    backend: &dyn KeyBackend,
    options: &Options,
) -> Result<String, String> {
    let paths = &surroundings.paths;
    let (sealed, cache) = (paths.sealed_key(), paths.cache_file());
    let recovery = cache.with_file_name("recovery.enc");
    files::make_private_folder(&paths.state).map_err(|error| {
        format!("{}: {error}; run it as psid's user or as root", paths.state.display())
    })?;
    if !options.force {
        refuse_to_replace(backend, &sealed, &cache).await?;
    }
    // A running psid would write the cache again, under the key that it has.
    let _owner = lock(&paths.state)?;
    let key = DataKey::generate()
        .map_err(|error| format!("the kernel gives no random numbers: {error}; try again"))?;
    let kept = backend.keep(key, Some(&options.seal)).await.map_err(|error| error.to_string())?;
    // All that is replaced is kept under another name. Up to the commit, psid opens both keys and loses
    // nothing; from then on there is the new one, and what is not sealed under it is out of use.
    let mut done = match backend.tag() {
        psi_common::BackendTag::Tpm => told_of(&sealed, keep_aside(&sealed)?.as_deref()),
        psi_common::BackendTag::Hsm => String::new(),
    };
    done += &told_of(&recovery, keep_aside(&recovery)?.as_deref());
    let vault = Vault::new(kept.key, BackendPart { tag: backend.tag(), bytes: kept.part });
    // Beside the new cache, the number of the former one would tell of a rollback.
    persist::remember(&cache, &vault, 0)
        .map_err(|why| format!("writing beside {}: {why}; check the disk", cache.display()))?;
    backend.commit().await.map_err(|error| error.to_string())?;
    done += &write_cache(&cache, &vault)?;
    done += &match backend.tag() {
        psi_common::BackendTag::Tpm => {
            // `auto` is a wish; the file tells what became of it.
            let seal = fs::read(&sealed).ok().and_then(|sealed| SealOptions::of(&sealed));
            format!(
                "sealed a new key in {} (to {}), and proved that it opens\n",
                sealed.display(),
                seal.as_ref().unwrap_or(&options.seal)
            )
        }
        psi_common::BackendTag::Hsm => {
            "the token wrapped and signed a new key, and proved that it opens\n".into()
        }
    };
    done += &make_recovery_key(&vault, &recovery, options.recovery)?;
    let backend = backend.tag();
    Ok(done
        + &format!(
            "next: backend = \"{backend}\" in [cache] of the config, then `systemctl restart psid`\n"
        ))
}

/// Writes an empty cache. The Python PSI's stays as it is: ours takes its place when psid starts, and until
/// then the key's part is in the memory of the generation.
fn write_cache(path: &Path, vault: &Vault) -> Result<String, String> {
    if first_start::is_old(path) {
        return Ok(format!("left {}, the Python PSI's, for psid to take over\n", path.display()));
    }
    let aside = told_of(path, keep_aside(path)?.as_deref());
    persist::write_empty(path, vault)
        .map_err(|why| format!("writing {}: {why}; check the disk", path.display()))?;
    Ok(aside + &format!("wrote an empty {}\n", path.display()))
}

/// Not even with a key of its own may a key or a cache be lost by accident.
async fn refuse_to_replace(
    backend: &dyn KeyBackend,
    sealed: &Path,
    cache: &Path,
) -> Result<(), String> {
    if sealed.exists() && backend.tag() == psi_common::BackendTag::Tpm {
        return Err(match backend.load(&[]).await {
            Ok(_) => format!(
                "the key in {} is in use; --force replaces it, and what only its cache and literals hold is lost",
                sealed.display()
            ),
            Err(error) => {
                format!("{error}; --force sets the old key aside, with what is sealed under it")
            }
        });
    }
    if cache.exists() && !first_start::is_old(cache) {
        return Err(format!(
            "there is a cache in {} already; --force sets it aside, and what only it holds is lost",
            cache.display()
        ));
    }
    Ok(())
}

/// The key is shown once, and stays nowhere.
fn make_recovery_key(vault: &Vault, path: &Path, wanted: bool) -> Result<String, String> {
    if !wanted {
        // One for another key is of no use.
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(format!("removing {}: {error}; check the disk", path.display()))
            }
            _ => Ok("made no recovery key; `psi-driver cache recovery-key` does\n".into()),
        };
    }
    let recovery = RecoveryKey::generate().map_err(|error| error.to_string())?;
    vault
        .look(|keys| recovery::wrap(&recovery, keys))
        .map_err(|error| error.to_string())
        .and_then(|file| files::replace(path, &file).map_err(|error| error.to_string()))
        .map_err(|error| format!("writing {}: {error}; check the disk", path.display()))?;
    let text = recovery.to_text();
    Ok(format!(
        "\nrecovery key, shown only now; keep it off this host. After a change of board or firmware,\n\
         `psi-driver cache recover` opens the cache and the literals with it:\n\n    {}\n\n",
        String::from_utf8_lossy(text.expose_secret())
    ))
}

fn lock(state: &Path) -> Result<fs::File, String> {
    files::lock_folder(state).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => "psid is running; stop it first, `systemctl stop psid`".into(),
        _ => format!("{}: {error}; run it as psid's user or as root", state.display()),
    })
}

/// Keeps what a new file will replace: sealed as it is, it harms nobody, and may be wanted.
fn keep_aside(path: &Path) -> Result<Option<PathBuf>, String> {
    files::keep_aside(path).map_err(|error| {
        format!("{} cannot be set aside: {error}; check the folder", path.display())
    })
}

fn told_of(path: &Path, aside: Option<&Path>) -> String {
    let told =
        |aside: &Path| format!("set the present {} aside as {}\n", path.display(), aside.display());
    aside.map_or_else(String::new, told)
}
