//! The self-test: what would an outage cost, now and after a reboot?

use psi_common::SecretId;

use super::Service;
use crate::cache::Answer;
use crate::clock::Moment;
use crate::provider::Keeping;
use crate::reference::Reference;
use crate::registry::Registered;

/// The registered ids that would not resolve with no provider in reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offline {
    /// Right now.
    pub now: Vec<SecretId>,
    /// After a reboot.
    pub after_reboot: Vec<SecretId>,
}

impl Service {
    /// Tries every registered secret without a network; `persisted` says whether the cache outlives a
    /// reboot at all.
    pub fn self_test(&self, now: Moment, persisted: bool) -> Offline {
        let mut offline = Offline::default();
        for (id, what) in self.registry.all() {
            let (resolves, survives) = match &what {
                Registered::Literal(_) => (true, true),
                Registered::Unusable(_) => (false, false),
                Registered::Reference(reference) => self.try_offline(reference, now),
            };
            if !resolves {
                offline.now.push(id);
            }
            let needs_disk =
                matches!(&what, Registered::Reference(reference) if self.needs_disk(reference));
            let on_disk = persisted || !needs_disk;
            if !(survives && on_disk) {
                offline.after_reboot.push(id);
            }
        }
        offline
    }

    /// Whether a reference would resolve after a reboot with no provider in reach.
    pub fn survives(&self, reference: &Reference, now: Moment, persisted: bool) -> bool {
        (persisted || !self.needs_disk(reference)) && self.try_offline(reference, now).1
    }

    /// Whether a reference resolves without its provider: now, and from the disk.
    fn try_offline(&self, reference: &Reference, now: Moment) -> (bool, bool) {
        let Ok((upstream, at)) = self.place(reference) else { return (false, false) };
        // What a token opens needs no network.
        if upstream.provider.keeping() == Keeping::InRam {
            return (true, true);
        }
        self.cache.read(|cache| {
            let answer = cache.get(&at, now.tick);
            let resolves =
                matches!(answer, Answer::Fresh(_) | Answer::Stale { servable: true, .. });
            (resolves, cache.outlives_reboot(&at, now.tick))
        })
    }

    fn needs_disk(&self, reference: &Reference) -> bool {
        self.place(reference)
            .is_ok_and(|(upstream, _)| upstream.provider.keeping() == Keeping::OnDisk)
    }
}
