//! Tests of the service over a scripted provider. Time is the test's.

mod lookups;
mod outages;
mod refreshes;
mod schedule;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::cache::{BootId, Cache, Policy, ReconcileOptions, RemovalReason};
use crate::model::clock::{BootInstant, Timestamp};
use crate::model::reach::Reach;
use crate::model::reference::{Listing, ListingScope, Namespace};
use crate::provider::upstream::{Upstream, Workload, WorkloadSource};
use crate::provider::{Fetched, InvalidReference, Listed, Persistence, SecretProvider, Source};
use crate::refresh::{Progress, RefreshInterval, RefreshScope, Refresher};
use crate::registry::{Keys, Registration};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A scripted provider. A closed gate delays its responses.
#[derive(Default)]
struct Scripted {
    values: Mutex<HashMap<String, String>>,
    error: Mutex<Option<ProviderError>>,
    /// The error of the listing of one directory.
    error_of: Mutex<HashMap<String, ProviderError>>,
    /// The directory whose listing panics.
    panics_over: Mutex<Option<String>>,
    gate: Mutex<Option<Arc<Notify>>>,
    fetches: AtomicU32,
    lists: AtomicU32,
}

impl Scripted {
    async fn answer(&self) -> Result<(), ProviderError> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        self.error.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn set(&self, key: &str, value: &str) {
        self.values.lock().unwrap().insert(key.into(), value.into());
    }

    fn remove(&self, key: &str) {
        self.values.lock().unwrap().remove(key);
    }

    fn fail(&self, error: impl Into<Option<ProviderError>>) {
        *self.error.lock().unwrap() = error.into();
    }

    fn close_gate(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    fn open_gate(&self) {
        *self.gate.lock().unwrap() = None;
    }

    fn fetches(&self) -> u32 {
        self.fetches.load(Ordering::SeqCst)
    }

    fn lists(&self) -> u32 {
        self.lists.load(Ordering::SeqCst)
    }

    fn calls(&self) -> u32 {
        self.fetches() + self.lists()
    }
}

fn cache_key(key: &str) -> CacheKey {
    CacheKey::new(Namespace::new(&["fake"]), "/app", key)
}

#[async_trait]
impl SecretProvider for Arc<Scripted> {
    fn accept(&self, reference: &Reference) -> Result<CacheKey, InvalidReference> {
        Ok(cache_key(reference.member("key").ok_or(InvalidReference::Missing("key"))?))
    }

    async fn fetch(&self, reference: &Reference, _: FetchEpoch) -> Result<Fetched, ProviderError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let key = reference.member("key").unwrap();
        // The response has the value of the time of the request, and may arrive late.
        let value = self.values.lock().unwrap().get(key).cloned();
        self.answer().await?;
        let value = value.ok_or_else(|| ProviderError::NotFound("no such key".into()))?;
        Ok(SecretBytes::new(value.into_bytes()).into())
    }

    fn scope_of(&self, source: &Source) -> Result<ListingScope, InvalidReference> {
        Ok(ListingScope {
            namespace: Namespace::new(&["fake"]),
            path: source.path.clone(),
            recursive: false,
        })
    }

    async fn list(&self, source: &Source, _: &BTreeSet<String>) -> Result<Listed, ProviderError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let panics = self.panics_over.lock().unwrap().as_ref() == Some(&source.path);
        assert!(!panics, "injected");
        self.answer().await?;
        if let Some(error) = self.error_of.lock().unwrap().get(&source.path) {
            return Err(error.clone());
        }
        let values: BTreeMap<_, _> = self.values.lock().unwrap().clone().into_iter().collect();
        let found = values.into_iter().filter(|_| source.path == "/app");
        let found =
            found.map(|(key, value)| (cache_key(&key), SecretBytes::new(value.into_bytes())));
        Ok(Listing {
            scopes: vec![self.scope_of(source).unwrap()],
            found: found.collect(),
            ..Listing::default()
        }
        .into())
    }

    fn has_namespace(&self, namespace: &Namespace) -> bool {
        *namespace == Namespace::new(&["fake"])
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persisted
    }

    fn writer(&self) -> Option<&dyn crate::provider::SecretWriter> {
        None
    }
}

