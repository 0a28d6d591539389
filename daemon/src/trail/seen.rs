//! The lookups that were recorded, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::record::{TrailSubject, Use};

/// 16 bytes each with their table. Beyond it all are forgotten, and recorded again at their next lookup.
const MAX_SEEN: usize = 65_536;

/// The lookups by a keyed hash of their secret, value, user, unit and outcome. The health checks of a user count as one
/// unit.
#[derive(Default)]
pub(super) struct Seen {
    hasher: RandomState,
    lookups: HashSet<u64>,
}

impl Seen {
    /// The lookup, if it is the first one of its value by its caller; later it is not.
    pub(super) fn first(&mut self, used: &Use<'_>) -> Option<u64> {
        let id = match &used.secret {
            TrailSubject::Id(id) => Some(id),
            // A caller can write a reference in any number of ways: the value identifies the secret.
            TrailSubject::Name(_) | TrailSubject::None => None,
        };
        let Use { actor, version, outcome, .. } = used;
        // A container that starts each hour would cause 24 records of health checks a day for each of its secrets.
        let is_health_check = actor.is_health_check();
        let unit = actor.unit.as_ref().filter(|_| !is_health_check);
        let caller = (actor.uid, unit, is_health_check);
        let lookup = self.hasher.hash_one((id, version, outcome, caller));
        if self.lookups.contains(&lookup) {
            return None;
        }
        if self.lookups.len() >= MAX_SEEN {
            self.lookups.clear();
        }
        self.lookups.insert(lookup).then_some(lookup)
    }

    /// Forgets a lookup whose record was left out: the next one is recorded in its place.
    pub(super) fn forget(&mut self, lookup: u64) {
        self.lookups.remove(&lookup);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lookups.len()
    }
}
