//! The secrets that each workload of the config needs at podman: the listings of its sources, by key. psid reports
//! them to psictl, and does not call podman.

mod changes;
mod inventory;
mod login_check;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use psi_common::{SecretBytes, SecretId};

use crate::cache::{CacheLookup, Entry};
use crate::lookup::{Certainty, SelfTestContext, Service};
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::principal::{Owner, Principal};
use crate::model::reference::{CacheKey, Listing, ListingScope, Reference};
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::{CallError, Route, Upstream, Workload, WorkloadUser, prefix_of};
use crate::provider::{InvalidReference, Listed, ProviderError, Source};
use crate::registry::Registered;

pub(crate) use changes::{ReplacedSecret, WorkloadChanges, changes};
pub(crate) use inventory::{InventoryItem, inventory};
pub(crate) use login_check::{LoginCheckOptions, check_logins};

/// The secrets of a workload.
pub(crate) struct WorkloadPlan {
    /// Its name.
    pub name: String,
    /// Its table in the config.
    pub workload: Workload,
    /// The prefix of the podman names of its secrets.
    pub prefix: String,
    /// By key.
    pub secrets: BTreeMap<String, PlannedSecret>,
    /// Why its sources are not known completely, so that a secret which is not listed here may exist.
    pub incomplete: Option<String>,
    /// What the cache lacks of its sources.
    pub missing: Option<String>,
    /// Why nothing can be set up for it.
    pub error: Option<String>,
}

/// One secret of a workload.
pub(crate) struct PlannedSecret {
    /// Its podman name.
    pub name: String,
    /// The reference to register.
    pub reference: Reference,
    /// The source that lists it, as displayed.
    pub source: String,
    /// Whether it becomes a file instead of a variable.
    pub mount: bool,
    /// The ids that are registered for this reference.
    pub ids: Vec<SecretId>,
    /// Whether it would resolve after a reboot without the provider.
    pub survives_outage: Certainty,
    /// When its value replaced another one in this boot, and that time on the wall clock.
    pub replaced: Option<(BootInstant, Timestamp)>,
    /// One sentence each, with the remedy.
    pub warnings: Vec<String>,
    /// Why it cannot be registered.
    pub error: Option<String>,
}

/// A value of a source.
enum Value {
    /// When it replaced another one in this boot.
    Cached(Arc<Entry>, Option<BootInstant>),
    Listed(SecretBytes),
}

/// The values of a source.
struct SourceContents {
    scope: ListingScope,
    values: Vec<(CacheKey, Value)>,
}

/// A source is not known completely.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error(transparent)]
    Invalid(#[from] InvalidReference),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("only the rest of it was listed; run the command again")]
    Continued,
    #[error("{path}: {error}")]
    Directory { path: String, error: ProviderError },
    #[error("{key}: {why}")]
    Key { key: CacheKey, why: String },
}

/// The registered ids of each secret of a provider.
type Ids = HashMap<CacheKey, Vec<SecretId>>;

/// Plans every workload of a caller, by name. `failed` has the error of each source whose last pull failed, by the source as
/// displayed.
pub(crate) async fn plan(
    service: &Service,
    caller: Principal,
    failed: &BTreeMap<String, String>,
    now: Now,
    context: &SelfTestContext,
) -> Vec<WorkloadPlan> {
    let upstreams = service.upstreams();
    let all_ids = registered_ids(service);
    let mut plans = Vec::new();
    for (name, workload) in upstreams.workloads_of(caller) {
        let ids = all_ids.get(&owner_of(workload)).cloned().unwrap_or_default();
        let mut plan = WorkloadPlan::new(name, workload);
        if let Some(upstream) = upstreams.providers.get(&workload.provider) {
            plan.list_sources(service, upstream, &ids, now).await;
        }
        let failed = workload.sources.iter().find_map(|source| {
            let source = source.to_string();
            failed.get(&source).map(|why| format!("{source}: {why}"))
        });
        plan.incomplete = plan.incomplete.or(failed);
        for secret in plan.secrets.values_mut() {
            secret.survives_outage = service.survives(&secret.reference, now, context);
        }
        plans.push(plan);
    }
    reject_duplicate_names(&mut plans);
    plans
}