struct Fixture {
    service: Arc<Service>,
    refresher: Arc<Refresher>,
    provider: Arc<Scripted>,
    start: Now,
    _state: Option<TempDir>,
}

const POLICY: Policy = Policy {
    enabled: true,
    fresh_for: HOUR,
    max_stale: Some(Duration::from_secs(86_400)),
    evict_revoked: true,
};

const SCHEDULE: RefreshInterval = RefreshInterval { interval: HOUR, max_jitter: Duration::ZERO };

impl Fixture {
    fn new() -> Self {
        Self::with_directories(&["/app"])
    }

    /// A workload with these directories; the secrets are in `/app`.
    fn with_directories(directories: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry::open(state.path(), Keys::None));
        Self { _state: Some(state), ..Self::made(directories, registry) }
    }

    fn with_registry(registry: Arc<Registry>) -> Self {
        Self::made(&["/app"], registry)
    }

    fn made(directories: &[&str], registry: Arc<Registry>) -> Self {
        let provider = Arc::new(Scripted::default());
        provider.set("K", "one");
        let source =
            |path: &&str| Source { project: "p".into(), path: (*path).into(), recursive: false };
        let workload = Workload {
            provider: "fake".into(),
            sources: directories.iter().map(source).map(WorkloadSource::from).collect(),
            ..Workload::default()
        };
        let upstreams = Upstreams {
            providers: BTreeMap::from([(
                "fake".into(),
                Arc::new(Upstream::new("fake", Box::new(Arc::clone(&provider)))),
            )]),
            workloads: BTreeMap::from([("app".into(), workload)]),
        };
        let service = Arc::new(Service::new(
            registry,
            Arc::new(Cache::new(POLICY, BootId(NonZeroU64::MIN))),
            upstreams,
        ));
        let start = Now {
            wall: Timestamp::from_millis(1_000_000_000),
            boot: BootInstant::at(HOUR),
            mono: Instant::now(),
        };
        let refresher = Arc::new(Refresher::new(Arc::clone(&service), SCHEDULE));
        Self { service, refresher, provider, start, _state: None }
    }

    /// The time `span` after the start; the monotonic clock is tokio's.
    fn at(&self, span: Duration) -> Now {
        Now {
            wall: self.start.wall.after(span),
            boot: self.start.boot.after(span),
            mono: Instant::now(),
        }
    }

    /// A lookup `span` after the start.
    async fn lookup(&self, span: Duration) -> Result<String, ServiceError> {
        self.lookup_of("K", span).await
    }

    async fn lookup_of(&self, key: &str, span: Duration) -> Result<String, ServiceError> {
        let now = self.at(span);
        let wanted = SecretSelector::Name(format!("app--{key}"));
        let value =
            self.service.lookup(&wanted, Principal::Admin, now, now.mono + 9 * SECOND).await?;
        Ok(String::from_utf8(value.secret().expose_secret().to_vec()).unwrap())
    }

    async fn refresh(&self, scope: RefreshScope, span: Duration) -> Progress {
        let mut progress = self.refresher.start(scope, self.at(span));
        progress.wait_for(|progress| progress.ended).await.unwrap().clone()
    }

    fn outage_is_confirmed(&self) -> Option<bool> {
        let upstreams = self.service.upstreams();
        let health = upstreams.providers["fake"].health();
        health.breaker.outage().map(crate::provider::circuit_breaker::Outage::is_confirmed)
    }

    async fn register(&self, id: &str, reference: &str) -> SecretId {
        let id: SecretId = id.parse().unwrap();
        let data = SecretBytes::new(reference.as_bytes().to_vec());
        self.service.store(id, data, DataKind::Auto, Principal::Admin).await.unwrap();
        id
    }
}

fn out() -> ProviderError {
    ProviderError::Unreachable("connection refused".into())
}
