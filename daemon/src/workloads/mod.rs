//! What each workload of the config wants registered with podman: what its sources list, by key. psid
//! tells it, and calls no podman.

mod login_check;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use psi_common::{SecretBytes, SecretId};

use crate::cache::{CacheLookup, Entry};
use crate::lookup::{Certainty, SelfTestContext, Service};
use crate::model::clock::Now;
use crate::model::reference::{CacheKey, Listing, ListingScope, Reference};
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::{CallError, Route, Upstream, Workload, prefix_of};
use crate::provider::{Listed, Source};
use crate::registry::Registered;

pub(crate) use login_check::{LoginCheckOptions, check_logins};

/// What a workload wants.
pub(crate) struct WorkloadPlan {
    /// Its name.
    pub name: String,
    /// What the config says of it.
    pub workload: Workload,
    /// What begins the podman names of its secrets.
    pub prefix: String,
    /// By key.
    pub secrets: BTreeMap<String, PlannedSecret>,
    /// Why its sources are not known completely: what is not here may be there all the same.
    pub untrusted: Option<String>,
    /// What psid lacks of its sources, as far as it can tell without the provider.
    pub missing: Option<String>,
    /// Why nothing can be set up for it.
    pub error: Option<String>,
}

/// One secret of a workload.
pub(crate) struct PlannedSecret {
    /// Its podman name.
    pub name: String,
    /// What to register.
    pub reference: Reference,
    /// Where it comes from, as people write it.
    pub source: String,
    /// It is to be a file, not a variable.
    pub mount: bool,
    /// The ids that are registered for just this.
    pub ids: Vec<SecretId>,
    /// Whether it would resolve after a reboot with no provider in reach.
    pub survives_outage: Certainty,
    /// One sentence each, with what to do.
    pub warnings: Vec<String>,
    /// Why it cannot be registered.
    pub error: Option<String>,
}

/// A listed value.
enum Value {
    Cached(Arc<Entry>),
    Listed(SecretBytes),
}

/// The registered ids of each secret of a provider.
type Ids = HashMap<CacheKey, Vec<SecretId>>;

/// Plans every workload, by name. `failed` has the sources whose last pull failed, as people write them, and
/// why.
pub(crate) async fn plan(
    service: &Service,
    failed: &BTreeMap<String, String>,
    now: Now,
    context: &SelfTestContext,
) -> Vec<WorkloadPlan> {
    let upstreams = service.upstreams();
    let ids = registered_ids(service);
    let mut plans = Vec::new();
    for (name, workload) in &upstreams.workloads {
        let upstream = upstreams.providers.get(&workload.provider);
        let mut plan = plan_one(service, (name, workload), upstream, &ids, now).await;
        let failed = workload.sources.iter().find_map(|source| {
            let source = source.to_string();
            failed.get(&source).map(|why| format!("{source}: {why}"))
        });
        plan.untrusted = plan.untrusted.or(failed);
        for secret in plan.secrets.values_mut() {
            secret.survives_outage = service.survives(&secret.reference, now, context);
        }
        plans.push(plan);
    }
    refuse_names_of_others(&mut plans);
    plans
}

/// Whether there is a cache, and it knows nothing of a source of any workload.
pub(crate) fn is_unknown(service: &Service) -> bool {
    if !service.cache.is_enabled() {
        return false;
    }
    let upstreams = service.upstreams();
    upstreams.workloads.values().any(|workload| {
        let upstream = upstreams.providers.get(&workload.provider);
        workload.sources.iter().any(|source| {
            let scope = upstream.and_then(|upstream| upstream.provider.scope_of(source).ok());
            scope.is_some_and(|scope| service.cache.entries_in(&scope).is_empty())
        })
    })
}

fn registered_ids(service: &Service) -> Ids {
    let mut ids = Ids::new();
    for (id, what) in service.registry.all() {
        if let Registered::Reference(reference) = what
            && let Some(at) = service.resolve_key(&reference)
        {
            ids.entry(at).or_default().push(id);
        }
    }
    ids
}

async fn plan_one(
    service: &Service,
    (name, workload): (&str, &Workload),
    upstream: Option<&Arc<Upstream>>,
    ids: &Ids,
    now: Now,
) -> WorkloadPlan {
    let mut plan = WorkloadPlan {
        name: name.to_owned(),
        workload: workload.clone(),
        prefix: prefix_of(name),
        secrets: BTreeMap::new(),
        untrusted: None,
        missing: None,
        error: names::fault(name, &workload.depends_on),
    };
    let Some(upstream) = upstream.filter(|_| plan.error.is_none()) else { return plan };
    // Of two sources with one key, the later one wins.
    for source in &workload.sources {
        match list(service, upstream, source, now).await {
            Ok((scope, found)) => {
                let missing = missing(service, &scope, found.is_empty(), ids, now);
                plan.missing = plan.missing.or(missing.map(|what| format!("{what} of {source}")));
                for found in nearest(&scope, found) {
                    let secret = plan_secret(&plan, source, &found, ids);
                    plan.secrets.insert(found.key.key.to_string(), secret);
                }
            }
            Err(why) => {
                plan.untrusted = Some(format!("{source}: {why}"));
                plan.missing.get_or_insert_with(|| format!("everything of {source}"));
            }
        }
    }
    plan
}

