//! The secrets that each workload of the config needs at podman: the listings of its sources, by key. psid reports
//! them to psictl, and does not call podman.

mod changes;
mod inventory;
mod login_check;
mod names;

use std::collections::{BTreeMap, HashMap};

use psi_common::{SecretId, check};

use crate::lookup::kube::document::{self, NoDocument};
use crate::lookup::{Certainty, SelfTestContext, Service, SourceContents, SourceKey, kube};
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::principal::{Owner, Principal};
use crate::model::reference::{CacheKey, Reference};
use crate::provider::upstream::{
    Mount, Upstream, Workload, WorkloadSource, WorkloadUser, kube_name_of, prefix_of,
};
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
    /// By variable.
    pub secrets: BTreeMap<String, PlannedSecret>,
    /// The secret that holds all of them, if the config wants it.
    pub kube: Option<PlannedSecret>,
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
    /// The file that it becomes; none: a variable.
    pub mount: Option<Mount>,
    /// The ids that are registered for this reference.
    pub ids: Vec<SecretId>,
    /// The length of its value; 0 without one.
    pub bytes: usize,
    /// Whether it would resolve after a reboot without the provider.
    pub survives_outage: Certainty,
    /// When its value replaced another one in this boot, and that time on the wall clock.
    pub replaced: Option<(BootInstant, Timestamp)>,
    /// One sentence each, with the remedy.
    pub warnings: Vec<String>,
    /// Why it cannot be registered.
    pub error: Option<String>,
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
    let all_documents = registered_documents(service);
    let mut plans = Vec::new();
    for (name, workload) in upstreams.workloads_of(caller) {
        let ids = all_ids.get(&owner_of(workload)).cloned().unwrap_or_default();
        let documents = all_documents.get(&(owner_of(workload), name.clone()));
        let mut plan = WorkloadPlan::new(name, workload);
        if let Some(upstream) = upstreams.providers.get(&workload.provider) {
            let lister = Lister { service, upstream, ids: &ids, failed, now };
            plan.list_sources(&lister).await;
        }
        for secret in plan.secrets.values_mut() {
            secret.survives_outage = service.survives(&secret.reference, now, context);
        }
        plan.kube = workload.kube.then(|| plan.document(documents));
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

/// The registered ids of each workload's document, by owner and workload.
fn registered_documents(service: &Service) -> HashMap<(Owner, String), Vec<SecretId>> {
    let mut ids: HashMap<(Owner, String), Vec<SecretId>> = HashMap::new();
    for (id, registered) in service.registry().all() {
        if let Registered::Reference(reference) = registered
            && let Some(workload) = kube::workload_of(&reference)
        {
            let owner = service.registry().owner(id).flatten();
            ids.entry((owner, workload.to_owned())).or_default().push(id);
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
            kube: None,
            incomplete: None,
            missing: None,
            error: names::workload_fault(name, &workload.depends_on),
        }
    }

    /// Adds the secrets of all sources. If two sources have one variable, the later source wins.
    async fn list_sources(&mut self, lister: &Lister<'_>) {
        if self.error.is_some() {
            return;
        }
        for source in self.workload.sources.clone() {
            let failed = lister.failed.get(&source.to_string());
            if let Some(why) = failed {
                self.incomplete.get_or_insert_with(|| format!("{}: {why}", source.source));
            }
            match lister.service.contents(lister.upstream, &source, lister.now).await {
                Ok(contents) => {
                    let of_source = (&source, &contents);
                    let missing = lister.service.missing(of_source, lister.ids.keys(), lister.now);
                    if let Some(missing) = &missing {
                        self.missing
                            .get_or_insert_with(|| format!("{missing} of {}", source.source));
                    }
                    let is_known = failed.is_none() && !lister.has_invalidated(of_source);
                    self.add(&source, &contents.nearest(), is_known, lister.ids);
                }
                Err(error) => {
                    self.incomplete = Some(format!("{}: {error}", source.source));
                    self.missing.get_or_insert_with(|| format!("everything of {}", source.source));
                }
            }
        }
        if self.incomplete.is_none() && self.missing.is_none() {
            self.add_missing_files();
        }
    }

    /// Adds what the workload takes of a source. `is_known`: a key that was not found does not exist.
    fn add(&mut self, source: &WorkloadSource, found: &[SourceKey], is_known: bool, ids: &Ids) {
        for found in found {
            for variable in source.variables_of(&found.key.key) {
                self.insert(variable, plan_secret(self, source, (variable, found), ids));
            }
        }
        let Some(selected) = &source.selected else { return };
        let is_found = |key: &str| found.iter().any(|found| &*found.key.key == key);
        for (variable, key) in selected.iter().filter(|(_, key)| is_known && !is_found(key)) {
            let why = names::missing_key(&self.name, source, key);
            let secret = self.without_value(variable, source, why);
            self.insert(variable, secret);
        }
    }

    /// Adds a secret in the place of an earlier source's.
    fn insert(&mut self, variable: &str, mut secret: PlannedSecret) {
        if let Some(earlier) = self.secrets.get(variable)
            && earlier.source != secret.source
        {
            let variable = check::excerpt(variable);
            secret.warnings.push(format!(
                "{} has {variable} too, and that of {}, the later source, is used",
                earlier.source, secret.source
            ));
        }
        self.secrets.insert(variable.to_owned(), secret);
    }

    /// Adds an error for each entry of `mount` that no source has.
    fn add_missing_files(&mut self) {
        let Some(source) = self.workload.sources.last().cloned() else { return };
        for mount in self.workload.mount.clone() {
            if !self.secrets.contains_key(&mount.key) {
                let why = names::missing_file(&self.name, &mount.key);
                let secret = self.without_value(&mount.key, &source, why);
                self.secrets.insert(mount.key, secret);
            }
        }
    }

    /// The secret that holds all of them, with its registered ids.
    fn document(&self, ids: Option<&Vec<SecretId>>) -> PlannedSecret {
        let name = kube_name_of(&self.name);
        let lengths =
            self.secrets.iter().map(|(variable, secret)| (variable.as_str(), secret.bytes));
        let checked = document::check(name, lengths);
        // What is not listed yet may have a value.
        let is_known = self.incomplete.is_none() && self.missing.is_none();
        let fault = checked.err().filter(|why| is_known || *why != NoDocument::Empty);
        let survives = self.secrets.values().map(|secret| secret.survives_outage);
        PlannedSecret {
            name: name.to_owned(),
            reference: kube::reference(&self.name),
            source: format!("workload {}", self.name),
            mount: None,
            ids: ids.cloned().unwrap_or_default(),
            bytes: 0,
            replaced: None,
            survives_outage: survives.reduce(Certainty::and).unwrap_or_default(),
            warnings: Vec::new(),
            error: fault.map(|why| format!("kube = true of workload {}: {why}", self.name)),
        }
    }

    /// A secret that has no value.
    fn without_value(
        &self,
        variable: &str,
        source: &WorkloadSource,
        error: String,
    ) -> PlannedSecret {
        let key = source.key_of(variable).unwrap_or(variable);
        PlannedSecret {
            name: format!("{}{variable}", self.prefix),
            reference: self.workload.reference(source, &source.path, key),
            source: source.to_string(),
            mount: self.workload.mount_of(variable).cloned(),
            ids: Vec::new(),
            bytes: 0,
            replaced: None,
            survives_outage: Certainty::Unknown,
            warnings: Vec::new(),
            error: Some(error),
        }
    }
}

/// What the listing of a workload's sources needs.
struct Lister<'a> {
    service: &'a Service,
    upstream: &'a Upstream,
    ids: &'a Ids,
    /// The error of each source whose last pull failed, by the source as displayed.
    failed: &'a BTreeMap<String, String>,
    now: Now,
}

