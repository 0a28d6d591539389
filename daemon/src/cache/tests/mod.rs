//! Tests of the cache. Time is an argument.

mod ages;
mod freshness;
mod listings;
mod many;
mod refusals;

use std::num::NonZeroU64;

use psi_common::SecretBytes;
use tokio::time::Instant;

use super::invalidation::MAX_INVALIDATED;

use super::*;
use crate::model::reference::{Listing, Namespace};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

const POLICY: Policy = Policy {
    enabled: true,
    fresh_for: HOUR,
    max_stale: Some(Duration::from_secs(86_400)),
    evict_revoked: true,
};

fn boot(number: u64) -> BootId {
    BootId(NonZeroU64::new(number).unwrap())
}

fn cache() -> Cache {
    Cache::new(POLICY, boot(1))
}

fn at(key: &str) -> CacheKey {
    CacheKey::new(Namespace::new(&["p"]), "/app", key)
}

fn scope() -> ListingScope {
    ListingScope { namespace: Namespace::new(&["p"]), path: "/app".into(), recursive: false }
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

/// The time `span` after the start, on the boot clock.
fn time(span: Duration) -> BootInstant {
    BootInstant::at(HOUR + span)
}

/// The time `span` after the start, on all clocks.
fn moment(span: Duration) -> Now {
    let wall = Timestamp::from_millis(1_000_000_000_000).after(span);
    Now { wall, boot: time(span), mono: Instant::now() }
}

fn put(cache: &Cache, key: &str, value: &str, after: Duration) {
    let (epoch, now) = (cache.begin_fetch(), moment(after));
    cache.put(&at(key), Entry::new(secret(value), now.wall), now, epoch);
}

/// Reconciles a listing that was requested and arrived at the same time.
fn take(cache: &Cache, listing: Listing, after: Duration) -> Counts {
    let (epoch, now) = (cache.begin_fetch(), moment(after));
    let taking = ReconcileOptions { epoch, began: now, now, accept: false, wanted: &|_| true };
    cache.reconcile(listing, &taking)
}

fn is_fresh(cache: &Cache, key: &str, after: Duration, value: &str) -> bool {
    matches!(cache.get(&at(key), time(after)), CacheLookup::Fresh(entry) if entry.value().same_as(&secret(value)))
}

fn gone() -> NegativeReason {
    NegativeReason::NotFound("it says so".into())
}

fn listed(found: &[(&str, &str)]) -> Listing {
    let found = found.iter().map(|(key, value)| (at(key), secret(value))).collect();
    Listing { scopes: vec![scope()], found, ..Listing::default() }
}
