//! Keeping `cache.enc` equal to what is in RAM: one writer, woken by changes, never waited for.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Snapshot};
use crate::crypto::envelope::{self, AadContext, EnvelopeError, Keyring, WrappedKeyHeader};
use crate::model::clock::{self, Timestamp};
use crate::storage::payload;
use crate::sys::files;

/// Changes within this time become one write…
const GATHER: Duration = Duration::from_millis(50);
/// … and those within so many times what the last write took, counted from its end: while one miss after the
/// other comes, a large cache is written for a small share of the time…
const REST: u32 = 12;
/// … but as often as this.
const LATEST: Duration = Duration::from_millis(500);
/// How long after a write that failed to try again, when nothing else changes.
const RETRY: Duration = Duration::from_secs(30);

/// What follows the name of a cache of version 1 that made way: `cache.enc.v1-TIME`.
pub(crate) const OLD: &str = "v1";

/// A write that takes longer is reported like one that failed.
const HANGS: Duration = Duration::from_secs(30);

/// Writes the cache file.
pub struct Persister {
    path: PathBuf,
    vault: Arc<Keyring>,
    cache: Arc<Cache>,
    /// Wakes the writer after a change.
    changed: watch::Sender<()>,
    state: Mutex<PersistState>,
    /// The file has one writer at a time, also when who asked for a write has gone.
    writing: Mutex<()>,
}

/// How the cache file fares.
#[derive(Clone, Debug, Default)]
pub struct PersistState {
    /// The generation that is on disk.
    pub generation: u64,
    /// The count of changes that it holds.
    pub changes: u64,
    /// Why the last write failed, if it did.
    pub error: Option<String>,
    /// How many writes failed since the start.
    pub errors: u64,
    /// Since when a write is under way.
    writing_since: Option<Instant>,
}

/// What was found in place of a cache file.
pub(crate) enum Loaded {
    /// None.
    Nothing,
    /// A good one.
    Snapshot(Snapshot),
    /// One that cannot be used, and is out of the way now: why, and where it is.
    Quarantined(String),
    /// One that could not be read, or not be set aside: why. It stays as it is, and is to be tried again.
    Blocked(String),
}

/// The backend's part that the cache file carries, if there is one: a key backend may find its key by it.
pub(crate) fn backend_part(path: &Path) -> Result<Option<WrappedKeyHeader>, String> {
    match fs::read(path) {
        Ok(file) => Ok(envelope::backend_part(&file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::problem(path, &error).to_string()),
    }
}

/// Writes a generation of the cache.
pub(crate) fn write(path: &Path, vault: &Keyring, snapshot: &Snapshot) -> Result<(), String> {
    let write = |out: &mut Vec<u8>| payload::encode(snapshot, clock::now().wall, out);
    let cache = vault
        .seal_written(AadContext::Cache, payload::room(snapshot), write)
        .map_err(|error| error.to_string())?;
    files::replace(path, &cache).map_err(|error| error.to_string())
}

/// Writes an empty cache, under a new key.
pub(crate) fn write_empty(path: &Path, vault: &Keyring) -> Result<(), String> {
    write(path, vault, &Snapshot { generation: 1, entries: Vec::new() })
}

/// Seals a cache file under the present key that nobody keeps up to date.
pub(crate) fn reseal(path: &Path, vault: &Keyring) -> Result<(), String> {
    let file = match fs::read(path) {
        Ok(file) if !vault.is_present(AadContext::Cache, &file) => file,
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.to_string()),
        _ => return Ok(()),
    };
    // One that does not open stays for what it is.
    let Ok(snapshot) = open(&file, vault) else { return Ok(()) };
    write(path, vault, &snapshot)
}

fn open(file: &[u8], vault: &Keyring) -> Result<Snapshot, EnvelopeError> {
    vault.open(AadContext::Cache, file).and_then(|bytes| payload::decode(&bytes))
}

/// Reads the cache file. One that decodes wrongly is set aside, never overwritten; one that cannot be read
/// may be a good one, and stays.
pub(crate) fn load(path: &Path, vault: &Keyring, now: Timestamp) -> Loaded {
    let file = match fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Loaded::Nothing,
        Err(error) => {
            return Loaded::Blocked(format!(
                "the cache cannot be read, which is tried again: {}",
                files::problem(path, &error).to_string()
            ));
        }
    };
    let why = match open(&file, vault) {
        Ok(snapshot) => return Loaded::Snapshot(snapshot),
        Err(why) => why,
    };
    let (what, why, then) = if why == EnvelopeError::Version(1) {
        let folder = path.parent().unwrap_or(path).display();
        let then = format!("to take it over, stop psid and run `psid migrate --from psi {folder}`");
        (OLD, "it is the Python PSI's".to_owned(), then)
    } else {
        ("bad", why.to_string(), "the cache fills anew".to_owned())
    };
    let unusable = format!("{} is not usable: {why}", path.display());
    match files::move_aside(path, what, now.as_millis() / 1_000) {
        Ok(aside) => Loaded::Quarantined(format!(
            "{unusable}; it was set aside as {}; {then}",
            aside.display()
        )),
        Err(error) => Loaded::Blocked(format!(
            "{unusable}; it cannot be set aside, which is tried again: {}",
            files::problem(path, &error).to_string()
        )),
    }
}

impl Persister {
    /// A persister that continues after `generation`.
    pub fn new(path: PathBuf, vault: Arc<Keyring>, cache: Arc<Cache>, generation: u64) -> Self {
        // What was fetched before the key came is not in the file: changes count from the process's start.
        let state = Mutex::new(PersistState { generation, ..PersistState::default() });
        let changed = watch::Sender::default();
        let wake = changed.clone();
        cache.observe(move || wake.send_replace(()));
        Self { path, vault, cache, changed, state, writing: Mutex::default() }
    }

