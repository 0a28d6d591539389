//! One value and what is recorded of it.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use psi_common::SecretBytes;

use crate::model::clock::{BootInstant, Now, Timestamp};

/// One value and when the provider returned it. What changes without the value changes in place: replacing an
/// unchanged entry at each refresh would fragment the heap.
pub struct Entry {
    value: SecretBytes,
    /// When the provider returned it, in milliseconds since the epoch.
    fetched_at: AtomicU64,
    /// The same on the boot clock, which does not jump, in milliseconds.
    fetched: AtomicI64,
    /// Whether `fetched` is known: a file may name a time in the future.
    is_dated: AtomicBool,
    /// When the provider first returned this value, in milliseconds since the epoch.
    changed_at: u64,
    /// When it replaced another value; `None`: it is the first one.
    replaced: Option<Replacement>,
    /// It never changes, and is not written to a disk.
    pub(super) in_ram: bool,
    /// The boot in which it was last served; 0: never.
    last_served_boot: AtomicU64,
    /// Whether the log says already that it is served past `max_stale`.
    warned_past_max_stale: AtomicBool,
}

/// One boot of the host, which ends with all containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub NonZeroU64);

/// When a value replaced another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The boot, as a number.
    pub boot: u64,
    /// The time in that boot.
    pub at: BootInstant,
}

impl Entry {
    /// A value that the provider returned at `fetched_at`.
    pub fn new(value: SecretBytes, fetched_at: Timestamp) -> Self {
        Self {
            value,
            fetched_at: AtomicU64::new(fetched_at.as_millis()),
            changed_at: fetched_at.as_millis(),
            replaced: None,
            fetched: AtomicI64::new(0),
            is_dated: AtomicBool::new(false),
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

    /// The same entry, whose value is known since `changed_at`.
    pub fn unchanged_since(self, changed_at: Timestamp) -> Self {
        Self { changed_at: changed_at.as_millis(), ..self }
    }

    /// The same entry, whose value replaced another one.
    pub fn replacing(self, replaced: Replacement) -> Self {
        Self { replaced: Some(replaced), ..self }
    }

    /// The value.
    pub fn value(&self) -> &SecretBytes {
        &self.value
    }

    /// When the provider returned it, by the wall clock of that time.
    pub fn fetched_at(&self) -> Timestamp {
        Timestamp::from_millis(self.fetched_at.load(Ordering::Relaxed))
    }

    /// When the provider first returned this value, by the wall clock of that time.
    pub fn changed_at(&self) -> Timestamp {
        Timestamp::from_millis(self.changed_at)
    }

    /// When the value replaced another one; `None`: it is the first one that psid saw.
    pub fn replaced(&self) -> Option<Replacement> {
        self.replaced
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

    /// When the provider returned it; if that is unknown, when it was read from the file.
    pub(super) fn fetched(&self) -> BootInstant {
        BootInstant::from_millis(self.fetched.load(Ordering::Relaxed))
    }

    /// When the provider returned it; `None` if that is unknown.
    pub(super) fn fetched_if_known(&self) -> Option<BootInstant> {
        self.is_dated.load(Ordering::Relaxed).then_some(self.fetched())
    }

    /// Whether it is served without a request.
    pub(super) fn is_fresh(&self, fresh_for: Duration, now: BootInstant) -> bool {
        self.in_ram || self.fetched_if_known().is_some_and(|fetched| now < fetched.after(fresh_for))
    }

    /// Sets the time on the boot clock, and whether it is known.
    pub(super) fn set_fetched(&self, fetched: BootInstant, is_dated: bool) {
        self.fetched.store(fetched.as_millis(), Ordering::Relaxed);
        self.is_dated.store(is_dated, Ordering::Relaxed);
    }

    /// Records that the provider returned this value.
    pub(super) fn renew(&self, now: Now) {
        self.fetched_at.store(now.wall.as_millis(), Ordering::Relaxed);
        self.set_fetched(now.boot, true);
        self.warned_past_max_stale.store(false, Ordering::Relaxed);
    }
}
