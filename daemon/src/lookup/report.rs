//! Counters and reports of the service.

use std::sync::atomic::{AtomicU64, Ordering};

use psi_common::SecretId;

use super::{Served, Service};
use crate::cache::RemovalReason;
use crate::model::clock::{Now, Timestamp};

/// Lookups since the start; each is in one of the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupCounts {
    /// Answered from RAM, literals included.
    pub hits: u64,
    /// Answered from RAM in place of a provider's answer that did not come.
    pub stale: u64,
    /// Answered by a provider.
    pub misses: u64,
    /// Not answered.
    pub failed: u64,
}

/// The counters behind [`LookupCounts`].
#[derive(Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    stale: AtomicU64,
    misses: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    /// Counts one lookup, at its end; without an answer, it failed.
    pub(super) fn count(&self, served: Option<Served>) {
        let count = match served {
            Some(Served::Ram) => &self.hits,
            Some(Served::Stale) => &self.stale,
            Some(Served::Provider) => &self.misses,
            None => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// An entry that is served although its removal is pending.
pub struct Withheld {
    /// Namespace, directory and name, for messages.
    pub name: String,
    /// The registered ids that refer to it.
    pub ids: Vec<SecretId>,
    /// Why its removal is pending.
    pub cause: RemovalReason,
    /// Since when.
    pub since: Timestamp,
}

impl Service {
    /// Lookups so far.
    pub fn lookups(&self) -> LookupCounts {
        let Counters { hits, stale, misses, failed } = &self.lookups;
        let [hits, stale, misses, failed] =
            [hits, stale, misses, failed].map(|count| count.load(Ordering::Relaxed));
        LookupCounts { hits, stale, misses, failed }
    }

    /// The entries that are served although their removal is pending.
    pub fn withheld(&self, now: Now) -> Vec<Withheld> {
        let pending = self.cache.withheld();
        if pending.is_empty() {
            return Vec::new();
        }
        let registered: Vec<_> = self.references().collect();
        let withheld = pending.into_iter().map(|(key, pending)| {
            let of_it = registered.iter().filter(|(_, _, other)| *other == key);
            Withheld {
                name: key.to_string(),
                ids: of_it.map(|(id, _, _)| *id).collect(),
                cause: pending.reason,
                since: now.wall_at(pending.since),
            }
        });
        withheld.collect()
    }
}
