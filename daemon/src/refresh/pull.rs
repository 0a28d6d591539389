//! The pull of one source: its listing is requested and reconciled.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::targets::PullTarget;
use crate::cache::{Counts, EvictionDecision, NegativeReason, ReconcileOptions, RemovalReason};
use crate::lookup::{self, Service};
use crate::model::clock::Now;
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::{CallError, Route};
use crate::provider::{Listed, ProviderError};

/// How many secrets a log line names.
const NAMED: usize = 10;
/// How many faults of one source a message names.
const MAX_FAULTS: usize = 3;

/// The limit of all values of one refresh, which psid holds in RAM.
const MAX_REFRESH_BYTES: usize = 256 << 20;

/// The options of a pull.
#[derive(Clone, Copy)]
pub(super) struct PullOptions<'a> {
    pub(super) caller: Caller,
    /// Whether an admin accepts all removals.
    pub(super) accept: bool,
    /// The bytes that are left for values.
    pub(super) budget: &'a ByteBudget,
}

/// The bytes that are left for the values of one refresh.
pub(super) struct ByteBudget(AtomicUsize);

impl ByteBudget {
    pub(super) fn for_refresh() -> Self {
        Self(AtomicUsize::new(MAX_REFRESH_BYTES))
    }

    /// Takes what a listing needs, all of it or nothing.
    fn take(
        &self,
        listed: &Listed,
        wanted: impl Fn(&CacheKey) -> bool,
    ) -> Result<(), ProviderError> {
        let found = listed.listing.found.iter().filter(|(key, _)| wanted(key));
        let bytes: usize = found.map(|(_, value)| value.len()).sum();
        let left = self.0.load(Ordering::Relaxed);
        match left.checked_sub(bytes) {
            Some(rest) => {
                self.0.store(rest, Ordering::Relaxed);
                Ok(())
            }
            None => Err(ProviderError::Misbehaved(format!(
                "its values have {bytes} bytes, and a refresh takes {} MiB altogether; name fewer or narrower \
                 sources",
                MAX_REFRESH_BYTES >> 20
            ))),
        }
    }
}

/// Pulls one source; secrets that its listing lacks are removed.
pub(super) async fn pull(
    service: &Service,
    pull: &PullTarget,
    options: PullOptions<'_>,
    began: Now,
) -> Result<Counts, CallError> {
    let upstream = &pull.upstream;
    if let Some(why) = service.simulated_outage(upstream.provider.persistence(), began.mono) {
        return Err(CallError::NotAsked(ProviderError::Unreachable(why)));
    }
    let epoch = service.cache().begin_fetch();
    let directories = pull.directories(service);
    let call = upstream.call_for_directory(pull.scope(), Route::List, options.caller);
    let list = upstream.provider.list(&pull.source, &directories);
    // An incomplete listing counts as a failure.
    let incomplete = |listed: &Listed| listed.incomplete.clone();
    let listed = upstream.call_in_part(&call, began, list, incomplete).await;
    let now = began.advanced();
    let wanted = |key: &CacheKey| pull.wanted.as_ref().is_none_or(|wanted| wanted.contains(key));
    let taking = ReconcileOptions { epoch, began, now, accept: options.accept, wanted: &wanted };
    match listed {
        Ok(listed) => {
            let taken = options.budget.take(&listed, wanted);
            taken
                .and_then(|()| take_over(service, pull, listed, &taking))
                .map_err(CallError::Answered)
        }
        Err(error) => {
            if let CallError::Answered(error) = &error {
                note_refusal(service, pull, pull.scope(), error, now);
            }
            Err(error)
        }
    }
}

