//! The references that a caller may use: those in the sources of the workloads that name its user. The config alone
//! decides, before anything is looked up.

use super::Service;
use super::error::ServiceError;
use crate::model::principal::Principal;
use crate::model::reference::{Reference, shown};
use crate::provider::upstream::{SEPARATOR, Upstreams};

impl Service {
    /// Whether a workload names a user.
    pub(crate) fn is_workload_user(&self, uid: u32) -> bool {
        self.upstreams().workloads_of(Principal::User(uid)).next().is_some()
    }

    /// Refuses a reference that lies outside the caller's workloads.
    pub(super) fn check_within(
        &self,
        reference: &Reference,
        caller: Principal,
    ) -> Result<(), ServiceError> {
        match caller {
            Principal::Admin => Ok(()),
            Principal::User(_) if is_within(&self.upstreams(), reference, caller) => Ok(()),
            Principal::User(uid) => {
                let place = |name| reference.member(name).map(shown).unwrap_or_default();
                Err(ServiceError::Denied(format!(
                    "uid {uid} may not use {}; a workload with user = {uid} and the source {{ project = \"{}\", path = \
                     \"{}\" }} in psid's config allows it",
                    shown(&reference.to_string()),
                    place("project"),
                    place("path")
                )))
            }
        }
    }
}

/// Refuses a name of no workload of the caller. The message does not depend on the existence of such a workload.
pub(super) fn check_name(name: &str, caller: Principal) -> Result<(), ServiceError> {
    let Principal::User(uid) = caller else { return Ok(()) };
    let workload = name.split_once(SEPARATOR).map_or(name, |(workload, _)| workload);
    Err(ServiceError::Denied(format!(
        "uid {uid} may not use {}; user = {uid} in [workloads.\"{}\"] of psid's config allows it",
        shown(name),
        shown(workload)
    )))
}

fn is_within(upstreams: &Upstreams, reference: &Reference, caller: Principal) -> bool {
    let Some(upstream) = upstreams.provider(reference.provider()) else { return false };
    let Ok(key) = upstream.provider.accept(reference) else { return false };
    upstreams.workloads_of(caller).any(|(_, workload)| {
        let mut taking = workload.sources.iter().filter(|source| source.takes(&key.key));
        workload.provider == upstream.name
            && taking.any(|source| {
                upstream.provider.scope_of(source).is_ok_and(|scope| scope.contains(&key))
            })
    })
}