/// What is known of a source: the cache has it, when there is one.
async fn list(
    service: &Service,
    upstream: &Upstream,
    source: &Source,
    now: Now,
) -> Result<(ListingScope, Vec<(CacheKey, Value)>), String> {
    let scope = upstream.provider.scope_of(source)?;
    if service.cache.is_enabled() {
        let known = service.cache.entries_in(&scope);
        let found = known.into_iter().map(|(at, entry)| (at, Value::Cached(entry))).collect();
        return Ok((scope, found));
    }
    let call = upstream.call_for_directory(&scope, Route::List, Caller::Admin);
    let folders = BTreeSet::new();
    let list = upstream.provider.list(source, &folders);
    let listed = upstream.call(&call, now, list).await;
    let listing = whole(listed.map_err(|error| CallError::error(error).to_string())?)?;
    let found = listing.found.into_iter().map(|(at, value)| (at, Value::Listed(value))).collect();
    Ok((scope, found))
}

/// A listing of all of a source. What a part of it lacks may be there.
fn whole(listed: Listed) -> Result<Listing, String> {
    let Listed { listing, refused, continued, incomplete } = listed;
    if let Some(error) = incomplete {
        return Err(error.to_string());
    }
    if continued {
        return Err("only the rest of it was listed; ask again".into());
    }
    if let Some((scope, error)) = refused.first() {
        return Err(format!("{}: {error}", scope.path));
    }
    match listing.denied.iter().chain(&listing.unread).next() {
        Some((at, why)) => Err(format!("{at}: {why}")),
        None => Ok(listing),
    }
}

/// What the cache lacks of a source: everything, what was invalidated, or what is registered and was not
/// found to be gone.
fn missing(
    service: &Service,
    scope: &ListingScope,
    is_empty: bool,
    ids: &Ids,
    now: Now,
) -> Option<String> {
    if !service.cache.is_enabled() {
        return None;
    }
    if is_empty {
        return Some("everything".to_owned());
    }
    let is_missing = |at: &&CacheKey| {
        scope.contains(at) && matches!(service.cache.get(at, now.boot), CacheLookup::Missing)
    };
    let unconfirmed = service.cache.invalidated_unconfirmed(scope);
    let lacking = unconfirmed.or_else(|| ids.keys().find(is_missing).cloned());
    lacking.map(|at| format!("the key {}", at.key.escape_debug()))
}

/// A key of a source.
struct Found {
    key: CacheKey,
    value: Value,
    /// The other directories of the source that have the key.
    shadowed: Vec<String>,
}

/// Each key once: of the directories below a recursive source, the nearest one wins, as in a lookup by name.
fn nearest(scope: &ListingScope, mut all: Vec<(CacheKey, Value)>) -> Vec<Found> {
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
            "{} is in {} too, and {} is taken; name the folder that is meant as a source of its own",
            key.key,
            shadowed.join(", "),
            key.path
        ));
    }
    let error = names::key_fault(&plan.name, &key.key, &name, mount);
    if error.is_none() && !mount {
        warnings.extend(names::damage(&key.key, value.secret()).map(|what| {
            format!(
                "{what}; add \"{}\" to mount of [workloads.\"{}\"], for a file in /run/secrets instead of a variable",
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
        warnings,
        error,
    }
}

impl Value {
    fn secret(&self) -> &SecretBytes {
        match self {
            Self::Cached(entry) => entry.value(),
            Self::Listed(value) => value,
        }
    }
}

/// `worker` and `worker@` have one prefix: a name belongs to the one that comes first.
fn refuse_names_of_others(plans: &mut [WorkloadPlan]) {
    let mut owners: HashMap<String, String> = HashMap::new();
    for plan in plans {
        for secret in plan.secrets.values_mut() {
            match owners.get(&secret.name) {
                Some(owner) => {
                    let why = format!(
                        "{} is workload {owner}'s; rename one of the workloads",
                        secret.name
                    );
                    secret.error.get_or_insert(why);
                }
                None => {
                    owners.insert(secret.name.clone(), plan.name.clone());
                }
            }
        }
    }
}

/// What an id is registered for, in the words of people.
pub(crate) fn about(what: &Registered) -> String {
    match what {
        Registered::Reference(reference) => reference.to_string(),
        Registered::Literal(_) => String::new(),
        Registered::Invalid(why) | Registered::Unreadable(why) => why.to_string(),
    }
}

#[cfg(test)]
mod tests;
