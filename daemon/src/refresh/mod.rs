//! Refreshes: sources are listed by the schedule and by `psictl cache refresh`, one at a time and by the same code.
//! `targets` are the sources, `schedule` when each is due, `pull` one request, `scheduler` the loop.
//!
//! Locks are taken in this order, and none is held across an await: `totals`, then `schedule`, then an upstream's
//! health or the cache. While `running`, `logged`, a health or the cache is locked, no other lock is taken.

mod pull;
mod schedule;
mod scheduler;
mod scope;
mod targets;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cache::Counts;
use crate::lookup::Service;
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::ProviderError;
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::CallError;
use crate::sys::tasks::{Task, caught};
use pull::{ByteBudget, PullOptions};
use schedule::{FailureKind, PullFailure, RefreshSchedule, TargetKey};
use targets::{PullTarget, WorkloadSecrets};

pub(crate) use scope::RefreshScope;

/// How long a value stays that is neither registered nor a workload's, since its last fetch: a script may look
/// it up by reference.
const UNWANTED_STAYS: Duration = Duration::from_secs(7 * 86_400);

/// How long the value of a deleted registration stays: `podman secret create --replace` deletes before it
/// stores.
const DELETED_STAYS: Duration = Duration::from_secs(10);

/// Runs refreshes, one at a time.
pub(crate) struct Refresher {
    work: Arc<Work>,
    running: Mutex<Option<(RefreshScope, watch::Receiver<Progress>)>>,
}

/// What all refreshes share.
struct Work {
    service: Arc<Service>,
    schedule: Mutex<RefreshSchedule>,
    last: watch::Sender<Option<Summary>>,
    totals: Mutex<Totals>,
    /// The failures that are logged already.
    logged: Mutex<BTreeMap<String, String>>,
}

/// How often to refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshInterval {
    /// How long a value is fresh.
    pub interval: Duration,
    /// The longest random delay after it.
    pub max_jitter: Duration,
}

/// The progress of a refresh.
#[derive(Clone, Default)]
pub struct Progress {
    /// How many sources there are.
    pub sources: usize,
    /// Those that are done.
    pub done: Vec<SourceResult>,
    /// Whether all are.
    pub ended: bool,
}

/// The result of one source.
#[derive(Clone)]
pub struct SourceResult {
    /// Its provider.
    pub provider: String,
    /// The source, for messages.
    pub source: String,
    /// What changed; `Err` is why it failed.
    pub result: Result<Counts, String>,
}

/// A completed refresh.
#[derive(Clone)]
pub struct Summary {
    /// When.
    pub at: Timestamp,
    /// Summed over the sources.
    pub counts: Counts,
    /// Every source whose last pull failed, with its reason.
    pub failed: Vec<String>,
}

/// Pulls of sources since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those that succeeded.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Entries that they removed.
    pub removed: u64,
    /// Entries whose removal or emptying was withheld.
    pub withheld: u64,
}

impl Refresher {
    /// A refresher that has run no refresh.
    pub(crate) fn new(service: Arc<Service>, schedule: RefreshInterval) -> Self {
        let work = Work {
            service,
            schedule: Mutex::new(RefreshSchedule::new(schedule)),
            last: watch::Sender::new(None),
            totals: Mutex::default(),
            logged: Mutex::default(),
        };
        Self { work: Arc::new(work), running: Mutex::default() }
    }

    /// The last refresh.
    pub(crate) fn last(&self) -> Option<Summary> {
        self.work.last.borrow().clone()
    }

    /// The last refresh, and each that follows.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<Summary>> {
        self.work.last.subscribe()
    }

    /// Pulls so far.
    pub(crate) fn totals(&self) -> Totals {
        *self.work.totals.lock()
    }

    /// Removes the values of deleted registrations that nothing else names.
    pub(crate) fn drop_deleted(&self, now: Now) {
        let deleted = self.work.service.take_deleted(now.wall, DELETED_STAYS);
        if deleted.is_empty() {
            return;
        }
        let workloads = WorkloadSecrets::of(&self.work.service);
        let registered: HashSet<CacheKey> =
            self.work.service.references().map(|(_, _, key)| key).collect();
        let is_named = |key: &CacheKey| registered.contains(key) || workloads.contains(key);
        self.work.service.cache().remove_unwanted(|key, _| !deleted.contains(key) || is_named(key));
    }

    /// Starts a refresh, or joins the running one if its scope is as wide; else it starts after that one.
    pub(crate) fn start(&self, scope: RefreshScope, now: Now) -> watch::Receiver<Progress> {
        let mut running = self.running.lock();
        // A run whose task crashed never ends.
        let under_way = running
            .take()
            .filter(|(_, progress)| !progress.borrow().ended && progress.has_changed().is_ok());
        if let Some((present, progress)) = &under_way
            && present.covers(&scope)
        {
            let progress = progress.clone();
            *running = under_way;
            return progress;
        }
        let (report, progress) = watch::channel(Progress::default());
        *running = Some((scope.clone(), progress.clone()));
        let work = Arc::clone(&self.work);
        tokio::spawn(async move {
            if let Some((_, mut before)) = under_way {
                let _ = before.wait_for(|before| before.ended).await;
            }
            work.run(&scope, &report, now.advanced()).await;
        });
        progress
    }
}

