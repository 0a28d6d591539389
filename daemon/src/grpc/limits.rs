//! What one user may use of psid at the users' socket, so that no user uses up what root's lookups need. Root and psid's
//! own user have no such limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use psi_common::MAX_SECRET_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;

use super::rate::{Bucket, Pace, Rate};

/// Concurrent connections of one user.
const MAX_CONNECTIONS: usize = 16;
/// Concurrent connections of all users.
const MAX_ALL_CONNECTIONS: usize = 256;
/// Calls of one user that are not answered completely.
const MAX_CALLS: usize = 32;
/// Received bytes of one user's requests that are not complete.
const MAX_UNFINISHED: usize = 4 * MAX_SECRET_BYTES;
/// The cost of the calls of one user in a second, and of those that may come at once. A lookup costs one: a container
/// with 100 secrets makes 100 calls when it starts, one after the other.
const CALLS: Rate = Rate { each_second: 500.0, burst: 1_000.0 };
/// Refreshes of one user, which ask the provider.
const REFRESHES: Rate = Rate { each_second: 0.1, burst: 10.0 };
/// How long a call may wait for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long a connection may stay without a call.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(10);

/// The limits of all users.
pub(super) struct Limits {
    users: Mutex<HashMap<u32, Arc<UserLimits>>>,
    connections: Arc<Semaphore>,
    bytes: Arc<Mutex<Bucket>>,
    strangers: Arc<Pace>,
}

/// The limits of one user, and what the user uses now.
pub(super) struct UserLimits {
    connections: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    unfinished: AtomicUsize,
    pace: Arc<Pace>,
    connects: Mutex<Bucket>,
    rate: Mutex<Bucket>,
    refreshes: Mutex<Bucket>,
}

/// One connection of a user.
pub(super) struct UserConnection {
    pub(super) limits: Arc<UserLimits>,
    activity: Mutex<Activity>,
    _places: [OwnedSemaphorePermit; 2],
}

/// The calls of a connection.
struct Activity {
    calls: usize,
    /// Since when there is none.
    idle_since: Instant,
}

/// A call of a user, until its answer is complete.
pub(super) struct UserCall {
    connection: Arc<UserConnection>,
    place: CallsPlace,
}

/// The place of a call among the user's, until its answer was sent.
pub(super) type CallsPlace = Arc<OwnedSemaphorePermit>;

/// Received bytes of a request, until it is complete.
pub(super) struct Unfinished {
    limits: Arc<UserLimits>,
    bytes: usize,
}

impl Limits {
    pub(super) fn new() -> Self {
        let bytes = Pace::of_all();
        let strangers = Arc::new(Pace::new(&bytes));
        let connections = Arc::new(Semaphore::new(MAX_ALL_CONNECTIONS));
        Self { users: Mutex::default(), connections, bytes, strangers }
    }

    /// A new connection of a user; none beyond the limits.
    pub(super) fn connect(&self, uid: u32) -> Option<Arc<UserConnection>> {
        let mut users = self.users.lock();
        let limits = users.entry(uid).or_insert_with(|| Arc::new(UserLimits::new(&self.bytes)));
        let limits = Arc::clone(limits);
        drop(users);
        limits.connects.lock().take(1.0, Duration::ZERO, Instant::now())?;
        let place = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        let places = [place(&limits.connections)?, place(&self.connections)?];
        let activity = Mutex::new(Activity { calls: 0, idle_since: Instant::now() });
        Some(Arc::new(UserConnection { limits, activity, _places: places }))
    }

    /// The pace of callers that no workload names.
    pub(super) fn pace_of_strangers(&self) -> Arc<Pace> {
        Arc::clone(&self.strangers)
    }
}

impl UserLimits {
    fn new(bytes: &Arc<Mutex<Bucket>>) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            unfinished: AtomicUsize::new(0),
            pace: Arc::new(Pace::new(bytes)),
            connects: Mutex::new(Bucket::full(CALLS)),
            rate: Mutex::new(Bucket::full(CALLS)),
            refreshes: Mutex::new(Bucket::full(REFRESHES)),
        }
    }

    /// Waits until the user may make a call of this cost.
    pub(super) async fn wait_turn(&self, cost: u32) -> Result<(), Status> {
        let wait = self.rate.lock().take(f64::from(cost), MAX_WAIT, Instant::now());
        match wait {
            Some(wait) if wait.is_zero() => Ok(()),
            Some(wait) => {
                // Counted already, so that it is the next one's turn after this one's.
                let _ = tokio::time::timeout(wait, std::future::pending::<()>()).await;
                Ok(())
            }
            None => Err(exhausted("makes more calls than one user may", "try again in a moment")),
        }
    }

    /// Refuses a refresh that follows others too soon.
    pub(super) fn check_refresh(&self) -> Result<(), Status> {
        match self.refreshes.lock().take(1.0, Duration::ZERO, Instant::now()) {
            Some(_) => Ok(()),
            None => Err(exhausted(
                "refreshed its workloads a moment ago",
                "try again in 10 s: psid refreshes them by itself",
            )),
        }
    }
}

