//! Readings of a directory that lookups share: many secrets of one directory are asked for at once when a
//! host starts.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::directory::Contents;
use super::{Infisical, Project};
use crate::cache::FetchEpoch;
use crate::model::reference::{ListingScope, Namespace};
use crate::provider::ProviderError;

type Reading = OnceCell<Result<Arc<Contents>, ProviderError>>;
/// Whose token asks, for which directory, in which epoch.
type Key = (usize, ListingScope, FetchEpoch);

/// The readings that are under way, and where the provider takes no listing for a while.
#[derive(Default)]
pub(super) struct Flights {
    readings: Mutex<HashMap<Key, Arc<Reading>>>,
    paused: Mutex<HashMap<Namespace, Instant>>,
}

/// Removes a reading when whoever made it has it, or has gone.
struct FlightGuard<'a> {
    flights: &'a Flights,
    key: Key,
    reading: Arc<Reading>,
}

impl Infisical {
    /// Reads a directory, or joins who reads it already. The caller that made the request is told so.
    pub(super) async fn read_shared(
        &self,
        project: &Project,
        extent: &ListingScope,
        epoch: FetchEpoch,
    ) -> (Result<Arc<Contents>, ProviderError>, bool) {
        let key = (Arc::as_ptr(&project.tokens).addr(), extent.clone(), epoch);
        let reading = Arc::clone(self.flights.readings().entry(key.clone()).or_default());
        let mut landing = None;
        let contents = reading
            .get_or_init(|| {
                let (flights, reading) = (&self.flights, Arc::clone(&reading));
                landing = Some(FlightGuard { flights, key, reading });
                async { self.read(project, extent).await.map(Arc::new) }
            })
            .await;
        (contents.clone(), landing.is_some())
    }

    /// Takes note that the provider takes no listing of a realm for a while.
    pub(super) fn note_pause<T>(&self, realm: &Namespace, listed: &Result<T, ProviderError>) {
        if let Err(ProviderError::Throttled { wait, .. }) = listed {
            let mut paused = self.flights.paused();
            paused.retain(|_, until| *until > Instant::now());
            paused.insert(realm.clone(), Instant::now() + *wait);
        }
    }

    /// Whether the provider takes no listing of a realm now.
    pub(super) fn is_paused(&self, realm: &Namespace) -> bool {
        self.flights.paused().get(realm).is_some_and(|until| *until > Instant::now())
    }
}

impl Flights {
    fn readings(&self) -> MutexGuard<'_, HashMap<Key, Arc<Reading>>> {
        self.readings.lock()
    }

    fn paused(&self) -> MutexGuard<'_, HashMap<Namespace, Instant>> {
        self.paused.lock()
    }
}

impl Drop for FlightGuard<'_> {
    fn drop(&mut self) {
        let mut readings = self.flights.readings();
        if readings.get(&self.key).is_some_and(|reading| Arc::ptr_eq(reading, &self.reading)) {
            readings.remove(&self.key);
        }
    }
}