impl Work {
    async fn run(&self, scope: &RefreshScope, report: &watch::Sender<Progress>, started: Now) {
        let chosen = self.choose(scope, started);
        report.send_modify(|progress| progress.sources = chosen.len());
        let caller = match scope {
            RefreshScope::Due | RefreshScope::OfUser(_) => Caller::Routine,
            RefreshScope::OfProvider(_)
            | RefreshScope::All
            | RefreshScope::AllAcceptingRemovals => Caller::Admin,
        };
        let budget = ByteBudget::for_refresh();
        let options = PullOptions {
            caller,
            accept: *scope == RefreshScope::AllAcceptingRemovals,
            budget: &budget,
        };
        if caller == Caller::Admin {
            let upstreams = self.service.upstreams();
            let asked = upstreams.providers.values().filter(|one| scope.includes(one));
            asked.for_each(|one| one.provider.clear_backoff(false));
        }
        // In an outage, one request to each provider, not one for each source.
        let mut out: HashMap<String, ProviderError> = HashMap::new();
        for pull in chosen {
            let result = match out.get(&pull.upstream.name) {
                Some(error) => Err(CallError::NotAsked(error.clone())),
                None => self.pull_one(&pull, options, started.advanced()).await,
            };
            if let Err(CallError::Answered(error) | CallError::NotAsked(error)) = &result
                && error.is_host_wide()
                && (*scope == RefreshScope::Due || pull.upstream.is_out())
            {
                out.insert(pull.upstream.name.clone(), error.clone());
            }
            self.note(&pull, &result, started.advanced().boot);
            let result = result.map_err(|error| match error {
                CallError::Answered(error) => error.to_string(),
                CallError::NotAsked(error) => {
                    format!("not asked: {}", reason_not_asked(&pull, &error))
                }
            });
            let (provider, source) = (pull.key.0, pull.name);
            let done = SourceResult { provider, source, result };
            report.send_modify(|progress| progress.done.push(done));
        }
        // A cycle without a due source is not reported.
        if *scope != RefreshScope::Due || !report.borrow().done.is_empty() {
            self.end(&report.borrow().done, started.advanced());
        }
        report.send_modify(|progress| progress.ended = true);
    }

    /// Pulls one source. A panic ends this pull only.
    async fn pull_one(
        &self,
        pull: &PullTarget,
        options: PullOptions<'_>,
        now: Now,
    ) -> Result<Counts, CallError> {
        let _step = self.service.tasks().step(Task::Refresh);
        let pulled = caught(pull::pull(&self.service, pull, options, now)).await;
        pulled.unwrap_or_else(|| {
            self.service.tasks().note_crash(Task::Refresh);
            let why = "psid crashed over it, which is a defect".into();
            Err(CallError::Answered(ProviderError::Misbehaved(why)))
        })
    }

    /// The targets of this refresh.
    fn choose(&self, scope: &RefreshScope, now: Now) -> Vec<PullTarget> {
        let pulls = self.plan(now.boot);
        let mut chosen = match scope {
            RefreshScope::Due => self.due(pulls, now),
            RefreshScope::OfUser(uid) => targets::of_user(&self.service, pulls, *uid),
            RefreshScope::OfProvider(_) => {
                pulls.into_iter().filter(|pull| scope.includes(&pull.upstream)).collect()
            }
            RefreshScope::All | RefreshScope::AllAcceptingRemovals => pulls,
        };
        // The sort is stable: among equals, the order of the config.
        let schedule = self.schedule.lock();
        chosen.sort_by_key(|pull| schedule.rank(&pull.key));
        chosen
    }

    /// All targets; the schedule is updated.
    fn plan(&self, now: BootInstant) -> Vec<PullTarget> {
        let pulls = targets::plan(&self.service);
        let planned: Vec<_> = pulls.iter().map(PullTarget::planned).collect();
        let oldest = |key: &TargetKey| {
            let pull = pulls.iter().find(|pull| pull.key == *key)?;
            pull.oldest_fetch(self.service.cache())
        };
        self.schedule.lock().plan(&planned, now, oldest, jitter);
        pulls
    }