/// Whether the cache is enabled and has no value of some source of a caller's workload.
pub(crate) fn has_uncached_source(service: &Service, caller: Principal) -> bool {
    if !service.cache().is_enabled() {
        return false;
    }
    let upstreams = service.upstreams();
    upstreams.workloads_of(caller).any(|(_, workload)| {
        let upstream = upstreams.providers.get(&workload.provider);
        workload.sources.iter().any(|source| {
            let scope = upstream.and_then(|upstream| upstream.provider.scope_of(source).ok());
            scope.is_some_and(|scope| service.cache().entries_in(&scope).is_empty())
        })
    })
}

fn registered_ids(service: &Service) -> HashMap<Owner, Ids> {
    let mut ids: HashMap<Owner, Ids> = HashMap::new();
    for (id, registered) in service.registry().all() {
        if let Registered::Reference(reference) = registered
            && let Some(key) = service.resolve_key(&reference)
        {
            let owner = service.registry().owner(id).flatten();
            ids.entry(owner).or_default().entry(key).or_default().push(id);
        }
    }
    ids
}

/// The owner of a workload's registrations.
fn owner_of(workload: &Workload) -> Owner {
    let uid = workload.user.as_ref().and_then(WorkloadUser::uid);
    uid.filter(|uid| *uid != 0 && *uid != nix::unistd::geteuid().as_raw())
}

impl WorkloadPlan {
    /// The plan of a workload without its secrets.
    fn new(name: &str, workload: &Workload) -> Self {
        Self {
            name: name.to_owned(),
            workload: workload.clone(),
            prefix: prefix_of(name),
            secrets: BTreeMap::new(),
            incomplete: None,
            missing: None,
            error: names::workload_fault(name, &workload.depends_on),
        }
    }

    /// Adds the secrets of all sources. If two sources have one key, the later source wins.
    async fn list_sources(&mut self, service: &Service, upstream: &Upstream, ids: &Ids, now: Now) {
        if self.error.is_some() {
            return;
        }
        for source in self.workload.sources.clone() {
            match list(service, upstream, &source, now).await {
                Ok(contents) => {
                    if let Some(missing) = missing(service, &contents, ids, now) {
                        self.missing.get_or_insert_with(|| format!("{missing} of {source}"));
                    }
                    for found in nearest(contents) {
                        let secret = plan_secret(self, &source, &found, ids);
                        self.secrets.insert(found.key.key.to_string(), secret);
                    }
                }
                Err(error) => {
                    self.incomplete = Some(format!("{source}: {error}"));
                    self.missing.get_or_insert_with(|| format!("everything of {source}"));
                }
            }
        }
    }
}

/// The values of a source: those of the cache, or without a cache a listing.
async fn list(
    service: &Service,
    upstream: &Upstream,
    source: &Source,
    now: Now,
) -> Result<SourceContents, SourceError> {
    let scope = upstream.provider.scope_of(source)?;
    if service.cache().is_enabled() {
        let entries = service.cache().entries_in(&scope).into_iter();
        let cached = |entry: Arc<Entry>| {
            let replaced = service.cache().replaced_in_this_boot(&entry);
            Value::Cached(entry, replaced)
        };
        let values = entries.map(|(key, entry)| (key, cached(entry))).collect();
        return Ok(SourceContents { scope, values });
    }
    let call = upstream.call_for_directory(&scope, Route::List, Caller::Admin);
    let directories = BTreeSet::new();
    let list = upstream.provider.list(source, &directories);
    let listed = upstream.call(&call, now, list).await.map_err(CallError::error)?;
    let found = complete(listed)?.found.into_iter();
    let values = found.map(|(key, value)| (key, Value::Listed(value))).collect();
    Ok(SourceContents { scope, values })
}

/// The listing, if it covers the whole source: of an incomplete one, absence is no evidence.
fn complete(listed: Listed) -> Result<Listing, SourceError> {
    let Listed { listing, refused, continued, incomplete } = listed;
    if let Some(error) = incomplete {
        return Err(error.into());
    }
    if continued {
        return Err(SourceError::Continued);
    }
    if let Some((scope, error)) = refused.into_iter().next() {
        return Err(SourceError::Directory { path: scope.path, error });
    }
    match listing.denied.iter().chain(&listing.unread).next() {
        Some((key, why)) => Err(SourceError::Key { key: key.clone(), why: why.clone() }),
        None => Ok(listing),
    }
}

