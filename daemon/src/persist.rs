//! Keeping `cache.enc` equal to what is in RAM: one writer, woken by changes, never waited for.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::Snapshot;
use crate::clock::{self, Timestamp};
use crate::envelope::{self, BackendPart, Content, Envelope, Vault};
use crate::files;
use crate::payload;
use crate::shared_cache::SharedCache;

/// Changes within this time become one write…
const GATHER: Duration = Duration::from_millis(50);
/// … and those within so many times what the last write took, counted from its end: while one miss after the
/// other comes, a large cache is written for a small share of the time…
const REST: u32 = 12;
/// … but as often as this.
const LATEST: Duration = Duration::from_millis(500);
/// How long after a write that failed to try again, when nothing else changes.
const RETRY: Duration = Duration::from_secs(30);

/// Writes the cache file.
pub struct Persister {
    path: PathBuf,
    vault: Arc<Vault>,
    cache: Arc<SharedCache>,
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
}

/// What was found in place of a cache file.
pub enum Loaded {
    /// None.
    Nothing,
    /// A good one.
    Snapshot(Snapshot),
    /// One that cannot be used, and is out of the way now: why, and where it is.
    SetAside(String),
    /// One that cannot be used, and could not be set aside: why.
    InTheWay(String),
}

/// The backend's parts that the cache file and the memory of its generation carry, as far as they can be
/// read: a key backend may find its key by them.
pub fn backend_parts(path: &Path) -> Vec<BackendPart> {
    let files =
        [path.to_owned(), memory_of(path)].into_iter().filter_map(|path| fs::read(path).ok());
    files.filter_map(|file| envelope::backend_part(&file)).collect()
}

/// What the memory of the generation says. It lies outside the cache file, so that an older one that
/// somebody puts in its place is noticed.
pub enum Remembered {
    /// There is none.
    Nothing,
    /// The first start with a key has begun, and is not over.
    Begun,
    /// The generation that was written last; 0 is what `cache init` leaves.
    Generation(u64),
    /// It cannot be used: why.
    Unreadable(String),
}

/// Reads the memory of the generation of the cache at `path`.
pub fn remembered(path: &Path, vault: &Vault) -> Remembered {
    let memory = memory_of(path);
    let generation = match fs::read(&memory) {
        Ok(file) => vault
            .open(Content::Generation, &file)
            .and_then(|bytes| payload::decode_generation(&bytes))
            .map_err(|why| why.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Remembered::Nothing,
        Err(error) => Err(error.to_string()),
    };
    match generation {
        Ok(Some(generation)) => Remembered::Generation(generation),
        Ok(None) => Remembered::Begun,
        Err(why) => Remembered::Unreadable(format!("{}: {why}", memory.display())),
    }
}

/// Whether nothing was ever written under the vault's keys: there is no memory and no cache of ours, and
/// no registration is sealed; or the memory says so, as `cache init` leaves it.
pub fn is_first(path: &Path, vault: &Vault, has_sealed: bool) -> bool {
    match remembered(path, vault) {
        Remembered::Nothing => !has_sealed && !is_begun(path),
        // An old memory that somebody put back lies beside a cache that was written since.
        Remembered::Begun | Remembered::Generation(0) => {
            let opened =
                fs::read(path).ok().and_then(|file| vault.open(Content::Cache, &file).ok());
            let snapshot = opened.and_then(|bytes| payload::decode(&bytes).ok());
            snapshot.is_none_or(|snapshot| snapshot.generation <= 1)
        }
        Remembered::Generation(_) | Remembered::Unreadable(_) => false,
    }
}

/// Whether there is a memory or a cache of ours, whatever its key.
pub fn is_begun(path: &Path) -> bool {
    memory_of(path).exists() || fs::read(path).is_ok_and(|file| is_ours(&file))
}

/// Whether a file says that it is a cache of this version.
fn is_ours(file: &[u8]) -> bool {
    Envelope::parse(Content::Cache, file).is_ok()
}

/// Writes a generation of the cache, and then its number: a crash in between leaves a file that is newer
/// than the memory, which is no rollback.
pub fn write(path: &Path, vault: &Vault, snapshot: &Snapshot) -> Result<(), String> {
    let _freed_last = write_cache(path, vault, snapshot)?;
    remember(path, vault, snapshot.generation)
}

/// Writes an empty cache under a new key, whose memory says 0.
pub fn write_empty(path: &Path, vault: &Vault) -> Result<(), String> {
    write_cache(path, vault, &Snapshot { generation: 1, entries: Vec::new() }).map(drop)
}

/// The bytes come back: to wipe and free those of a large cache takes as long as to write some.
fn write_cache(path: &Path, vault: &Vault, snapshot: &Snapshot) -> Result<Vec<u8>, String> {
    let write = |out: &mut Vec<u8>| payload::encode(snapshot, clock::now().wall, out);
    let cache = vault
        .seal_written(Content::Cache, payload::room(snapshot), write)
        .map_err(|error| error.to_string())?;
    files::replace(path, &cache).map_err(|error| error.to_string())?;
    Ok(cache)
}

/// Writes the number of the generation of the cache at `path` that was written last; 0 before the first.
pub fn remember(path: &Path, vault: &Vault, generation: u64) -> Result<(), String> {
    write_memory(path, vault, Some(generation))
}

/// Takes note that the first start with a key has begun.
pub fn remember_beginning(path: &Path, vault: &Vault) -> Result<(), String> {
    write_memory(path, vault, None)
}

fn write_memory(path: &Path, vault: &Vault, generation: Option<u64>) -> Result<(), String> {
    let number = payload::encode_generation(generation);
    let memory = vault.seal(Content::Generation, &number).map_err(|error| error.to_string())?;
    files::replace(&memory_of(path), &memory).map_err(|error| error.to_string())
}

/// Seals a cache file under the present key that nobody keeps up to date.
pub fn reseal(path: &Path, vault: &Vault) -> Result<(), String> {
    let file = match fs::read(path) {
        Ok(file) if !vault.is_present(Content::Cache, &file) => file,
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.to_string()),
        _ => return Ok(()),
    };
    // One that does not open stays for what it is.
    let Ok(snapshot) = vault.open(Content::Cache, &file).and_then(|bytes| payload::decode(&bytes))
    else {
        return Ok(());
    };
    write(path, vault, &snapshot)
}

