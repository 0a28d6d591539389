//! One value and what is recorded of it.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use psi_common::SecretBytes;

use crate::model::clock::Timestamp;

/// One value and when the provider returned it. What changes without the value changes in place: replacing an
/// unchanged entry at each refresh would fragment the heap.
pub struct Entry {
    value: SecretBytes,
    /// When the provider returned it, in milliseconds since the epoch.
    fetched_at: AtomicU64,
    /// It never changes, and is not written to a disk.
    in_ram: bool,
    /// The boot in which it was last served; 0: never.
    last_served_boot: AtomicU64,
    /// Whether the log says already that it is served past `max_stale`.
    warned_past_max_stale: AtomicBool,
}

/// One boot of the host, which ends with all containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub NonZeroU64);

impl Entry {
    /// A value that the provider returned at `fetched_at`.
    pub fn new(value: SecretBytes, fetched_at: Timestamp) -> Self {
        Self {
            value,
            fetched_at: AtomicU64::new(fetched_at.as_millis()),
            in_ram: false,
            last_served_boot: AtomicU64::new(0),
            warned_past_max_stale: AtomicBool::new(false),
        }
    }

    /// A value that never changes and must not be written to a disk.
    pub fn in_ram(value: SecretBytes, fetched_at: Timestamp) -> Self {
        Self { in_ram: true, ..Self::new(value, fetched_at) }
    }

    /// The same entry, last served in this boot (0: never).
    pub fn last_served_in(self, boot: u64) -> Self {
        Self { last_served_boot: AtomicU64::new(boot), ..self }
    }

    /// The value.
    pub fn value(&self) -> &SecretBytes {
        &self.value
    }

    /// When the provider returned it, by the wall clock of that time.
    pub fn fetched_at(&self) -> Timestamp {
        Timestamp::from_millis(self.fetched_at.load(Ordering::Relaxed))
    }

    /// The boot in which it was last served, as a number; 0: never.
    pub fn last_served_boot(&self) -> u64 {
        self.last_served_boot.load(Ordering::Relaxed)
    }

    /// Whether it was served in this boot. Then a running container may ask for it again.
    pub fn was_served_in(&self, boot: BootId) -> bool {
        self.last_served_boot() == boot.0.get()
    }

    /// Records that it is served; true the first time in this boot.
    pub(super) fn mark_served(&self, boot: BootId) -> bool {
        !self.was_served_in(boot)
            && self.last_served_boot.swap(boot.0.get(), Ordering::Relaxed) != boot.0.get()
    }

    /// Records that the log says that it is served past `max_stale`; true the first time.
    pub fn warn_past_max_stale(&self) -> bool {
        !self.warned_past_max_stale.swap(true, Ordering::Relaxed)
    }

    /// Whether it stays in RAM.
    pub fn is_in_ram(&self) -> bool {
        self.in_ram
    }

    /// Records that the provider returned the same value again.
    pub(super) fn renew(&self, fetched_at: Timestamp) {
        self.fetched_at.store(fetched_at.as_millis(), Ordering::Relaxed);
        self.warned_past_max_stale.store(false, Ordering::Relaxed);
    }
}
