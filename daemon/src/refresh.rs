//! Pulling every source: for the timer and for `cache refresh`, by one path and in one flight.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Counts};
use crate::clock::{self, Moment, Timestamp};
use crate::provider::{ProviderError, Source};
use crate::reference::{Coordinates, Extent};
use crate::registry::Registered;
use crate::service::{self, Service};
use crate::upstream::Upstream;

/// How long after a start without any cache the first pull is.
const FIRST_PULL: Duration = Duration::from_secs(30);
/// How long after a refresh that failed in part the next one is.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// How long a value stays that is neither registered nor a workload's: a script may ask for it by
/// reference, and each time that is answered by the provider counts.
const UNWANTED_STAYS: Duration = Duration::from_secs(7 * 86_400);

/// Runs refreshes, one at a time.
pub struct Refresher {
    service: Arc<Service>,
    running: Mutex<Option<watch::Receiver<Progress>>>,
    last: Arc<Mutex<Option<Summary>>>,
}

/// When to refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long a value is fresh.
    pub interval: Duration,
    /// How much longer it may take, at random.
    pub jitter: Duration,
}

/// A refresh, as far as it got.
#[derive(Clone, Default)]
pub struct Progress {
    /// How many sources there are.
    pub sources: usize,
    /// Those that are done.
    pub done: Vec<SourceResult>,
    /// Whether all are.
    pub ended: bool,
}

/// One source is done.
#[derive(Clone)]
pub struct SourceResult {
    /// The source, as people write it.
    pub source: String,
    /// What changed; `Err` is why it failed.
    pub result: Result<Counts, String>,
}

/// A refresh that ended.
#[derive(Clone)]
pub struct Summary {
    /// When.
    pub at: Timestamp,
    /// Summed over the sources.
    pub counts: Counts,
    /// The sources that failed, each with its reason.
    pub failed: Vec<String>,
}

/// A source, its provider, and which of its secrets are wanted.
struct Pull {
    upstream: Arc<Upstream>,
    source: Source,
    extent: Extent,
    wanted: Wanted,
}

enum Wanted {
    /// A workload's: all of it.
    All,
    /// What is registered: psid need not hold what nobody asks it for.
    Only(HashSet<Coordinates>),
}

impl Refresher {
    /// No refresh so far.
    pub fn new(service: Arc<Service>) -> Self {
        Self { service, running: Mutex::default(), last: Arc::default() }
    }

    /// The last refresh.
    pub fn last(&self) -> Option<Summary> {
        lock(&self.last).clone()
    }

    /// Starts a refresh, or joins the one that runs.
    pub fn start(&self, now: Moment) -> watch::Receiver<Progress> {
        let mut running = lock(&self.running);
        if let Some(progress) = running.as_ref().filter(|progress| !progress.borrow().ended) {
            // A run whose task is gone will never end.
            if progress.has_changed().is_ok() {
                return progress.clone();
            }
        }
        let (report, progress) = watch::channel(Progress::default());
        *running = Some(progress.clone());
        tokio::spawn(run(Arc::clone(&self.service), Arc::clone(&self.last), report, now));
        progress
    }

    /// Refreshes by the schedule until `stop`. What was fetched before a restart counts: a daemon that
    /// comes back with a young cache leaves the provider alone.
    pub async fn keep_fresh(
        &self,
        mut schedule: watch::Receiver<Schedule>,
        stop: CancellationToken,
    ) {
        let oldest = self.service.cache.read(|cache| cache.fetch_span().map(|(oldest, _)| oldest));
        let Schedule { interval, jitter } = *schedule.borrow_and_update();
        let mut pause = match oldest {
            Some(oldest) => {
                interval.saturating_sub(oldest.age(clock::now().wall)) + part_of(jitter)
            }
            // Nothing is known: as soon as a fleet that starts together is spread.
            None => interval.min(FIRST_PULL + part_of(jitter)),
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // A new schedule counts from now.
                changed = schedule.changed() => if changed.is_err() { return },
                _ = tokio::time::timeout(pause, std::future::pending::<()>()) => {
                    let mut progress = self.start(clock::now());
                    let _ = progress.wait_for(|progress| progress.ended).await;
                }
            }
            let Schedule { interval, jitter } = *schedule.borrow_and_update();
            let failed = self.last().is_some_and(|last| !last.failed.is_empty());
            pause = part_of(jitter) + if failed { interval.min(AFTER_FAILURE) } else { interval };
        }
    }
}

/// A random part of `span`, which spreads a fleet.
fn part_of(span: Duration) -> Duration {
    let share = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    span.mul_f64(share)
}

async fn run(
    service: Arc<Service>,
    last: Arc<Mutex<Option<Summary>>>,
    report: watch::Sender<Progress>,
    started: Moment,
) {
    let pulls = plan(&service);
    let whole = |pull: &&Pull| matches!(pull.wanted, Wanted::All);
    let workloads: Vec<Extent> =
        pulls.iter().filter(whole).map(|pull| pull.extent.clone()).collect();
    report.send_modify(|progress| progress.sources = pulls.len());
    // An outage is met once a provider, not once a source.
    let mut out: HashMap<String, String> = HashMap::new();
    for pull in pulls {
        let source = pull.source.to_string();
        let result = match out.get(&pull.upstream.name) {
            Some(why) => Err(why.clone()),
            None => pull_one(&service, &pull, started).await.map_err(|error| {
                let why = error.to_string();
                if matches!(error, ProviderError::Unreachable(_) | ProviderError::Throttled { .. })
                {
                    out.insert(pull.upstream.name.clone(), why.clone());
                }
                why
            }),
        };
        report.send_modify(|progress| progress.done.push(SourceResult { source, result }));
    }
    let summary = summary(&report.borrow().done, started.lately().wall);
    let Counts { added, changed, unchanged, removed } = summary.counts;
    if summary.failed.is_empty() {
        drop_unwanted(&service, &workloads, summary.at);
        tracing::info!(added, changed, unchanged, removed, "refreshed: {}", summary.counts);
    } else {
        let failed = summary.failed.join("; ");
        tracing::warn!(
            added,
            changed,
            unchanged,
            removed,
            "refreshed in part: {}; failed: {failed}",
            summary.counts
        );
    }
    *lock(&last) = Some(summary);
    report.send_modify(|progress| progress.ended = true);
}