    fn note(&self, pull: &PullTarget, result: &Result<Counts, CallError>, now: BootInstant) {
        let mut totals = self.totals.lock();
        let mut schedule = self.schedule.lock();
        match result {
            Ok(counts) => {
                totals.done += 1;
                totals.removed += counts.removed;
                totals.withheld += counts.withheld;
                schedule.done(&pull.key, now, jitter());
            }
            Err(CallError::NotAsked(error)) => {
                schedule.not_asked(&pull.key, PullFailure::of(error), now, jitter());
            }
            Err(CallError::Answered(error)) => {
                totals.failed += 1;
                schedule.failed(&pull.key, PullFailure::of(error), now, jitter());
            }
        }
    }

    fn end(&self, done: &[SourceResult], now: Now) {
        let (failing, failing_scopes) = {
            let schedule = self.schedule.lock();
            (schedule.failing(), schedule.failing_scopes())
        };
        let counts = sum(done);
        let deleted = self.service.take_deleted(now.wall, Duration::ZERO);
        drop_unwanted(&self.service, &failing_scopes, &deleted, now.boot);
        self.log_changes(&counts, &failing);
        let failed = failing.iter().map(|(source, failed)| format!("{source}: {}", failed.why));
        let summary = Summary { at: now.wall, counts, failed: failed.collect() };
        self.last.send_replace(Some(summary));
    }

    /// Logs what changed, and each failure once; an outage or a refused login is logged by its provider.
    fn log_changes(&self, counts: &Counts, failing: &BTreeMap<String, PullFailure>) {
        let own = failing.iter().filter(|(_, failed)| failed.kind == FailureKind::Own);
        let failing: BTreeMap<_, _> =
            own.map(|(source, failed)| (source.clone(), failed.why.clone())).collect();
        let before = std::mem::replace(&mut *self.logged.lock(), failing.clone());
        let is_new = |(source, why): &(&String, &String)| before.get(*source) != Some(*why);
        let new: Vec<String> =
            failing.iter().filter(is_new).map(|(source, why)| format!("{source}: {why}")).collect();
        if !new.is_empty() {
            tracing::warn!("refreshed in part: {counts}; failed: {}", new.join("; "));
        } else if counts.is_change() || (failing.is_empty() && !before.is_empty()) {
            let Counts { added, changed, unchanged, removed, withheld } = *counts;
            tracing::info!(added, changed, unchanged, removed, withheld, "refreshed: {counts}");
        } else {
            tracing::debug!("refreshed: {counts}");
        }
    }
}

/// Why a source was not requested.
fn reason_not_asked(pull: &PullTarget, error: &ProviderError) -> String {
    match error {
        error if error.is_host_wide() => format!("{} is out ({error})", pull.upstream.name),
        error => error.to_string(),
    }
}

fn sum(done: &[SourceResult]) -> Counts {
    let mut sum = Counts::default();
    for counts in done.iter().filter_map(|done| done.result.as_ref().ok()) {
        sum.added += counts.added;
        sum.changed += counts.changed;
        sum.unchanged += counts.unchanged;
        sum.removed += counts.removed;
        sum.withheld += counts.withheld;
    }
    sum
}

/// Removes the values of deleted registrations, and those that neither a workload nor a registration names and
/// that were not fetched within a week. The week does not count in a namespace with a failing source, or of a
/// project that is not configured: either may be a mistake.
fn drop_unwanted(
    service: &Service,
    failing: &[ListingScope],
    deleted: &HashSet<CacheKey>,
    now: BootInstant,
) {
    let registered: HashSet<CacheKey> = service.references().map(|(_, _, key)| key).collect();
    let workloads = WorkloadSecrets::of(service);
    let upstreams = service.upstreams();
    let knows = |key: &CacheKey| {
        upstreams.providers.values().any(|upstream| upstream.provider.has_namespace(&key.namespace))
    };
    let is_suspended =
        |key: &CacheKey| failing.iter().any(|scope| scope.namespace == key.namespace);
    let wanted = |key: &CacheKey, fetched: BootInstant| {
        let is_named = registered.contains(key) || workloads.contains(key);
        // A deleted secret is no longer looked up; a script may look up one that was never registered.
        let is_spared = !deleted.contains(key)
            && (fetched.age(now) < UNWANTED_STAYS || is_suspended(key) || !knows(key));
        is_named || is_spared
    };
    service.cache().remove_unwanted(wanted);
}

/// A random factor from 0 to 1, which spreads the requests of a fleet.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
