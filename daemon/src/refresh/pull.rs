//! One source: asked for, and taken over.

use super::plan::Pull;
use crate::breaker::Caller;
use crate::cache::{Cache, Cause, Counts, Doubted, Refusal, Taking};
use crate::clock::Moment;
use crate::provider::{Listed, ProviderError};
use crate::reference::{Coordinates, Extent};
use crate::service::{self, Service};
use crate::upstream::{CallError, Route};

/// How many secrets the log names.
const NAMED: usize = 10;
/// How many faults of one source a message names.
const TOLD: usize = 3;

/// How a pull is meant.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) caller: Caller,
    /// Whether what it takes away is confirmed by an admin.
    pub(super) accept: bool,
}

/// Pulls one source; what the provider has no more is gone.
pub(super) async fn pull(
    service: &Service,
    pull: &Pull,
    manner: Manner,
    began: Moment,
) -> Result<Counts, CallError> {
    let upstream = &pull.upstream;
    if let Some(why) = service.drill.forbids(upstream.provider.keeping(), began.mono) {
        return Err(CallError::NotAsked(ProviderError::Unreachable(why)));
    }
    let ticket = service.cache.read(Cache::ticket);
    let folders = pull.folders(service);
    let call = upstream.call_for_directory(pull.extent(), Route::List, manner.caller);
    let list = upstream.provider.list(&pull.source, &folders);
    // A part of a source is no whole one.
    let incomplete = |listed: &Listed| listed.incomplete.clone();
    let listed = upstream.call_in_part(&call, began, list, incomplete).await;
    let now = began.lately();
    let wanted = |at: &Coordinates| pull.wanted.as_ref().is_none_or(|wanted| wanted.contains(at));
    let taking = Taking { ticket, began, now, accept: manner.accept, wanted: &wanted };
    match listed {
        Ok(listed) => take_over(service, pull, listed, &taking).map_err(CallError::Answered),
        Err(error) => {
            if let CallError::Answered(error) = &error {
                doubt(service, pull, pull.extent(), error, now);
            }
            Err(error)
        }
    }
}

fn take_over(
    service: &Service,
    pull: &Pull,
    listed: Listed,
    taking: &Taking<'_>,
) -> Result<Counts, ProviderError> {
    let Listed { listing, refused, incomplete, .. } = listed;
    let wanted = |(at, _): &&(Coordinates, String)| (taking.wanted)(at);
    let denied: Vec<_> = listing.denied.iter().filter(wanted).cloned().collect();
    let unread: Vec<_> = listing.unread.iter().filter(wanted).cloned().collect();
    let counts = service.cache.change(|cache| cache.replace(listing, taking));
    if counts.held > 0 {
        tell_held(service, pull, taking.now);
    }
    for (extent, error) in &refused {
        doubt(service, pull, extent, error, taking.now);
    }
    if let Some(error) = incomplete {
        return Err(
            error.map_why(|why| format!("{why}; the rest of it is listed later ({counts} so far)"))
        );
    }
    let directories = refused.iter().map(|(extent, error)| format!("{}: {error}", extent.path));
    let keys = denied.iter().chain(&unread).map(|(at, why)| format!("{at}: {why}"));
    let faults: Vec<String> = directories.chain(keys).collect();
    if faults.is_empty() {
        return Ok(counts);
    }
    let told = faults.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = match faults.len().saturating_sub(TOLD) {
        0 => String::new(),
        many => format!("; {many} more"),
    };
    let why = format!("{told}{more}; the others are refreshed ({counts})");
    let is_refusal = refused.len() + denied.len() > 0;
    Err(if is_refusal { ProviderError::Denied(why) } else { ProviderError::Misbehaved(why) })
}

/// What this listing would take away, told once: not again by those that follow.
fn tell_held(service: &Service, pull: &Pull, now: Moment) {
    let new = |doubted: &Doubted| {
        doubted.since == now.tick && matches!(doubted.cause, Cause::Removed | Cause::Emptied)
    };
    let held: Vec<_> = service.cache.read(Cache::doubted).into_iter().filter(new).collect();
    if held.is_empty() {
        return;
    }
    let name = |doubted: &Doubted| doubted.at.to_string();
    let names: Vec<String> = held.iter().take(NAMED).map(name).collect();
    tracing::warn!(
        held = held.len(),
        "a refresh of {} would take away or empty {} secrets ({}{}); they are kept until another refresh \
         confirms that, or `psi-driver cache refresh --accept-removals`",
        pull.name,
        held.len(),
        names.join(", "),
        if held.len() > NAMED { ", …" } else { "" }
    );
}

/// The provider's word that a whole directory is gone, or denied, is its word on each of its secrets.
fn doubt(service: &Service, pull: &Pull, extent: &Extent, error: &ProviderError, now: Moment) {
    let Some(refusal @ (Refusal::Gone(_) | Refusal::Denied(_))) = service::refusal(error) else {
        return;
    };
    let doubt = |cache: &mut Cache| {
        let inside = cache.within(std::slice::from_ref(extent));
        cache.doubt_all(&inside, &refusal, now.tick)
    };
    let evicted = service.cache.change_if(doubt, |evicted| *evicted > 0);
    if evicted > 0 {
        tracing::warn!("dropped {evicted} secrets of {} from the cache: {error}", pull.name);
    }
}