/// One request a folder: the workloads' sources, then the folders of what is registered besides.
fn plan(service: &Service) -> Vec<Pull> {
    let upstreams = service.upstreams();
    let mut pulls = Vec::new();
    let mut seen = BTreeSet::new();
    for workload in upstreams.workloads.values() {
        let Some(upstream) = upstreams.providers.get(&workload.provider) else { continue };
        for source in &workload.sources {
            if let Ok(extent) = upstream.provider.extent(source)
                && seen.insert((workload.provider.clone(), extent.clone()))
            {
                pulls.push(Pull {
                    upstream: Arc::clone(upstream),
                    source: source.clone(),
                    extent,
                    wanted: Wanted::All,
                });
            }
        }
    }
    let mut folders: BTreeMap<(String, Source), HashSet<Coordinates>> = BTreeMap::new();
    for (_, what) in service.registry.all() {
        let Registered::Reference(reference) = what else { continue };
        let (Some(project), Some(at)) =
            (reference.member("project"), service.coordinates(&reference))
        else {
            continue;
        };
        if pulls.iter().any(|pull| pull.extent.contains(&at)) {
            continue;
        }
        let source =
            Source { project: project.to_owned(), path: at.path.clone(), recursive: false };
        folders.entry((reference.provider().to_owned(), source)).or_default().insert(at);
    }
    for ((provider, source), wanted) in folders {
        if let Some(upstream) = upstreams.providers.get(&provider)
            && let Ok(extent) = upstream.provider.extent(&source)
        {
            pulls.push(Pull {
                upstream: Arc::clone(upstream),
                source,
                extent,
                wanted: Wanted::Only(wanted),
            });
        }
    }
    pulls
}

async fn pull_one(
    service: &Service,
    pull: &Pull,
    started: Moment,
) -> Result<Counts, ProviderError> {
    let ticket = service.cache.read(Cache::ticket);
    let began = started.lately();
    let folders =
        if pull.extent.recursive { folders_below(service, &pull.extent) } else { BTreeSet::new() };
    pull.upstream.health().breaker.begin_anyway(began);
    let listed = pull.upstream.provider.list(&pull.source, &folders).await;
    let now = began.lately();
    pull.upstream.note(&listed, began, now);
    let error = match listed {
        Ok(mut listing) => {
            if let Wanted::Only(wanted) = &pull.wanted {
                listing.found.retain(|(at, _)| wanted.contains(at));
            }
            let hidden = listing.denied.len();
            let counts =
                service.cache.change(|cache| cache.replace(listing, ticket, began.wall, now.wall));
            return match hidden {
                0 => Ok(counts),
                many => Err(ProviderError::Denied(format!(
                    "{many} values are hidden: the identity may describe but not read them; the others are \
                     refreshed ({counts})"
                ))),
            };
        }
        Err(error) => error,
    };
    if let Some(refusal) = service::refusal(&error) {
        let doubt = |cache: &mut Cache| {
            let inside = cache.within(std::slice::from_ref(&pull.extent));
            cache.doubt_all(&inside, &refusal, now.wall)
        };
        let evicted = service.cache.change_if(doubt, |evicted| *evicted > 0);
        if evicted > 0 {
            tracing::warn!("dropped {evicted} secrets of {} from the cache: {error}", pull.source);
        }
    }
    Err(error)
}

/// The folders of an extent of which something is registered.
fn folders_below(service: &Service, extent: &Extent) -> BTreeSet<String> {
    registered(service).into_iter().filter(|at| extent.contains(at)).map(|at| at.path).collect()
}

/// Where the registered references lead.
fn registered(service: &Service) -> HashSet<Coordinates> {
    let all = service.registry.all().into_iter();
    let references = all.filter_map(|(_, what)| match what {
        Registered::Reference(reference) => service.coordinates(&reference),
        _ => None,
    });
    references.collect()
}

/// Drops what neither a workload nor a registered reference names any more, and nobody asked for in a
/// week: psid need not hold it. Of a project that the config has not, nothing is dropped: that may be a
/// mistake.
fn drop_unwanted(service: &Service, workloads: &[Extent], now: Timestamp) {
    let registered = registered(service);
    let upstreams = service.upstreams();
    let knows = |at: &Coordinates| {
        upstreams.providers.values().any(|upstream| upstream.provider.knows(&at.realm))
    };
    let wanted = |at: &Coordinates, fetched_at: Timestamp| {
        fetched_at.age(now) < UNWANTED_STAYS
            || registered.contains(at)
            || workloads.iter().any(|extent| extent.contains(at))
            || !knows(at)
    };
    service.cache.change_if(|cache| cache.retain(wanted), |dropped| *dropped);
}

fn summary(done: &[SourceResult], at: Timestamp) -> Summary {
    let mut summary = Summary { at, counts: Counts::default(), failed: Vec::new() };
    for SourceResult { source, result } in done {
        match result {
            Ok(counts) => {
                summary.counts.added += counts.added;
                summary.counts.changed += counts.changed;
                summary.counts.unchanged += counts.unchanged;
                summary.counts.removed += counts.removed;
            }
            Err(why) => summary.failed.push(format!("{source}: {why}")),
        }
    }
    summary
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