    /// How the file fares.
    pub fn state(&self) -> PersistState {
        let mut state = self.lock().clone();
        // A disk that hangs gives no error, and yet nothing gets there.
        if let Some(lasted) = state.writing_since.map(|since| since.elapsed())
            && lasted > HANGS
        {
            let seconds = lasted.as_secs();
            state.error.get_or_insert(format!("a write has been under way for {seconds} s"));
        }
        state
    }

    /// Whether the file holds every change.
    pub fn is_current(&self) -> bool {
        self.lock().changes == self.cache.changes()
    }

    /// Writes after changes until `stop`, and then what is left.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.changed.subscribe();
        let mut rested = Instant::now();
        while !stop.is_cancelled() {
            if self.is_current() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = changes.changed() => {}
                }
            }
            let gathered = Instant::now() + GATHER;
            let _ = tokio::time::timeout_at(gathered.max(rested), stop.cancelled()).await;
            changes.mark_unchanged();
            let began = Instant::now();
            let is_durable = self.write().await;
            let ended = Instant::now();
            rested = ended + LATEST.min(REST * (ended - began));
            if !is_durable {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = tokio::time::timeout(RETRY, changes.changed()) => {}
                }
            }
        }
        if !self.is_current() {
            self.write().await;
        }
    }

    /// Writes one generation; true when it is durable.
    pub async fn write(self: &Arc<Self>) -> bool {
        let this = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || this.write_blocking()).await;
        written.unwrap_or_else(|_| self.note(Err("the writer crashed".into())))
    }

    fn write_blocking(&self) -> bool {
        // What became of a write is noted before the next one begins: of two at once, the later one counts.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock().writing_since = Some(Instant::now());
        // The count first: a change in between is written again, never missed.
        let changes = self.cache.changes();
        let generation = self.lock().generation + 1;
        let snapshot = self.cache.snapshot(generation);
        let written = write(&self.path, &self.vault, &snapshot);
        self.note(written.map(|()| (generation, changes)))
    }

    /// Takes note of what became of a write; true when it is durable.
    fn note(&self, written: Result<(u64, u64), String>) -> bool {
        let mut state = self.lock();
        state.writing_since = None;
        let path = self.path.display();
        match written {
            Ok((generation, changes)) => {
                if state.error.take().is_some() {
                    tracing::info!(errors = state.errors, "{path} is written again");
                }
                (state.generation, state.changes) = (generation, changes);
                true
            }
            Err(why) => {
                state.errors += 1;
                if state.error.is_none() {
                    tracing::warn!("{path} cannot be written, which is retried: {why}");
                }
                state.error = Some(why);
                false
            }
        }
    }

    /// Reads the file back and compares it with RAM; the sentence says what was found.
    pub async fn verify(self: &Arc<Self>) -> Result<String, String> {
        // What is on its way to the disk is not a difference.
        if !self.is_current() {
            self.write().await;
        }
        let this = Arc::clone(self);
        let verified = tokio::task::spawn_blocking(move || this.verify_blocking()).await;
        verified.unwrap_or_else(|_| Err("the verification crashed".into()))
    }

    fn verify_blocking(&self) -> Result<String, String> {
        let file = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.has_nothing_to_keep() => {
                return Ok("nothing is to be kept, and there is no file".into());
            }
            file => {
                file.map_err(|error| format!("{} cannot be read: {error}", self.path.display()))?
            }
        };
        let snapshot = open(&file, &self.vault)
            .map_err(|why| format!("{} is not usable: {why}", self.path.display()))?
            .sorted();
        let ram = self.cache.snapshot(snapshot.generation);
        let same = ram.entries.len() == snapshot.entries.len()
            && ram.entries.iter().zip(&snapshot.entries).all(
                |((at, entry), (stored_at, stored))| {
                    at == stored_at && entry.value().same_as(stored.value())
                },
            );
        if same {
            Ok(format!(
                "generation {} opens and holds the {} entries of RAM",
                snapshot.generation,
                ram.entries.len()
            ))
        } else if self.is_current() {
            Err(format!(
                "generation {} opens, but holds other entries than RAM",
                snapshot.generation
            ))
        } else {
            Ok(format!("generation {} opens; RAM has changed since", snapshot.generation))
        }
    }

    /// What a token opened stays in RAM, and needs no file.
    fn has_nothing_to_keep(&self) -> bool {
        self.cache.snapshot(0).entries.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, PersistState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use psi_common::BackendTag;

    use super::*;
    use crate::cache::{BootId, Policy};
    use crate::crypto::aead::DataKey;
    use crate::crypto::envelope::WrappedKeyHeader;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_reported_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let part = WrappedKeyHeader { tag: BackendTag::Tpm, bytes: Vec::new() };
        let vault = Arc::new(Keyring::new(DataKey::generate().unwrap(), part));
        let policy =
            Policy { enabled: true, fresh_for: HANGS, max_stale: None, evict_revoked: true };
        let cache = Cache::new(policy, BootId(NonZeroU64::MIN));
        let cache = Arc::new(cache);
        let path = directory.path().join("cache.enc");
        let persister = Persister::new(path, vault, cache, 0);
        persister.lock().writing_since = Some(Instant::now());
        tokio::time::advance(HANGS).await;
        assert_eq!(persister.state().error, None);
        tokio::time::advance(Duration::from_secs(1)).await;
        let error = persister.state().error;
        assert_eq!(error.as_deref(), Some("a write has been under way for 31 s"));
        assert!(persister.write_blocking());
        assert_eq!(persister.state().error, None);
    }
}