fn memory_of(path: &Path) -> PathBuf {
    path.with_file_name("generation")
}

/// Reads the cache file. One that cannot be used is set aside, never overwritten.
pub fn load(path: &Path, vault: &Vault, now: Timestamp) -> Loaded {
    let why = match fs::read(path) {
        Ok(file) => {
            match vault.open(Content::Cache, &file).and_then(|bytes| payload::decode(&bytes)) {
                Ok(snapshot) => return Loaded::Snapshot(snapshot),
                Err(why) => why.to_string(),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Loaded::Nothing,
        Err(error) => error.to_string(),
    };
    match files::set_aside(path, now.as_millis() / 1_000) {
        Ok(aside) => Loaded::SetAside(format!(
            "{} is not usable: {why}; it was set aside as {}, and the cache fills anew",
            path.display(),
            aside.display()
        )),
        Err(error) => Loaded::InTheWay(format!(
            "{} is not usable: {why}; it could not be set aside ({error}), so nothing is persisted",
            path.display()
        )),
    }
}

impl Persister {
    /// A persister that continues after `generation`.
    pub fn new(path: PathBuf, vault: Arc<Vault>, cache: Arc<SharedCache>, generation: u64) -> Self {
        // What was fetched before the key came is not in the file: changes count from the process's start.
        let state = Mutex::new(PersistState { generation, ..PersistState::default() });
        Self { path, vault, cache, state, writing: Mutex::default() }
    }

    /// How the file fares.
    pub fn state(&self) -> PersistState {
        self.lock().clone()
    }

    /// Whether the file holds every change.
    pub fn is_current(&self) -> bool {
        self.lock().changes == *self.cache.changes().borrow()
    }

    /// Writes after changes until `stop`, and then what is left.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.cache.changes();
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
        let result = tokio::task::spawn_blocking(move || this.write_blocking())
            .await
            .unwrap_or_else(|_| Err("the writer crashed".into()));
        let mut state = self.lock();
        let path = self.path.display();
        if let Err(why) = &result {
            state.errors += 1;
            if state.error.is_none() {
                tracing::warn!("{path} cannot be written, which is retried: {why}");
            }
        }
        if result.is_ok() && state.error.is_some() {
            tracing::info!(errors = state.errors, "{path} is written again");
        }
        state.error = result.err();
        state.error.is_none()
    }

    fn write_blocking(&self) -> Result<(), String> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // The count first: a change in between is written again, never missed.
        let changes = *self.cache.changes().borrow();
        let generation = self.lock().generation + 1;
        let snapshot = self.cache.read(|cache| cache.snapshot(generation));
        write(&self.path, &self.vault, &snapshot)?;
        let mut state = self.lock();
        state.generation = generation;
        state.changes = changes;
        Ok(())
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
        let snapshot = self
            .vault
            .open(Content::Cache, &file)
            .and_then(|bytes| payload::decode(&bytes))
            .map_err(|why| format!("{} is not usable: {why}", self.path.display()))?
            .sorted();
        let ram = self.cache.read(|cache| cache.snapshot(snapshot.generation)).sorted();
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
        self.cache.read(|cache| cache.snapshot(0).entries.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, PersistState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
