//! The last lookup of each id by each user and unit, in bounded memory.

use std::collections::HashMap;
use std::sync::Arc;

use psi_common::SecretId;

use crate::model::clock::{BootInstant, Timestamp};

/// Users and units of one id; of more, those that looked it up last.
const MAX_OF_ONE: usize = 16;

/// The last lookup of an id since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastUse {
    /// When it was answered.
    pub(crate) at: Timestamp,
    /// The same on the boot clock. A health check, which starts no container, keeps the one of the lookup before it.
    pub(crate) boot: BootInstant,
    /// The user, from the kernel.
    pub(crate) uid: u32,
    /// The unit of the calling process, a hint. A health check keeps the one of the lookup before it.
    pub(crate) unit: Option<Arc<str>>,
}

/// The lookups of each id, the newest last.
#[derive(Default)]
pub(super) struct LastUses(HashMap<SecretId, Vec<LastUse>>);

impl LastUses {
    pub(super) fn note(&mut self, id: SecretId, new: LastUse) {
        let uses = self.0.entry(id).or_default();
        uses.retain(|one| (one.uid, &one.unit) != (new.uid, &new.unit));
        if uses.len() >= MAX_OF_ONE {
            uses.remove(0);
        }
        uses.push(new);
    }

    /// A lookup by a health check: the container that it checks was started by the user's unit before.
    pub(super) fn note_health_check(&mut self, id: SecretId, new: LastUse) {
        let known = self.of(id).iter().rfind(|one| one.uid == new.uid).cloned();
        let at = new.at;
        self.note(id, known.map_or(new, |known| LastUse { at, ..known }));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn forget(&mut self, id: SecretId) {
        self.0.remove(&id);
    }

    pub(super) fn of(&self, id: SecretId) -> &[LastUse] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The newest one of each id.
    pub(super) fn newest(&self) -> HashMap<SecretId, LastUse> {
        self.0.iter().filter_map(|(id, uses)| Some((*id, uses.last()?.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit that runs with an older value stays so, however often podman checks its health.
    #[test]
    fn health_check_is_no_new_lookup_of_the_unit() {
        let id: SecretId = "0123456789abcdef012345678".parse().unwrap();
        let of = |ms: u32, unit: &str| LastUse {
            at: Timestamp::from_millis(ms.into()),
            boot: BootInstant::from_millis(ms.into()),
            uid: 0,
            unit: Some(unit.into()),
        };
        let mut uses = LastUses::default();
        uses.note(id, of(1, "web.service"));
        uses.note_health_check(id, of(5, "check.service"));
        let kept = LastUse { at: Timestamp::from_millis(5), ..of(1, "web.service") };
        assert_eq!(uses.of(id), [kept]);
    }
}
