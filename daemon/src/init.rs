//! `psid init`: makes and seals a key, proves that it opens, and writes an empty cache.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::assemble::{self, Surroundings};
use crate::cache::Snapshot;
use crate::clock;
use crate::envelope::{BackendPart, Content, Vault};
use crate::files;
use crate::key::{KeyBackend, LoadedKey, SealOptions};
use crate::payload;

/// Provisions the tpm backend; `Ok` is what was done, for people.
pub async fn provision_tpm(
    surroundings: &Surroundings,
    seal: SealOptions,
    force: bool,
) -> Result<String, String> {
    let paths = &surroundings.paths;
    let backend = assemble::tpm(surroundings, seal.clone());
    let (sealed, cache) = (paths.sealed_key(), paths.cache_file());
    files::make_private_folder(&paths.state).map_err(|error| {
        format!("{}: {error}; run it as psid's user or as root", paths.state.display())
    })?;
    if sealed.exists() && !force {
        return Err(match backend.load(None).await {
            Ok(_) => format!(
                "the key in {} is in use; --force replaces it, and what only its cache and literals hold is lost",
                sealed.display()
            ),
            Err(error) => {
                format!("{error}; --force sets the old key aside, with what is sealed under it")
            }
        });
    }
    if cache.exists() && !force {
        return Err(format!(
            "there is a cache in {} already; --force sets it aside, and what only it holds is lost",
            cache.display()
        ));
    }
    // A running psid would write the cache again, under the key that it has.
    let _owner = if force { Some(lock(&paths.state)?) } else { None };
    let old_key = keep_aside(&sealed)?;
    let LoadedKey { key, part } = match backend.provision().await {
        Ok(loaded) => loaded,
        Err(error) => {
            let _ = old_key.as_ref().map(fs::remove_file);
            return Err(error.to_string());
        }
    };
    let mut done = told_of(&sealed, old_key.as_deref());
    done += &format!(
        "sealed a new key in {} ({}), and proved that it opens\n",
        sealed.display(),
        bound_to(&seal)
    );
    done += &told_of(&cache, keep_aside(&cache)?.as_deref());
    let vault = Vault::new(&key, BackendPart { tag: backend.tag(), bytes: part });
    let empty =
        payload::encode(&Snapshot { generation: 1, entries: Vec::new() }, clock::now().wall);
    vault
        .seal(Content::Cache, &empty)
        .map_err(|error| error.to_string())
        .and_then(|file| files::replace(&cache, &file).map_err(|error| error.to_string()))
        .map_err(|error| format!("writing {}: {error}; check the disk", cache.display()))?;
    done += &format!("wrote an empty {}\n", cache.display());
    Ok(done + "next: backend = \"tpm\" in [cache] of the config, then `systemctl restart psid`\n")
}

fn bound_to(seal: &SealOptions) -> String {
    match (seal.with_key.as_str(), seal.tpm2_pcrs.as_str()) {
        ("host", _) => "to this host's own key".into(),
        (key, "") => format!("to {key}, without PCRs"),
        (key, pcrs) => format!("to {key}, PCRs {pcrs}"),
    }
}

fn lock(state: &Path) -> Result<fs::File, String> {
    files::lock_folder(state).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => "psid is running; stop it first, `systemctl stop psid`".into(),
        _ => format!("{}: {error}; run it as psid's user or as root", state.display()),
    })
}

/// Keeps what a new file will replace: sealed as it is, it harms nobody, and may be wanted.
fn keep_aside(path: &Path) -> Result<Option<PathBuf>, String> {
    files::keep_aside(path, clock::now().wall.as_millis() / 1_000).map_err(|error| {
        format!("{} cannot be set aside: {error}; check the folder", path.display())
    })
}

fn told_of(path: &Path, aside: Option<&Path>) -> String {
    let told =
        |aside: &Path| format!("set the present {} aside as {}\n", path.display(), aside.display());
    aside.map_or_else(String::new, told)
}
