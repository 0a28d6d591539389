//! The lookups that were recorded, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::record::{TrailSubject, Use};

/// 16 bytes each with their table. Beyond it all are forgotten, and recorded again at their next lookup.
const MAX_SEEN: usize = 65_536;

/// The lookups by a keyed hash of their secret, value, user, unit and outcome.
#[derive(Default)]
pub(super) struct Seen {
    hasher: RandomState,
    lookups: HashSet<u64>,
}

impl Seen {
    /// Whether this is the first lookup of its value by its caller; later it is not.
    pub(super) fn is_first(&mut self, used: &Use<'_>) -> bool {
        let id = match &used.secret {
            TrailSubject::Id(id) => Some(id),
            // A caller can write a reference in any number of ways: the value identifies the secret.
            TrailSubject::Name(_) | TrailSubject::None => None,
        };
        let Use { actor, version, outcome, .. } = used;
        let lookup = self.hasher.hash_one((id, version, outcome, actor.uid, &actor.unit));
        if self.lookups.contains(&lookup) {
            return false;
        }
        if self.lookups.len() >= MAX_SEEN {
            self.lookups.clear();
        }
        self.lookups.insert(lookup)
    }
}
