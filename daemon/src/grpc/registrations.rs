//! The list of registrations, with their last uses.

use std::collections::HashMap;
use std::sync::Arc;

use psi_common::SecretId;
use psi_proto::v1::{LastUse, Registration, RegistrationKind};
use tonic::Status;

use super::control::Control;
use super::report::tristate;
use super::status;
use crate::lookup::SelfTestContext;
use crate::model::clock::{self, Now, Timestamp};
use crate::model::principal::Principal;
use crate::registry::Registered;
use crate::sys::tasks::blocking;
use crate::trail;
use crate::workloads::{self, InventoryItem};

/// A caller's registrations, sorted by id.
pub(super) async fn list(
    daemon: &Arc<dyn Control>,
    caller: Principal,
) -> Result<Vec<Registration>, Status> {
    let daemon = Arc::clone(daemon);
    let listed = blocking(move || {
        let (now, context) = (clock::now(), daemon.self_test_context());
        let mut uses = daemon.trail().last_uses();
        let all = workloads::inventory(daemon.service(), caller)?.into_iter();
        Ok(all.map(|item| to_proto(&*daemon, item, &mut uses, (now, &context))).collect())
    });
    let crashed = || Status::internal("the list crashed; see `journalctl -u psid`");
    listed.await.ok_or_else(crashed)?.map_err(status)
}

fn to_proto(
    daemon: &dyn Control,
    item: InventoryItem,
    uses: &mut HashMap<SecretId, trail::LastUse>,
    (now, context): (Now, &SelfTestContext),
) -> Registration {
    let InventoryItem { registration, workloads, fetched_at, changed_at } = item;
    let registered = &registration.registered;
    let survives = daemon.service().registration_survives(registered, now, context);
    Registration {
        id: registration.id.to_string(),
        kind: kind(registered).into(),
        description: workloads::describe(registered),
        survives_outage: tristate(survives).into(),
        needs_key: needs_key(registered),
        workloads,
        owner: registration.owner,
        fetched_at_ms: fetched_at.map(Timestamp::as_millis),
        changed_at_ms: changed_at.map(Timestamp::as_millis),
        last_use: uses.remove(&registration.id).map(last_use),
        name: registration.podman.name,
        store: registration.podman.store,
    }
}

fn last_use(last: trail::LastUse) -> LastUse {
    let unit = last.unit.map(|unit| unit.to_string()).unwrap_or_default();
    LastUse { at_ms: last.at.as_millis(), uid: last.uid, unit }
}

/// Whether only the key is missing: the registry uses this text in no other case.
fn needs_key(what: &Registered) -> bool {
    matches!(what, Registered::Invalid(why) if why.contains("there is no key to open it"))
}

fn kind(what: &Registered) -> RegistrationKind {
    match what {
        Registered::Reference(_) => RegistrationKind::Reference,
        Registered::Literal(_) => RegistrationKind::Literal,
        Registered::Invalid(_) | Registered::Unreadable(_) => RegistrationKind::Unusable,
    }
}
