//! `cache.enc`: its reader, and its writer, which runs after changes in memory. No lookup waits for it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use psi_common::Problem;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Snapshot};
use crate::crypto::envelope::{self, AadContext, EnvelopeError, WrappedKeyHeader};
use crate::crypto::keyring::Keyring;
use crate::model::clock::{self, Timestamp};
use crate::storage::payload;
use crate::sys::files;

/// Changes within this time are written together.
const BATCH_WINDOW: Duration = Duration::from_millis(50);
/// The pause after a write, in multiples of its duration, so that writes of a large cache take a small share of the
/// time.
const PAUSE_FACTOR: u32 = 12;
/// The longest such pause.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// The pause after a failed write, unless a change ends it.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// The suffix of a cache of version 1 that was set aside: `cache.enc.v1-TIME`.
pub(crate) const VERSION_1: &str = "v1";

/// A write that takes longer is reported as failed.
const HANG_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes the cache file after changes.
pub(crate) struct Persister {
    path: PathBuf,
    keyring: Arc<Keyring>,
    cache: Arc<Cache>,
    /// Wakes the writer after a change.
    changed: watch::Sender<()>,
    state: Mutex<PersistState>,
    /// Held during a write, also if its caller is cancelled: the file has one writer at a time.
    writing: Mutex<()>,
}

/// The state of the cache file.
#[derive(Clone, Debug, Default)]
pub(crate) struct PersistState {
    /// The generation on disk.
    pub generation: u64,
    /// The number of changes it contains.
    pub changes: u64,
    /// The error of the last write, if it failed.
    pub error: Option<String>,
    /// The number of failed writes since the start.
    pub errors: u64,
    /// When the running write began.
    writing_since: Option<Instant>,
}

/// The result of reading the cache file.
pub(crate) enum Loaded {
    /// There is no file.
    Nothing,
    /// A valid cache.
    Snapshot(Snapshot),
    /// The file is unusable and was renamed: the message with the cause and the new name.
    Quarantined(String),
    /// The file could not be read, or not be renamed: the message. It stays, and reading it is retried.
    Blocked(String),
}

/// The wrapped-key header of the cache file, if there is one.
pub(crate) fn wrapped_key_header(path: &Path) -> Result<Option<WrappedKeyHeader>, Problem> {
    match fs::read(path) {
        Ok(file) => Ok(envelope::wrapped_key_header(&file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::problem(path, &error)),
    }
}

/// Writes a generation of the cache.
pub(crate) fn write(path: &Path, keyring: &Keyring, snapshot: &Snapshot) -> io::Result<()> {
    let write = |out: &mut Vec<u8>| payload::encode(snapshot, clock::now().wall, out);
    let cache = keyring
        .seal_written(AadContext::Cache, payload::max_len(snapshot), write)
        .map_err(io::Error::other)?;
    files::replace(path, &cache)
}

/// Writes an empty cache, under a new key.
pub(crate) fn write_empty(path: &Path, keyring: &Keyring) -> io::Result<()> {
    write(path, keyring, &Snapshot { generation: 1, entries: Vec::new() })
}

/// Seals a cache file under the present key, while no persister runs.
pub(crate) fn reseal(path: &Path, keyring: &Keyring) -> io::Result<()> {
    let file = match fs::read(path) {
        Ok(file) if !keyring.is_present(AadContext::Cache, &file) => file,
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => return Ok(()),
    };
    // A file that does not open stays unchanged.
    let Ok(snapshot) = open(&file, keyring) else { return Ok(()) };
    write(path, keyring, &snapshot)
}

fn open(file: &[u8], keyring: &Keyring) -> Result<Snapshot, EnvelopeError> {
    keyring.open(AadContext::Cache, file).and_then(|bytes| payload::decode(&bytes))
}

/// Reads the cache file. A file that does not decode is renamed, never overwritten; one that cannot be read may be
/// valid, and stays.
pub(crate) fn load(path: &Path, keyring: &Keyring, now: Timestamp) -> Loaded {
    let file = match fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Loaded::Nothing,
        Err(error) => {
            return Loaded::Blocked(format!(
                "the cache cannot be read, which is tried again: {}",
                files::problem(path, &error)
            ));
        }
    };
    let why = match open(&file, keyring) {
        Ok(snapshot) => return Loaded::Snapshot(snapshot),
        Err(why) => why,
    };
    let (suffix, why, next) = if why == EnvelopeError::Version(1) {
        let directory = path.parent().unwrap_or(path).display();
        let next = format!("to import it, stop psid and run `psid migrate --from psi {directory}`");
        (VERSION_1, "it is of psi version 1".to_owned(), next)
    } else {
        ("bad", why.to_string(), "a new cache is built".to_owned())
    };
    let unusable = format!("{} is not usable: {why}", path.display());
    match files::move_aside(path, suffix, now.as_millis() / 1_000) {
        Ok(aside) => Loaded::Quarantined(format!(
            "{unusable}; it was set aside as {}; {next}",
            aside.display()
        )),
        Err(error) => Loaded::Blocked(format!(
            "{unusable}; it cannot be set aside, which is tried again: {}",
            files::problem(path, &error)
        )),
    }
}

