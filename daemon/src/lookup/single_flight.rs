//! Concurrent callers with the same key share one fetch.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// The running fetches by key.
pub(crate) struct SingleFlight<K, T> {
    flights: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
}

/// Removes a flight when it ends, however it ends.
struct FlightGuard<K: Eq + Hash, T> {
    flights: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
    key: K,
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self { flights: Arc::default() }
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Waits for the flight of `key`, and starts it with `fetch` if there is none. A flight is a task of its own, which
    /// ends although all waiters are gone. `None`: it panicked.
    pub(crate) async fn join<F>(&self, key: K, fetch: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flight = {
            let mut flights = self.flights.lock();
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let (result_sender, flight) = watch::channel(None);
                    flights.insert(key.clone(), flight.clone());
                    let guard = FlightGuard { flights: Arc::clone(&self.flights), key };
                    let fetch = fetch();
                    tokio::spawn(async move {
                        let result = fetch.await;
                        drop(guard);
                        result_sender.send_replace(Some(result));
                    });
                    flight
                }
            }
        };
        flight.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<K: Eq + Hash, T> Drop for FlightGuard<K, T> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn waiters_share_one_fetch() {
        let flights = Arc::new(SingleFlight::<&str, u32>::default());
        let (fetches, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::default()));
        let waiters: Vec<_> = (0..32)
            .map(|_| {
                let (flights, fetches, gate) = (flights.clone(), fetches.clone(), gate.clone());
                tokio::spawn(async move {
                    let fetch = || async move {
                        gate.notified().await;
                        fetches.fetch_add(1, Ordering::SeqCst) + 1
                    };
                    flights.join("key", fetch).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.notify_one();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), Some(1));
        }
        assert!(flights.flights.lock().is_empty());
    }

    #[tokio::test]
    async fn flight_ends_although_its_caller_went_away() {
        let flights = SingleFlight::<&str, u32>::default();
        let (gate, landed) = (Arc::new(Notify::default()), Arc::new(Notify::default()));
        let (open, done) = (gate.clone(), landed.clone());
        let flight = flights.join("key", || async move {
            open.notified().await;
            done.notify_one();
            1
        });
        tokio::select! { biased; _ = flight => panic!("landed early"), () = tokio::task::yield_now() => {} }
        gate.notify_one();
        landed.notified().await;
    }

    #[tokio::test]
    async fn panic_of_a_flight_ends_the_wait() {
        let flights = SingleFlight::<&str, u32>::default();
        assert_eq!(flights.join("key", || async { panic!("crash") }).await, None);
        assert_eq!(flights.join("key", || async { 2 }).await, Some(2));
    }
}