fn take_over(
    service: &Service,
    pull: &PullTarget,
    listed: Listed,
    taking: &ReconcileOptions<'_>,
) -> Result<Counts, ProviderError> {
    let Listed { listing, refused, incomplete, .. } = listed;
    let wanted = |(key, _): &&(CacheKey, String)| (taking.wanted)(key);
    let denied: Vec<_> = listing.denied.iter().filter(wanted).cloned().collect();
    let unread: Vec<_> = listing.unread.iter().filter(wanted).cloned().collect();
    let counts = service.cache().reconcile(listing, taking);
    if counts.withheld > 0 {
        log_withheld(service, pull, taking.now);
    }
    for (scope, error) in &refused {
        note_refusal(service, pull, scope, error, taking.now);
    }
    let directories = refused.iter().map(|(scope, error)| format!("{}: {error}", scope.path));
    let fault = |(key, why): &(CacheKey, String)| format!("{key}: {why}");
    let faults: Vec<String> = directories.chain(denied.iter().map(fault)).collect();
    if let Some(error) = incomplete {
        // The next listing does not read these again, so this is the only report of them.
        let faults =
            if faults.is_empty() { String::new() } else { format!("; {}", named(&faults)) };
        return Err(error.map_message(|why| {
            format!("{why}; the rest of it is listed later ({counts} so far){faults}")
        }));
    }
    let faults: Vec<String> = faults.into_iter().chain(unread.iter().map(fault)).collect();
    if faults.is_empty() {
        return Ok(counts);
    }
    let why = format!("{}; the others are refreshed ({counts})", named(&faults));
    let is_refusal = refused.len() + denied.len() > 0;
    Err(if is_refusal { ProviderError::Denied(why) } else { ProviderError::Misbehaved(why) })
}

/// The first faults, and the number of the others.
fn named(faults: &[String]) -> String {
    let first = faults.iter().take(MAX_FAULTS).map(String::as_str).collect::<Vec<_>>().join("; ");
    match faults.len().saturating_sub(MAX_FAULTS) {
        0 => first,
        more => format!("{first}; {more} more"),
    }
}

/// Logs what is withheld from this listing, once, and not again for the listings that follow.
fn log_withheld(service: &Service, pull: &PullTarget, now: Now) {
    let mut withheld = service.cache().withheld();
    withheld.retain(|(_, pending)| {
        pending.since == now.boot
            && matches!(pending.reason, RemovalReason::Unlisted | RemovalReason::Emptied)
    });
    if withheld.is_empty() {
        return;
    }
    let names: Vec<String> = withheld.iter().take(NAMED).map(|(key, _)| key.to_string()).collect();
    tracing::warn!(
        withheld = withheld.len(),
        "a refresh of {} would take away or empty {} secrets ({}{}); they are kept until another refresh \
         confirms that, or `psictl cache refresh --accept-removals`",
        pull.name,
        withheld.len(),
        names.join(", "),
        if withheld.len() > NAMED { ", …" } else { "" }
    );
}

/// Records the refusal of a whole directory for each of its secrets.
fn note_refusal(
    service: &Service,
    pull: &PullTarget,
    scope: &ListingScope,
    error: &ProviderError,
    now: Now,
) {
    let Some(refusal @ (NegativeReason::NotFound(_) | NegativeReason::Denied(_))) =
        lookup::refusal(error)
    else {
        return;
    };
    let mut evicted = 0;
    for (key, _) in service.cache().entries_in(scope) {
        let decision = service.cache().note_refusal(&key, refusal.clone(), now.boot);
        evicted += u64::from(decision == EvictionDecision::Evicted);
    }
    if evicted > 0 {
        tracing::warn!("dropped {evicted} secrets of {} from the cache: {error}", pull.name);
    }
}

#[cfg(test)]
mod tests {
    use psi_common::SecretBytes;

    use super::*;
    use crate::model::reference::{Listing, Namespace};

    fn listed(bytes: usize) -> Listed {
        let found = ["A", "B"].map(|key| {
            let key = CacheKey::new(Namespace::new(&["r"]), "/", key);
            (key, SecretBytes::new(vec![b'x'; bytes]))
        });
        Listing { found: found.into(), ..Listing::default() }.into()
    }

    #[test]
    fn source_over_the_byte_limit_leaves_the_bytes_to_others() {
        let budget = ByteBudget(AtomicUsize::new(100));
        assert!(budget.take(&listed(30), |_| true).is_ok());
        let error = budget.take(&listed(21), |_| true).unwrap_err().to_string();
        assert!(error.contains("42 bytes") && error.contains("256 MiB"), "{error}");
        // Unwanted values do not count.
        assert!(budget.take(&listed(21), |key| &*key.key == "A").is_ok());
        assert!(budget.take(&listed(10), |_| true).is_err());
        assert!(budget.take(&listed(9), |_| true).is_ok());
    }
}
