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
use crate::service::Service;
use crate::upstream::Upstream;

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
}

impl Refresher {
    /// Refreshes by the schedule until `stop`. What was fetched before a restart counts: a daemon that
    /// comes back with a young cache leaves the provider alone.
    pub async fn keep_fresh(
        &self,
        mut schedule: watch::Receiver<Schedule>,
        stop: CancellationToken,
    ) {
        let mut age = self.service.cache.read(|cache| {
            cache.fetch_span().map_or(Duration::ZERO, |(oldest, _)| oldest.age(clock::now().wall))
        });
        loop {
            let Schedule { interval, jitter } = *schedule.borrow_and_update();
            let pause = interval.saturating_sub(age) + part_of(jitter);
            tokio::select! {
                () = stop.cancelled() => return,
                // A new schedule counts from now.
                changed = schedule.changed() => if changed.is_err() { return },
                _ = tokio::time::timeout(pause, std::future::pending::<()>()) => {
                    let mut progress = self.start(clock::now());
                    let _ = progress.wait_for(|progress| progress.ended).await;
                }
            }
            age = Duration::ZERO;
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
    pull.upstream.breaker().begin(began);
    let listed = pull.upstream.provider.list(&pull.source).await;
    let now = began.lately();
    pull.upstream.note(&listed, now);
    match listed {
        Ok(mut found) => {
            if let Wanted::Only(wanted) = &pull.wanted {
                found.retain(|(at, _)| wanted.contains(at));
            }
            Ok(service.cache.change(|cache| cache.replace(&pull.extent, found, ticket, now.wall)))
        }
        Err(error) => {
            let says_no = matches!(error, ProviderError::NotFound(_) | ProviderError::Denied(_));
            if says_no
                && service.cache.change_in_ram(|cache| cache.doubt_all(&pull.extent, now.wall))
            {
                service.cache.change(|_| ());
                tracing::warn!("dropped secrets of {} from the cache: {error}", pull.source);
            }
            Err(error)
        }
    }
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
