//! In place: psid's first start on the state folder of the Python PSI.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use psi_common::CacheHeader;

use super::old_key::{NotOpened, OldKeys};
use super::old_state;
use super::ours::{KEPT, Ours};
use super::values::{self, Placed};
use crate::clock::Timestamp;
use crate::envelope::Vault;
use crate::files;
use crate::legacy::{self, LegacyError, SealedCache};
use crate::persist::{self, Remembered};
use crate::registry::Registry;
use crate::service::{Service, ServiceError};

/// Registers the mappings that lie in the state folder itself, when nothing was ever registered there, or
/// as long as `cache.enc` is the Python PSI's: a mapping whose secret was deleted later must not come
/// back. `Err` says what kept it from that.
pub fn take_mappings(state: &Path, registry: &Registry) -> Result<(), String> {
    let is_first = !state.join("secrets").exists() || is_old(&state.join("cache.enc"));
    if !is_first {
        return Ok(());
    }
    let told = |why: String| {
        format!(
            "the mappings of the Python PSI in {} were not taken over: {why}; then restart psid",
            state.display()
        )
    };
    let found = old_state::mappings(&[state])
        .map_err(|error| told(format!("{error}; see to the folder")))?;
    let all = found.understood.iter().map(|found| (found.id, &found.reference, &found.raw));
    let taken =
        registry.take_over(all).map_err(|error| told(ServiceError::from(error).to_string()))?;
    if !taken.is_empty() {
        tracing::info!(
            "took over {} mappings of the Python PSI; their files in {} are as they were",
            taken.len(),
            state.display()
        );
    }
    for (id, why) in &found.strange {
        tracing::warn!("{} was not taken over: {why}", state.join(id.as_str()).display());
    }
    Ok(())
}

/// What became of a `cache.enc` of the Python PSI's.
pub enum Conversion {
    /// There was none, or ours is in its place now.
    Done,
    /// It was not taken over, and made way: why, where it is, and what to do.
    SetAside(String),
    /// It was not taken over, and is in the way: why.
    InTheWay(String),
}

/// Puts our own cache in the place of the Python PSI's, with its values; the old file keeps its bytes and
/// gets another name.
pub async fn convert_cache(
    path: &Path,
    vault: &Arc<Vault>,
    keys: &OldKeys,
    service: &Service,
    now: Timestamp,
) -> Conversion {
    if !is_old(path) {
        return Conversion::Done;
    }
    let file = match old_state::cache(path) {
        Ok(file) => file.unwrap_or_default(),
        Err(error) => return Conversion::InTheWay(format!("{}: {error}", path.display())),
    };
    if let Err(why) = is_to_be_believed(&file, &persist::remembered(path, vault)) {
        return put_aside(path, KEPT, &why, true, now);
    }
    let old = match keys.open(&file).await {
        Ok(old) => old,
        Err(NotOpened::NoKey(why) | NotOpened::NoToken(why)) => {
            return put_aside(path, KEPT, &why, true, now);
        }
        Err(NotOpened::Unusable(why)) => {
            let another_key = why == LegacyError::NotAuthentic;
            return put_aside(path, "bad", &why.to_string(), another_key, now);
        }
    };
    let written_at = old.written_at();
    let registered = service.registry.all();
    let mut placed = values::place(old, values::references(&registered), service);
    let mut ours = Ours::in_place_of_an_old_one(path, Arc::clone(vault));
    let (taken, _) = ours.take(std::mem::take(&mut placed.values));
    match ours.write() {
        Ok(kept) => {
            tell(path, taken.values().sum(), &placed, written_at, &kept.unwrap_or_default());
            Conversion::Done
        }
        Err(why) => Conversion::InTheWay(format!(
            "{} is the Python PSI's and cannot be taken over: {why}; nothing is persisted until it is: \
             check the disk, then `systemctl reload psid`",
            path.display()
        )),
    }
}

/// Only at the first start: later, it is an old cache put back. And one under a token's public key may be
/// anybody's who can write to the disk, so `cache init` must have been run beside it.
fn is_to_be_believed(file: &[u8], remembered: &Remembered) -> Result<(), String> {
    let of_a_token = SealedCache::parse(file).is_ok_and(|sealed| sealed.wrapped().is_some());
    match remembered {
        Remembered::Generation(0) => Ok(()),
        Remembered::Nothing | Remembered::Begun if !of_a_token => Ok(()),
        Remembered::Nothing | Remembered::Begun => {
            Err("its key is wrapped by a token, which anybody can do, and no \
                                    `psi-driver cache init` was run beside it"
                .into())
        }
        Remembered::Generation(last) => {
            Err(format!("it is the Python PSI's, and generation {last} of ours was there before"))
        }
        Remembered::Unreadable(why) => Err(format!(
            "it is the Python PSI's, and whether one of ours was there before cannot be told: {why}"
        )),
    }
}

/// Whether a file says that it is the Python PSI's cache.
pub fn is_old(path: &Path) -> bool {
    let mut header = [0; CacheHeader::LEN];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && legacy::is_old_cache(&header)
}

fn tell(path: &Path, taken: usize, placed: &Placed, written_at: Timestamp, kept: &Path) {
    let Placed { unclaimed, sealed, homeless, .. } = placed;
    tracing::info!(
        "took over {taken} values of the Python PSI's {}, written at {}; dropped {unclaimed} that no mapping names \
         and {sealed} that are sealed in their mappings; the file is kept as {}",
        path.display(),
        values::time(written_at),
        kept.display()
    );
    for (section, count) in homeless {
        tracing::warn!(
            "{count} values of the Python PSI's cache need {section}, which the config has not; add it, stop psid, \
             and run `psi-driver cache adopt {}`",
            kept.display()
        );
    }
}

/// What may be taken over by hand is not bad.
fn put_aside(path: &Path, name: &str, why: &str, by_hand: bool, now: Timestamp) -> Conversion {
    let unusable = format!("{} is not usable: {why}", path.display());
    let aside = match files::rename_as(path, name, now.as_millis() / 1_000) {
        Ok(aside) => aside.display().to_string(),
        Err(error) => {
            return Conversion::InTheWay(format!(
                "{unusable}; it could not be set aside ({error}), so nothing is persisted"
            ));
        }
    };
    let remedy = if by_hand {
        format!(
            "while psid is stopped, `psi-driver cache adopt {aside}` takes it over, with --key FILE under another \
             key than ours"
        )
    } else {
        "the cache fills anew".into()
    };
    Conversion::SetAside(format!("{unusable}; it was set aside as {aside}; {remedy}"))
}
