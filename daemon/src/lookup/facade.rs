//! The service's methods beside lookups and registrations. `grpc` calls no others; the accessors of parts are for the
//! layers between `lookup` and `grpc` and for `runtime`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::outage_drill::OutageGuard;
use super::readiness::Readiness;
use super::{LookupCounts, Service, ServiceError, Withheld};
use crate::cache::Cache;
use crate::model::clock::{Now, Timestamp};
use crate::model::principal::{Owner, Principal};
use crate::provider::Persistence;
use crate::registry::{PodmanName, Registered, Registry};
use crate::sys::tasks::{TaskReport, Tasks, blocking};

/// The state of the service, as far as a status reports it.
pub(crate) struct ServiceReport {
    /// Number of entries in the cache.
    pub(crate) entries: usize,
    /// When the oldest and the newest entry were fetched.
    pub(crate) fetched: Option<(Timestamp, Timestamp)>,
    /// Number of entries that are served although they are older than `max_stale`.
    pub(crate) past_max_stale: usize,
    /// Number of registered references.
    pub(crate) references: usize,
    /// Number of registered literals.
    pub(crate) literals: usize,
    pub(crate) lookups: LookupCounts,
    pub(crate) withheld: Vec<Withheld>,
    /// When the running drill ends.
    pub(crate) drill_until: Option<Instant>,
    pub(crate) tasks: Vec<TaskReport>,
}

/// A deleted registration that can be restored.
pub(crate) struct Restorable {
    pub(crate) id: SecretId,
    pub(crate) left: Duration,
    /// Its podman name, if one is stored.
    pub(crate) name: String,
    /// The reference in readable form; empty for a literal.
    pub(crate) description: String,
}

/// A registration, with its podman name where one is stored.
pub(crate) struct NamedRegistration {
    pub(crate) id: SecretId,
    pub(crate) registered: Registered,
    pub(crate) podman: PodmanName,
    pub(crate) owner: Owner,
}

impl Service {
    /// What podman registered.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The cached values.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Not ready while the key is being opened.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The background tasks.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// Notified when a provider recovers.
    pub(crate) fn recovered(&self) -> &Notify {
        &self.recovered
    }

    /// When the running drill ends.
    pub(crate) fn drill_until(&self, now: Instant) -> Option<Instant> {
        self.drill.until(now)
    }

    /// The reason why a running drill forbids a call to a provider.
    pub(crate) fn simulated_outage(
        &self,
        persistence: Persistence,
        now: Instant,
    ) -> Option<String> {
        self.drill.outage_reason(persistence, now)
    }

    /// Waits until the key was opened or its opening failed, at most until `limit`.
    pub(crate) async fn wait_ready(&self, limit: Instant) {
        self.readiness.wait_ready(limit).await;
    }

    /// The state of the cache, the registry and the tasks.
    pub(crate) fn report(&self, now: Now) -> ServiceReport {
        let registered = self.registry.all();
        let count = |is: fn(&Registered) -> bool| {
            registered.iter().filter(|(_, registered)| is(registered)).count()
        };
        ServiceReport {
            entries: self.cache.len(),
            fetched: self.cache.fetch_span(),
            past_max_stale: self.cache.past_max_stale(now.boot),
            references: count(|registered| matches!(registered, Registered::Reference(_))),
            literals: count(|registered| matches!(registered, Registered::Literal(_))),
            lookups: self.lookups(),
            withheld: self.withheld(now),
            drill_until: self.drill.until(now.mono),
            tasks: self.tasks.reports(now.mono),
        }
    }

    /// The numbers of a caller's references, literals and registrations.
    pub(crate) fn counts_of(&self, caller: Principal) -> [usize; 3] {
        let registered = self.registry.all_of(caller);
        let count = |is: fn(&Registered) -> bool| {
            registered.iter().filter(|(_, registered)| is(registered)).count()
        };
        [
            count(|registered| matches!(registered, Registered::Reference(_))),
            count(|registered| matches!(registered, Registered::Literal(_))),
            registered.len(),
        ]
    }

    /// Whether an id is registered, and a caller may use it.
    pub(crate) fn has(&self, id: SecretId, caller: Principal) -> bool {
        self.registry.has(id, caller)
    }

    /// The registered ids of a caller, sorted.
    pub(crate) fn ids(&self, caller: Principal) -> Result<Vec<SecretId>, ServiceError> {
        Ok(self.registry.list(caller)?.into_iter().map(|(id, _)| id).collect())
    }

    /// Every registration of a caller, sorted by id.
    pub(crate) fn registrations(
        &self,
        caller: Principal,
    ) -> Result<Vec<NamedRegistration>, ServiceError> {
        let mut names = self.registry.names();
        let list = self.registry.list(caller)?.into_iter();
        let named = list.map(|(id, registered)| {
            let podman = names.remove(&id).unwrap_or_default();
            let owner = self.registry.owner(id).flatten();
            NamedRegistration { id, registered, podman, owner }
        });
        Ok(named.collect())
    }

    /// Registers a deleted secret again.
    pub(crate) async fn restore(
        &self,
        id: SecretId,
        caller: Principal,
    ) -> Result<(), ServiceError> {
        Ok(self.registry.restore(id, caller).await?)
    }

    /// A caller's deleted registrations that can be restored. Reads what each deleted reference referred to.
    pub(crate) async fn restorable(
        &self,
        now: Now,
        caller: Principal,
    ) -> Result<Vec<Restorable>, ServiceError> {
        let registry = Arc::clone(&self.registry);
        let work = move || {
            let names: BTreeMap<SecretId, PodmanName> = registry.names();
            let all = registry.restorable(now, caller)?.into_iter();
            let all = all.map(|(id, left)| Restorable {
                id,
                left,
                name: names.get(&id).map(|name| name.name.clone()).unwrap_or_default(),
                description: registry.describe_deleted(id),
            });
            Ok(all.collect())
        };
        blocking(work).await.unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Stores the podman names of ids; the number of names that changed.
    pub(crate) async fn note_names(
        &self,
        names: Vec<(SecretId, PodmanName)>,
        caller: Principal,
    ) -> Result<u64, ServiceError> {
        Ok(self.registry.note_names(names, caller).await?)
    }

    /// Begins a drill of `span`; `Err` is when the running one ends.
    pub(crate) fn begin_drill(&self, span: Duration, now: Now) -> Result<OutageGuard, Instant> {
        self.drill.begin(now.mono + span, now.mono)
    }

    /// Lets every provider be tried again at once, refused logins included.
    pub(crate) fn clear_backoff(&self) {
        self.upstreams().providers.values().for_each(|one| one.provider.clear_backoff(true));
    }
}
