//! The workloads with a value that replaced another one in this boot. Which unit runs with an older value depends on
//! when the unit started; psictl asks systemd for that.

use std::collections::BTreeMap;

use psi_common::SecretId;

use super::{PlannedSecret, plan};
use crate::lookup::{SelfTestContext, Service};
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::principal::Principal;
use crate::provider::upstream::{Upstreams, Workload};

/// A workload, and what changed of it.
pub(crate) struct WorkloadChanges {
    pub(crate) name: String,
    pub(crate) workload: Workload,
    /// Why its units are not to be restarted now.
    pub(crate) deferred: Option<String>,
    /// By podman name.
    pub(crate) secrets: Vec<ReplacedSecret>,
}

/// A secret whose value replaced another one.
pub(crate) struct ReplacedSecret {
    /// Its podman name.
    pub(crate) name: String,
    /// Its registered ids.
    pub(crate) ids: Vec<SecretId>,
    /// When psid saw the new value.
    pub(crate) at: BootInstant,
    /// The same by the wall clock of that time.
    pub(crate) at_wall: Timestamp,
}

impl WorkloadChanges {
    /// The last change.
    pub(crate) fn last(&self) -> Option<BootInstant> {
        self.secrets.iter().map(|secret| secret.at).max()
    }
}

/// The workloads of a caller with changes, by name. Without a cache, psid does not know of any.
pub(crate) async fn changes(
    service: &Service,
    caller: Principal,
    now: Now,
    context: &SelfTestContext,
) -> Vec<WorkloadChanges> {
    if !service.cache().is_enabled() {
        return Vec::new();
    }
    let plans = plan(service, caller, &BTreeMap::new(), now, context).await.into_iter();
    let upstreams = service.upstreams();
    let all = plans.map(|plan| {
        let failed = plan.error.or(plan.incomplete);
        WorkloadChanges {
            deferred: outage(service, &upstreams, &plan.workload, now).or(failed),
            secrets: plan.secrets.into_values().filter_map(|one| replaced(service, one)).collect(),
            name: plan.name,
            workload: plan.workload,
        }
    });
    all.filter(|workload| !workload.secrets.is_empty()).collect()
}

fn replaced(service: &Service, secret: PlannedSecret) -> Option<ReplacedSecret> {
    let PlannedSecret { name, ids, replaced, .. } = secret;
    let repointed = ids.iter().filter_map(|id| service.repointed(*id)).max();
    let (at, at_wall) = replaced.max(repointed)?;
    Some(ReplacedSecret { name, ids, at, at_wall })
}

/// Why a unit that is stopped now might not start again.
fn outage(
    service: &Service,
    upstreams: &Upstreams,
    workload: &Workload,
    now: Now,
) -> Option<String> {
    if service.drill_until(now.mono).is_some() {
        return Some("a drill simulates an outage".into());
    }
    let provider = &workload.provider;
    let upstream = upstreams.providers.get(provider)?;
    let is_out = upstream.health().breaker.outage().is_some();
    is_out.then(|| format!("{provider} does not answer"))
}