impl Lister<'_> {
    /// Whether a key of a source was invalidated, and no listing has confirmed since that it is gone.
    fn has_invalidated(&self, (source, contents): (&WorkloadSource, &SourceContents)) -> bool {
        let cache = self.service.cache();
        let is_taken = |key: &CacheKey| contents.scope.contains(key) && source.takes(&key.key);
        cache.is_enabled() && cache.invalidated_unconfirmed(is_taken).is_some()
    }
}

fn plan_secret(
    plan: &WorkloadPlan,
    source: &WorkloadSource,
    (variable, found): (&str, &SourceKey),
    ids: &Ids,
) -> PlannedSecret {
    let SourceKey { key, value, shadowed } = found;
    let name = format!("{}{variable}", plan.prefix);
    let mount = plan.workload.mount_of(variable).cloned();
    let mut warnings = Vec::new();
    if !shadowed.is_empty() {
        warnings.push(format!(
            "{} is also in {}, and the one in {} is used; to use another, name its directory as a source of its own",
            key.key,
            shadowed.join(", "),
            key.path
        ));
    }
    let mut error = names::key_fault(&plan.name, variable, &name, mount.is_some());
    if mount.is_none() {
        let fault = || names::variable_fault(variable, value.secret());
        error = error.or_else(|| Some(names::unusable_variable(&plan.name, variable, fault()?)));
    }
    PlannedSecret {
        name,
        reference: plan.workload.reference(source, &key.path, &key.key),
        source: source.to_string(),
        mount,
        ids: ids.get(key).cloned().unwrap_or_default(),
        bytes: value.secret().len(),
        survives_outage: Certainty::Unknown,
        replaced: value.replaced(),
        warnings,
        error,
    }
}

/// `worker` and `worker@` have the same prefix: a name belongs to the workload that comes first.
fn reject_duplicate_names(plans: &mut [WorkloadPlan]) {
    let mut owners: HashMap<(Owner, String), String> = HashMap::new();
    for plan in plans {
        let user = owner_of(&plan.workload);
        for secret in plan.secrets.values_mut().chain(&mut plan.kube) {
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
