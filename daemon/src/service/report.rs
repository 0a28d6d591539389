//! What the service tells of itself.

use std::sync::atomic::Ordering;

use psi_common::SecretId;

use super::Service;
use crate::cache::{Cache, Cause};
use crate::clock::{Moment, Timestamp};

/// Lookups since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// Answered from RAM.
    pub hits: u64,
    /// Of those, with a value in place of an answer that did not come.
    pub stale: u64,
    /// Asked a provider.
    pub misses: u64,
    /// Not answered.
    pub failed: u64,
}

/// An entry that is served although its provider took it back.
pub struct Held {
    /// Where it is, as people write it.
    pub name: String,
    /// The registered ids that refer to it.
    pub ids: Vec<SecretId>,
    /// Why it is in doubt.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
}

impl Service {
    /// Lookups so far.
    pub fn lookups(&self) -> Lookups {
        let [hits, stale, misses, failed] = [&self.hits, &self.stale, &self.misses, &self.failed]
            .map(|count| count.load(Ordering::Relaxed));
        Lookups { hits, stale, misses, failed }
    }

    /// What is served although its provider took it back.
    pub fn held(&self, now: Moment) -> Vec<Held> {
        let doubted = self.cache.read(Cache::doubted);
        if doubted.is_empty() {
            return Vec::new();
        }
        let registered: Vec<_> = self.references().collect();
        let held = doubted.into_iter().map(|doubted| {
            let of_it = registered.iter().filter(|(_, _, at)| *at == doubted.at);
            Held {
                name: doubted.at.to_string(),
                ids: of_it.map(|(id, _, _)| *id).collect(),
                cause: doubted.cause,
                since: now.wall_at(doubted.since),
            }
        });
        held.collect()
    }
}
