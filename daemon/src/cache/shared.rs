//! The one cache of the process. Its lock is held for a look or a change in RAM, never across I/O.

use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use crate::cache::{BootId, Cache, Entry};

/// A cache that many read and that tells the persister of changes.
pub struct SharedCache {
    cache: RwLock<Cache>,
    boot: BootId,
    changes: watch::Sender<u64>,
}

impl SharedCache {
    /// Shares a cache.
    pub fn new(cache: Cache) -> Self {
        Self { boot: cache.boot(), cache: RwLock::new(cache), changes: watch::Sender::new(0) }
    }

    /// Looks.
    pub fn read<T>(&self, look: impl FnOnce(&Cache) -> T) -> T {
        look(&self.cache.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what need not outlive the process.
    pub fn change_in_ram<T>(&self, change: impl FnOnce(&mut Cache) -> T) -> T {
        change(&mut self.cache.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what must be persisted.
    pub fn change<T>(&self, change: impl FnOnce(&mut Cache) -> T) -> T {
        self.change_if(change, |_| true)
    }

    /// Changes what must be persisted when `counts` says so of the result.
    pub fn change_if<T>(
        &self,
        change: impl FnOnce(&mut Cache) -> T,
        counts: impl FnOnce(&T) -> bool,
    ) -> T {
        let result = self.change_in_ram(change);
        if counts(&result) {
            self.changes.send_modify(|count| *count += 1);
        }
        result
    }

    /// Takes note that an entry is served. That outlives the process, but is written once, not at each
    /// lookup; and without the cache's lock.
    pub fn serve(&self, entry: &Entry) {
        if entry.serve(self.boot) && !entry.is_in_ram() {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// The count of changes, and its growing.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
