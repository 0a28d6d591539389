//! The self-test: what would an outage cost, now and after a reboot?

use psi_common::SecretId;

use super::{Service, accepted, place};
use crate::cache::Answer;
use crate::clock::Moment;
use crate::provider::Keeping;
use crate::reference::{Coordinates, Reference};
use crate::registry::Registered;
use crate::upstream::Upstream;

/// The registered ids that would not resolve with no provider in reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offline {
    /// Right now.
    pub now: Vec<SecretId>,
    /// After a reboot.
    pub after_reboot: Vec<SecretId>,
}

/// Whether a secret resolves without its provider.
#[derive(Default)]
struct Outlook {
    /// Now.
    resolves: bool,
    /// After a reboot.
    survives: bool,
}

impl Service {
    /// Tries every registered secret without a network; `persisted` says whether the cache outlives a
    /// reboot at all.
    pub fn self_test(&self, now: Moment, persisted: bool) -> Offline {
        let mut offline = Offline::default();
        let upstreams = self.upstreams();
        for (id, what) in self.registry.all() {
            let Outlook { resolves, survives } = match &what {
                Registered::Literal(_) => Outlook { resolves: true, survives: true },
                Registered::Unusable(_) => Outlook::default(),
                Registered::Reference(link) => place(&upstreams, link)
                    .map(|(upstream, at)| self.outlook(&upstream, &at, now, persisted))
                    .unwrap_or_default(),
            };
            if !resolves {
                offline.now.push(id);
            }
            if !survives {
                offline.after_reboot.push(id);
            }
        }
        offline
    }

    /// Whether a reference would resolve after a reboot with no provider in reach.
    pub fn survives(&self, reference: &Reference, now: Moment, persisted: bool) -> bool {
        accepted(&self.upstreams(), reference)
            .is_ok_and(|(upstream, at)| self.outlook(&upstream, &at, now, persisted).survives)
    }

    fn outlook(
        &self,
        upstream: &Upstream,
        at: &Coordinates,
        now: Moment,
        persisted: bool,
    ) -> Outlook {
        // What a token opens needs no network, and no disk.
        if upstream.provider.keeping() == Keeping::InRam {
            return Outlook { resolves: true, survives: true };
        }
        self.cache.read(|cache| {
            let answer = cache.get(at, now.tick);
            Outlook {
                resolves: matches!(answer, Answer::Fresh(_) | Answer::Stale { servable: true, .. }),
                survives: persisted && cache.outlives_reboot(at, now.tick),
            }
        })
    }
}