impl UserConnection {
    /// How fast its bytes are read.
    pub(super) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.limits.pace)
    }

    /// Begins a call.
    pub(super) fn begin(self: &Arc<Self>) -> Result<UserCall, Status> {
        let Ok(place) = Arc::clone(&self.limits.calls).try_acquire_owned() else {
            return Err(exhausted("has too many calls at once", "wait for their answers"));
        };
        self.activity.lock().calls += 1;
        Ok(UserCall { connection: Arc::clone(self), place: Arc::new(place) })
    }

    /// When the connection is closed, unless a call begins.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        let activity = self.activity.lock();
        (activity.calls == 0).then(|| activity.idle_since + MAX_IDLE)
    }
}

impl UserCall {
    /// Its place, which what is left of the answer holds too.
    pub(super) fn place(&self) -> CallsPlace {
        Arc::clone(&self.place)
    }
}

impl Drop for UserCall {
    fn drop(&mut self) {
        let mut activity = self.connection.activity.lock();
        activity.calls -= 1;
        activity.idle_since = Instant::now();
    }
}

impl Unfinished {
    /// A request of which nothing has arrived.
    pub(super) fn new(limits: &Arc<UserLimits>) -> Self {
        Self { limits: Arc::clone(limits), bytes: 0 }
    }

    /// Counts received bytes.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), Status> {
        let before = self.limits.unfinished.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.limits.pace.take_back(bytes);
        match before + bytes > MAX_UNFINISHED {
            true => Err(exhausted("sends too much at once", "try again in a moment")),
            false => Ok(()),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.limits.unfinished.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn exhausted(what: &str, remedy: &str) -> Status {
    Status::resource_exhausted(format!("the user {what}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_rate_wait_for_their_turn_and_then_are_refused() {
        let limits = UserLimits::new(&Pace::of_all());
        let start = Instant::now();
        for _ in 0..1_000 {
            limits.wait_turn(1).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        limits.wait_turn(500).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        let wait = limits.rate.lock().take(2_500.0, MAX_WAIT, Instant::now());
        assert_eq!(wait, Some(MAX_WAIT));
        assert!(limits.wait_turn(1).await.is_err());
        tokio::time::advance(MAX_WAIT).await;
        limits.wait_turn(1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn refreshes_of_one_user_are_few() {
        let limits = UserLimits::new(&Pace::of_all());
        let granted = || (0..20).filter(|_| limits.check_refresh().is_ok()).count();
        assert_eq!(granted(), 10);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(granted(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_calls_and_bytes_are_counted_for_each_user() {
        let limits = Limits::new();
        let held: Vec<_> = (0..MAX_CONNECTIONS).map(|_| limits.connect(1).unwrap()).collect();
        assert!(limits.connect(1).is_none());
        let other = limits.connect(2).unwrap();
        let calls: Vec<_> = (0..MAX_CALLS).map(|_| held[0].begin().unwrap()).collect();
        assert!(held[1].begin().is_err());
        assert!(other.begin().is_ok());
        assert_eq!(held[0].idle_until(), None);
        assert_eq!(held[1].idle_until(), Some(Instant::now() + MAX_IDLE));
        drop(calls);
        assert!(held[1].begin().is_ok());
        let mut request = Unfinished::new(&held[0].limits);
        request.add(MAX_UNFINISHED).unwrap();
        assert!(Unfinished::new(&held[1].limits).add(1).is_err());
        Unfinished::new(&other.limits).add(1).unwrap();
        drop(request);
        Unfinished::new(&held[1].limits).add(1).unwrap();
        drop(held);
        assert!(limits.connect(1).is_some());
    }

    #[test]
    fn all_users_share_a_limit_of_connections() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let limits = Limits::new();
        let users = MAX_ALL_CONNECTIONS / MAX_CONNECTIONS;
        let users = u32::try_from(users).unwrap();
        let held: Vec<_> = (0..users)
            .flat_map(|uid| (0..MAX_CONNECTIONS).map(move |_| uid))
            .map(|uid| limits.connect(uid).unwrap())
            .collect();
        assert!(limits.connect(users).is_none());
        drop(held);
        assert!(limits.connect(users).is_some());
    }
}
