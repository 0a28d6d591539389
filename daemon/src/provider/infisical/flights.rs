//! Shared requests for a directory: when a host boots, many secrets of one directory are looked up at the same
//! time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::directory::Contents;
use super::{Infisical, Project};
use crate::cache::FetchEpoch;
use crate::model::reference::{ListingScope, Namespace};
use crate::provider::ProviderError;

type SharedRequest = OnceCell<Result<Arc<Contents>, ProviderError>>;
/// The token source, the directory and the epoch of a request.
type Key = (usize, ListingScope, FetchEpoch);

/// The requests in flight, and the namespaces whose listings are rate-limited.
#[derive(Default)]
pub(super) struct Flights {
    requests: Mutex<HashMap<Key, Arc<SharedRequest>>>,
    limited: Mutex<HashMap<Namespace, Instant>>,
}

/// Removes a request when it ends or is cancelled.
struct FlightGuard<'a> {
    flights: &'a Flights,
    key: Key,
    request: Arc<SharedRequest>,
}

impl Infisical {
    /// Reads a directory, or joins a request for it; true for the caller that made the request.
    pub(super) async fn read_shared(
        &self,
        project: &Project,
        scope: &ListingScope,
        epoch: FetchEpoch,
    ) -> (Result<Arc<Contents>, ProviderError>, bool) {
        let key = (Arc::as_ptr(&project.tokens).addr(), scope.clone(), epoch);
        let request = Arc::clone(self.flights.requests.lock().entry(key.clone()).or_default());
        let mut guard = None;
        let contents = request
            .get_or_init(|| {
                let (flights, request) = (&self.flights, Arc::clone(&request));
                guard = Some(FlightGuard { flights, key, request });
                async { self.read(project, scope).await.map(Arc::new) }
            })
            .await;
        (contents.clone(), guard.is_some())
    }

    /// Records that listings of a namespace are rate-limited.
    pub(super) fn note_rate_limit<T>(
        &self,
        namespace: &Namespace,
        listed: &Result<T, ProviderError>,
    ) {
        if let Err(ProviderError::Throttled { wait, .. }) = listed {
            let mut limited = self.flights.limited.lock();
            limited.retain(|_, until| *until > Instant::now());
            limited.insert(namespace.clone(), Instant::now() + *wait);
        }
    }

    /// Whether listings of a namespace are rate-limited now.
    pub(super) fn is_rate_limited(&self, namespace: &Namespace) -> bool {
        self.flights.limited.lock().get(namespace).is_some_and(|until| *until > Instant::now())
    }
}

impl Drop for FlightGuard<'_> {
    fn drop(&mut self) {
        let mut requests = self.flights.requests.lock();
        if requests.get(&self.key).is_some_and(|request| Arc::ptr_eq(request, &self.request)) {
            requests.remove(&self.key);
        }
    }
}
