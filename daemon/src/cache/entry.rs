//! One value, and what is known of it.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use psi_common::SecretBytes;

use crate::model::clock::{AtomicBootInstant, BootInstant, Timestamp};

/// One value and when the provider said so. What changes without the value changes in place: a refresh that
/// replaced what it found unchanged would leave holes between what others keep.
pub struct Entry {
    value: SecretBytes,
    /// When the provider gave it, in milliseconds since the epoch.
    fetched_at: AtomicU64,
    /// It stays true for good, and on no disk.
    in_ram: bool,
    /// The boot in which it was last served; 0: it never was.
    last_served_boot: AtomicU64,
    /// Whether the log knows that it is served although it is too old.
    warned_past_max_stale: AtomicBool,
    /// Until when it is served without asking the cache. The cache, which alone sets it, takes it back with
    /// whatever makes that wrong.
    fresh_until: AtomicBootInstant,
}

/// One boot of the host: its containers end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub NonZeroU64);

impl Entry {
    /// A value that the provider gave at `fetched_at`.
    pub fn new(value: SecretBytes, fetched_at: Timestamp) -> Self {
        Self {
            value,
            fetched_at: AtomicU64::new(fetched_at.as_millis()),
            in_ram: false,
            last_served_boot: AtomicU64::new(0),
            warned_past_max_stale: AtomicBool::new(false),
            fresh_until: AtomicBootInstant::new(BootInstant::FIRST),
        }
    }

    /// A value that never changes and must not reach a disk.
    pub fn in_ram(value: SecretBytes, fetched_at: Timestamp) -> Self {
        Self { in_ram: true, ..Self::new(value, fetched_at) }
    }

    /// The same, as a file remembers where it was served.
    pub fn was_served_in(self, boot: u64) -> Self {
        Self { last_served_boot: AtomicU64::new(boot), ..self }
    }

    /// The value.
    pub fn value(&self) -> &SecretBytes {
        &self.value
    }

    /// When the provider gave it, by the wall clock of that time.
    pub fn fetched_at(&self) -> Timestamp {
        Timestamp::from_millis(self.fetched_at.load(Ordering::Relaxed))
    }

    /// The boot in which it was last served, as a number; 0: it never was.
    pub fn last_served_boot(&self) -> u64 {
        self.last_served_boot.load(Ordering::Relaxed)
    }

    /// Whether it was served in this boot: then a container may be running that will ask again.
    pub fn is_served(&self, boot: BootId) -> bool {
        self.last_served_boot() == boot.0.get()
    }

    /// Takes note that it is served; true the first time in this boot.
    pub fn serve(&self, boot: BootId) -> bool {
        !self.is_served(boot)
            && self.last_served_boot.swap(boot.0.get(), Ordering::Relaxed) != boot.0.get()
    }

    /// Takes note that the log is told of its age; true the first time.
    pub fn warn_past_max_stale(&self) -> bool {
        !self.warned_past_max_stale.swap(true, Ordering::Relaxed)
    }

    /// Whether it is served at `now` without asking the cache, or anybody.
    pub fn is_fresh(&self, now: BootInstant) -> bool {
        now < self.fresh_until.get()
    }

    pub(super) fn set_fresh(&self, until: BootInstant) {
        self.fresh_until.set(until);
    }

    /// From now on the cache is asked, which has something to say of it, or has it no more.
    pub(super) fn expire(&self) {
        self.fresh_until.set(BootInstant::FIRST);
    }

    /// Whether it stays in RAM.
    pub fn is_in_ram(&self) -> bool {
        self.in_ram
    }

    /// Takes note that the provider gave the same value again.
    pub(super) fn renew(&self, fetched_at: Timestamp) {
        self.fetched_at.store(fetched_at.as_millis(), Ordering::Relaxed);
        self.warned_past_max_stale.store(false, Ordering::Relaxed);
    }
}
