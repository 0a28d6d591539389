//! The workloads with changed values, with the units that looked the new ones up.

use std::collections::BTreeSet;

use psi_proto::v1::{ChangedSecret, ChangedWorkload, OnChange};

use super::control::Control;
use crate::model::clock::Now;
use crate::model::principal::Principal;
use crate::provider::upstream::{ChangeAction, WorkloadUser};
use crate::trail::Trail;
use crate::workloads::{self, ReplacedSecret, WorkloadChanges};

/// Those of a caller, by name.
pub(super) async fn list(
    daemon: &dyn Control,
    caller: Principal,
    now: Now,
) -> Vec<ChangedWorkload> {
    let context = daemon.self_test_context();
    let changes = workloads::changes(daemon.service(), caller, now, &context).await.into_iter();
    changes.map(|changes| to_proto(changes, daemon.trail())).collect()
}

fn to_proto(changes: WorkloadChanges, trail: &Trail) -> ChangedWorkload {
    let WorkloadChanges { name, workload, deferred, secrets } = changes;
    let on_change = match workload.on_change.action {
        ChangeAction::None => OnChange::None,
        ChangeAction::Restart => OnChange::Restart,
        ChangeAction::Reload => OnChange::Reload,
    };
    let max_jitter = workload.on_change.max_jitter.as_millis();
    ChangedWorkload {
        name,
        user: workload.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        uid: workload.user.as_ref().and_then(WorkloadUser::uid),
        on_change: on_change.into(),
        max_jitter_ms: u64::try_from(max_jitter).unwrap_or(u64::MAX),
        deferred: deferred.unwrap_or_default(),
        secrets: secrets.into_iter().map(|secret| secret_to_proto(secret, trail)).collect(),
    }
}

fn secret_to_proto(secret: ReplacedSecret, trail: &Trail) -> ChangedSecret {
    let ReplacedSecret { name, ids, at, at_wall } = secret;
    let later = trail.uses_of(&ids).into_iter().filter(|one| one.boot > at);
    let used_by: BTreeSet<String> =
        later.filter_map(|one| one.unit.map(|unit| unit.to_string())).collect();
    ChangedSecret {
        name,
        at_boot_ms: u64::try_from(at.as_millis()).unwrap_or_default(),
        at_ms: at_wall.as_millis(),
        used_by: used_by.into_iter().collect(),
    }
}
