//! The self-test: which registered secrets would not resolve in an outage, now and after a reboot. Unknown is
//! reported as unknown, not as good.

use std::collections::BTreeSet;

use psi_common::SecretId;

use super::resolve::{resolve_reference, resolve_upstream};
use super::{Service, kube};
use crate::cache::CacheLookup;
use crate::model::clock::Now;
use crate::model::reach::Reach;
use crate::model::reference::{CacheKey, Reference};
use crate::provider::Persistence;
use crate::provider::upstream::Upstream;
use crate::registry::Registered;
use crate::registry::resolved::ResolvedReference;

/// A yes or a no, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certainty {
    /// Unknown.
    #[default]
    Unknown,
    /// Yes.
    Yes,
    /// No.
    No,
}

/// The registered ids that would not resolve without a provider, and those of which it is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutageReport {
    /// How many secrets are registered.
    pub registered: usize,
    /// Right now.
    pub now: Failing,
    /// After a reboot.
    pub after_reboot: Failing,
    /// Why something is unknown: a sentence for each cause, with the remedy.
    pub unknown_why: BTreeSet<String>,
}

/// The ids that do not resolve, certainly or perhaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failing {
    /// These would not.
    pub surely: Vec<SecretId>,
    /// The ids of which it is unknown.
    pub perhaps: Vec<SecretId>,
    /// Not even the ids are known.
    pub is_blind: bool,
}

/// The state outside the service that the self-test needs.
pub struct SelfTestContext {
    /// Whether what is in RAM is on the disk.
    pub persisted: bool,
    /// Whether the data key would open again after a reboot.
    pub key: Reach,
    /// Why what is not there may be there in a moment.
    pub invalidated_unconfirmed: Option<String>,
}

/// Whether a secret resolves without its provider.
struct OutageReadiness {
    /// Now.
    now: Reach,
    /// After a reboot.
    after_reboot: Reach,
}

impl Failing {
    /// Whether all resolve.
    pub fn verdict(&self) -> Certainty {
        match self {
            Self { surely, .. } if !surely.is_empty() => Certainty::No,
            Self { perhaps, is_blind, .. } if *is_blind || !perhaps.is_empty() => {
                Certainty::Unknown
            }
            _ => Certainty::Yes,
        }
    }

    fn note(&mut self, id: SecretId, reach: Reach, unknown_why: &mut BTreeSet<String>) {
        match reach {
            Reach::Ready => {}
            Reach::Out => self.surely.push(id),
            Reach::Unknown(why) => {
                self.perhaps.push(id);
                unknown_why.insert(why);
            }
        }
    }
}

impl OutageReport {
    /// The report of some of the secrets.
    pub fn restricted_to(mut self, registered: usize, has: impl Fn(SecretId) -> bool) -> Self {
        self.registered = registered;
        for failing in [&mut self.now, &mut self.after_reboot] {
            failing.surely.retain(|id| has(*id));
            failing.perhaps.retain(|id| has(*id));
        }
        let Failing { perhaps, is_blind, .. } = &self.after_reboot;
        if !*is_blind && perhaps.is_empty() && self.now.perhaps.is_empty() {
            self.unknown_why.clear();
        }
        self
    }
}

impl Certainty {
    /// Whether both are certain.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }
}

impl From<&Reach> for Certainty {
    fn from(reach: &Reach) -> Self {
        match reach {
            Reach::Ready => Self::Yes,
            Reach::Out => Self::No,
            Reach::Unknown(_) => Self::Unknown,
        }
    }
}

impl Service {
    /// Tests every registered secret without a request.
    pub fn self_test(&self, now: Now, context: &SelfTestContext) -> OutageReport {
        let all = self.registry.all();
        let mut offline = OutageReport { registered: all.len(), ..OutageReport::default() };
        let OutageReport { now: at_once, after_reboot, unknown_why, .. } = &mut offline;
        if let Some(why) = self.registry.fault() {
            unknown_why.insert(format!("the registered secrets cannot be read: {why}"));
        } else if all.is_empty() {
            unknown_why.insert(
                "no secret is registered; `psictl doctor` compares with what podman has".into(),
            );
        }
        at_once.is_blind = !unknown_why.is_empty();
        after_reboot.is_blind = at_once.is_blind;
        for (id, what) in all {
            let outlook = self.outlook(&what, now, context);
            at_once.note(id, outlook.now, unknown_why);
            after_reboot.note(id, outlook.after_reboot, unknown_why);
        }
        offline
    }

    /// Whether a reference would resolve after a reboot with no provider in reach.
    pub fn survives(
        &self,
        reference: &Reference,
        now: Now,
        context: &SelfTestContext,
    ) -> Certainty {
        match resolve_reference(&self.upstreams(), reference) {
            Ok((upstream, key)) => {
                Certainty::from(&self.outlook_at(&upstream, &key, now, context).after_reboot)
            }
            Err(_) => Certainty::No,
        }
    }