impl Persister {
    /// A persister that continues after `generation`.
    pub(crate) fn new(
        path: PathBuf,
        keyring: Arc<Keyring>,
        cache: Arc<Cache>,
        generation: u64,
    ) -> Self {
        // Changes count from the start of the process: values fetched before the key opened are not in the file.
        let state = Mutex::new(PersistState { generation, ..PersistState::default() });
        let changed = watch::Sender::default();
        let wake = changed.clone();
        cache.observe(move || wake.send_replace(()));
        Self { path, keyring, cache, changed, state, writing: Mutex::default() }
    }

    /// The state of the file.
    pub(crate) fn state(&self) -> PersistState {
        let mut state = self.state.lock().clone();
        // A disk that hangs returns no error.
        if let Some(elapsed) = state.writing_since.map(|since| since.elapsed())
            && elapsed > HANG_TIMEOUT
        {
            let seconds = elapsed.as_secs();
            state.error.get_or_insert(format!("a write has been running for {seconds} s"));
        }
        state
    }

    /// Whether the file contains all changes.
    pub(crate) fn is_current(&self) -> bool {
        self.state.lock().changes == self.cache.changes()
    }

    /// Writes after changes until `stop`, then a last time.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.changed.subscribe();
        let mut earliest = Instant::now();
        while !stop.is_cancelled() {
            if self.is_current() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = changes.changed() => {}
                }
            }
            let batched = Instant::now() + BATCH_WINDOW;
            let _ = tokio::time::timeout_at(batched.max(earliest), stop.cancelled()).await;
            changes.mark_unchanged();
            let began = Instant::now();
            let is_durable = self.write().await;
            let ended = Instant::now();
            earliest = ended + MAX_PAUSE.min(PAUSE_FACTOR * (ended - began));
            if !is_durable {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = tokio::time::timeout(RETRY_PAUSE, changes.changed()) => {}
                }
            }
        }
        if !self.is_current() {
            self.write().await;
        }
    }

    /// Writes one generation; true if it is durable.
    pub(crate) async fn write(self: &Arc<Self>) -> bool {
        let this = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || this.write_blocking()).await;
        written.unwrap_or_else(|_| self.record(Err(io::Error::other("the writer crashed"))))
    }

    fn write_blocking(&self) -> bool {
        // The result is recorded before the next write begins, so the state is that of the last write.
        let _writing = self.writing.lock();
        self.state.lock().writing_since = Some(Instant::now());
        // Read before the snapshot: a change in between is written again, never missed.
        let changes = self.cache.changes();
        let generation = self.state.lock().generation + 1;
        let snapshot = self.cache.snapshot(generation);
        let written = write(&self.path, &self.keyring, &snapshot);
        self.record(written.map(|()| (generation, changes)))
    }

    /// Records the result of a write; true if it is durable.
    fn record(&self, written: io::Result<(u64, u64)>) -> bool {
        let mut state = self.state.lock();
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
            Err(error) => {
                state.errors += 1;
                if state.error.is_none() {
                    tracing::warn!("{path} cannot be written, which is retried: {error}");
                }
                state.error = Some(error.to_string());
                false
            }
        }
    }

    /// Reads the file back and compares it with memory; returns a message with the result.
    pub(crate) async fn verify(self: &Arc<Self>) -> Result<String, Problem> {
        // A pending write is not a difference.
        if !self.is_current() {
            self.write().await;
        }
        let this = Arc::clone(self);
        let verified = tokio::task::spawn_blocking(move || this.verify_blocking()).await;
        verified.unwrap_or_else(|_| Err(Problem::without_remedy("the verification crashed")))
    }

    fn verify_blocking(&self) -> Result<String, Problem> {
        let path = self.path.display();
        let file = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.has_nothing_to_persist() => {
                return Ok("there is no file, and no value to store".into());
            }
            file => file.map_err(|error| {
                Problem::without_remedy(format!("{path} cannot be read: {error}"))
            })?,
        };
        let snapshot = open(&file, &self.keyring)
            .map_err(|error| Problem::without_remedy(format!("{path} is not usable: {error}")))?
            .sorted();
        let ram = self.cache.snapshot(snapshot.generation).sorted();
        let same = ram.entries.len() == snapshot.entries.len()
            && ram.entries.iter().zip(&snapshot.entries).all(
                |((key, entry), (stored_key, stored))| {
                    key == stored_key && entry.value().same_as(stored.value())
                },
            );
        if same {
            Ok(format!(
                "generation {} opens and holds the {} entries of RAM",
                snapshot.generation,
                ram.entries.len()
            ))
        } else if self.is_current() {
            Err(Problem::without_remedy(format!(
                "generation {} opens, but holds other entries than RAM",
                snapshot.generation
            )))
        } else {
            Ok(format!("generation {} opens; RAM has changed since", snapshot.generation))
        }
    }

    /// Whether no value may be stored: values from a token stay in memory.
    fn has_nothing_to_persist(&self) -> bool {
        self.cache.snapshot(0).entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use psi_common::{BackendTag, SecretBytes};

    use super::*;
    use crate::cache::{BootId, Entry, Policy};
    use crate::crypto::aead::DataKey;
    use crate::crypto::envelope::WrappedKeyHeader;
    use crate::model::reference::{CacheKey, Namespace};

    fn persister(directory: &Path) -> Persister {
        let part = WrappedKeyHeader { tag: BackendTag::Tpm, bytes: Vec::new() };
        let keyring = Arc::new(Keyring::new(DataKey::generate().unwrap(), part));
        let policy =
            Policy { enabled: true, fresh_for: HANG_TIMEOUT, max_stale: None, evict_revoked: true };
        let cache = Arc::new(Cache::new(policy, BootId(NonZeroU64::MIN)));
        Persister::new(directory.join("cache.enc"), keyring, cache, 0)
    }

    #[tokio::test]
    async fn verify_accepts_the_written_entries_in_any_order() {
        let directory = tempfile::tempdir().unwrap();
        let persister = Arc::new(persister(directory.path()));
        let entry = |n: u8| {
            let key = CacheKey::new(Namespace::new(&["n"]), "/", format!("K{n}"));
            (key, Arc::new(Entry::new(SecretBytes::new(vec![n]), Timestamp::from_millis(1))))
        };
        let entries = (0..50).map(entry).collect();
        persister.cache.restore(Snapshot { generation: 0, entries }, clock::now());
        assert!(persister.write_blocking());
        assert!(persister.verify().await.unwrap().contains("holds the 50 entries of RAM"));
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_write_is_reported_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let persister = persister(directory.path());
        persister.state.lock().writing_since = Some(Instant::now());
        tokio::time::advance(HANG_TIMEOUT).await;
        assert_eq!(persister.state().error, None);
        tokio::time::advance(Duration::from_secs(1)).await;
        let error = persister.state().error;
        assert_eq!(error.as_deref(), Some("a write has been running for 31 s"));
        assert!(persister.write_blocking());
        assert_eq!(persister.state().error, None);
    }
}