/// What the cache lacks of a source: everything, an invalidated key, or a registered key that the provider has not
/// reported gone.
fn missing(service: &Service, contents: &SourceContents, ids: &Ids, now: Now) -> Option<String> {
    if !service.cache().is_enabled() {
        return None;
    }
    let SourceContents { scope, values } = contents;
    if values.is_empty() {
        return Some("everything".to_owned());
    }
    let is_missing = |key: &&CacheKey| {
        scope.contains(key) && matches!(service.cache().get(key, now.boot), CacheLookup::Missing)
    };
    let invalidated = service.cache().invalidated_unconfirmed(scope);
    let missing = invalidated.or_else(|| ids.keys().find(is_missing).cloned());
    missing.map(|key| format!("the key {}", key.key.escape_debug()))
}

/// A key of a source.
struct Found {
    key: CacheKey,
    value: Value,
    /// The other directories of the source that have the key.
    shadowed: Vec<String>,
}

/// Each key once: of the directories below a recursive source, the nearest one wins, as in a lookup by name.
fn nearest(contents: SourceContents) -> Vec<Found> {
    let SourceContents { scope, values: mut all } = contents;
    let depth = |key: &CacheKey| key.path.matches('/').count();
    all.retain(|(key, _)| scope.contains(key));
    all.sort_by(|(a, _), (b, _)| (&a.key, depth(a), &a.path).cmp(&(&b.key, depth(b), &b.path)));
    let mut kept: Vec<Found> = Vec::new();
    for (key, value) in all {
        match kept.last_mut() {
            Some(found) if found.key.key == key.key => found.shadowed.push(key.path.to_string()),
            _ => kept.push(Found { key, value, shadowed: Vec::new() }),
        }
    }
    kept
}

fn plan_secret(plan: &WorkloadPlan, source: &Source, found: &Found, ids: &Ids) -> PlannedSecret {
    let Found { key, value, shadowed } = found;
    let members = [("project", source.project.as_str()), ("path", &*key.path), ("key", &*key.key)];
    let name = format!("{}{}", plan.prefix, key.key);
    let mount = plan.workload.mount.iter().any(|mounted| **mounted == *key.key);
    let mut warnings = Vec::new();
    if !shadowed.is_empty() {
        warnings.push(format!(
            "{} is also in {}, and the one in {} is used; to use another, name its directory as a source of its own",
            key.key,
            shadowed.join(", "),
            key.path
        ));
    }
    let error = names::key_fault(&plan.name, &key.key, &name, mount);
    if error.is_none() && !mount {
        warnings.extend(names::variable_fault(&key.key, value.secret()).map(|fault| {
            format!(
                "{fault}; add \"{}\" to mount of [workloads.\"{}\"], for a file in /run/secrets instead of a variable",
                key.key, plan.name
            )
        }));
    }
    PlannedSecret {
        name,
        reference: Reference::new(&plan.workload.provider, members),
        source: source.to_string(),
        mount,
        ids: ids.get(key).cloned().unwrap_or_default(),
        survives_outage: Certainty::Unknown,
        replaced: value.replaced(),
        warnings,
        error,
    }
}

impl Value {
    fn replaced(&self) -> Option<(BootInstant, Timestamp)> {
        match self {
            Self::Cached(entry, replaced) => replaced.map(|at| (at, entry.changed_at())),
            Self::Listed(_) => None,
        }
    }

    fn secret(&self) -> &SecretBytes {
        match self {
            Self::Cached(entry, _) => entry.value(),
            Self::Listed(value) => value,
        }
    }
}

/// `worker` and `worker@` have the same prefix: a name belongs to the workload of its podman that comes first.
fn reject_duplicate_names(plans: &mut [WorkloadPlan]) {
    let mut owners: HashMap<(Owner, String), String> = HashMap::new();
    for plan in plans {
        let user = owner_of(&plan.workload);
        for secret in plan.secrets.values_mut() {
            match owners.get(&(user, secret.name.clone())) {
                Some(owner) => {
                    let why = format!(
                        "{} is already a secret of workload {owner}; rename one of the workloads",
                        secret.name
                    );
                    secret.error.get_or_insert(why);
                }
                None => {
                    owners.insert((user, secret.name.clone()), plan.name.clone());
                }
            }
        }
    }
}

/// What an id is registered for, for messages.
pub(crate) fn describe(registered: &Registered) -> String {
    match registered {
        Registered::Reference(reference) => reference.to_string(),
        Registered::Literal(_) => String::new(),
        Registered::Invalid(why) | Registered::Unreadable(why) => why.to_string(),
    }
}

#[cfg(test)]
mod tests;