    /// Whether a registration would resolve after a reboot with no provider in reach.
    pub fn registration_survives(
        &self,
        what: &Registered,
        now: Now,
        context: &SelfTestContext,
    ) -> Certainty {
        Certainty::from(&self.outlook(what, now, context).after_reboot)
    }

    fn outlook(&self, what: &Registered, now: Now, context: &SelfTestContext) -> OutageReadiness {
        match what {
            Registered::Literal(_) => {
                OutageReadiness { now: Reach::Ready, after_reboot: context.key.clone() }
            }
            // Its content is unknown.
            Registered::Unreadable(why) => {
                let why = format!("a registered secret cannot be read: {why}");
                OutageReadiness {
                    now: Reach::Unknown(why.clone()),
                    after_reboot: Reach::Unknown(why),
                }
            }
            Registered::Invalid(_) => {
                OutageReadiness { now: context.missing(), after_reboot: context.missing() }
            }
            Registered::Reference(reference) => self.outlook_of(reference, now, context),
        }
    }

    fn outlook_of(
        &self,
        reference: &ResolvedReference,
        now: Now,
        context: &SelfTestContext,
    ) -> OutageReadiness {
        if let Some(workload) = kube::workload_of(reference) {
            return self.outlook_of_document(workload, reference, now, context);
        }
        match resolve_upstream(&self.upstreams(), reference) {
            Ok((upstream, key)) => self.outlook_at(&upstream, &key, now, context),
            Err(_) => OutageReadiness { now: Reach::Out, after_reboot: Reach::Out },
        }
    }

    /// A document resolves if all of its parts do.
    fn outlook_of_document(
        &self,
        workload: &str,
        reference: &Reference,
        now: Now,
        context: &SelfTestContext,
    ) -> OutageReadiness {
        let upstreams = self.upstreams();
        let upstream = upstreams
            .workloads
            .get(workload)
            .and_then(|workload| upstreams.providers.get(&workload.provider));
        let (Some(upstream), Some(keys)) = (upstream, self.document_keys(reference)) else {
            return OutageReadiness { now: Reach::Out, after_reboot: Reach::Out };
        };
        let parts = keys.iter().map(|key| self.outlook_at(upstream, key, now, context));
        let worst = parts.reduce(|one, other| OutageReadiness {
            now: worse(one.now, other.now),
            after_reboot: worse(one.after_reboot, other.after_reboot),
        });
        worst.unwrap_or_else(|| OutageReadiness {
            now: context.missing(),
            after_reboot: context.missing(),
        })
    }

    fn outlook_at(
        &self,
        upstream: &Upstream,
        key: &CacheKey,
        now: Now,
        context: &SelfTestContext,
    ) -> OutageReadiness {
        let cached = self.cache.get(key, now.boot);
        let is_here =
            matches!(cached, CacheLookup::Fresh(_) | CacheLookup::Stale { servable: true, .. });
        let is_refused = matches!(cached, CacheLookup::NegativeHit(_));
        if upstream.provider.persistence() == Persistence::MemoryOnly {
            return of_token(upstream.provider.reach(), is_here, is_refused);
        }
        OutageReadiness {
            now: if is_here { Reach::Ready } else { context.missing() },
            after_reboot: match self.cache.survives_reboot(key, now.boot) {
                true if context.persisted => context.key.clone(),
                true => Reach::Out,
                false => context.missing(),
            },
        }
    }
}

fn worse(one: Reach, other: Reach) -> Reach {
    match (one, other) {
        (Reach::Out, _) | (_, Reach::Out) => Reach::Out,
        (Reach::Unknown(why), _) | (_, Reach::Unknown(why)) => Reach::Unknown(why),
        (Reach::Ready, Reach::Ready) => Reach::Ready,
    }
}

/// A value that a token decrypts stays in RAM; after a reboot only the token is needed.
fn of_token(token: Reach, is_here: bool, is_refused: bool) -> OutageReadiness {
    let unopened = || {
        Reach::Unknown(
            "a sealed secret was not opened since the start, and only a lookup tells whether the token opens it"
                .into(),
        )
    };
    let opens = match token {
        Reach::Ready if is_here => Reach::Ready,
        Reach::Ready if is_refused => Reach::Out,
        Reach::Ready => unopened(),
        other => other,
    };
    OutageReadiness { now: if is_here { Reach::Ready } else { opens.clone() }, after_reboot: opens }
}

impl SelfTestContext {
    /// What is not there.
    fn missing(&self) -> Reach {
        self.invalidated_unconfirmed.clone().map_or(Reach::Out, Reach::Unknown)
    }
}
