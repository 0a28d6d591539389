//! One source: asked for, and taken over.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::agenda::Key;
use super::plan::Pull;
use crate::breaker::Caller;
use crate::cache::{Cache, Cause, Counts, Doubted, Mark, Refusal, Taking};
use crate::clock::Moment;
use crate::provider::ProviderError;
use crate::reference::{Coordinates, Extent, Listing, Tag};
use crate::service::{self, Service};
use crate::upstream::Upstream;

/// How many secrets the log names.
const NAMED: usize = 10;

/// The tags of the listings that the cache still has.
#[derive(Default)]
pub(super) struct Tags(Mutex<HashMap<Key, Arc<Tagged>>>);

/// A listing that need not be sent again.
struct Tagged {
    /// Another one, after a reload, may be another identity.
    upstream: Weak<Upstream>,
    tag: Tag,
    extents: Vec<Extent>,
    wanted: Option<HashSet<Coordinates>>,
    mark: Mark,
}

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
    tags: &Tags,
    pull: &Pull,
    manner: Manner,
    began: Moment,
) -> Result<Counts, ProviderError> {
    let upstream = &pull.upstream;
    if let Some(why) = service.drill.forbids(upstream.provider.keeping(), began.mono) {
        return Err(ProviderError::Unreachable(why));
    }
    let ticket = service.cache.read(Cache::ticket);
    let (folders, known) = (pull.folders(service), tags.of(pull, service));
    let asking = upstream.ask(manner.caller, began)?;
    let tag = known.as_ref().map(|known| &known.tag);
    let listed = upstream.provider.list(&pull.source, &folders, tag).await;
    let now = began.lately();
    asking.end(&listed, now);
    let wanted = |at: &Coordinates| pull.wanted.as_ref().is_none_or(|wanted| wanted.contains(at));
    let taking = Taking { ticket, began, now, accept: manner.accept, wanted: &wanted };
    match (listed, known) {
        (Ok(listing), Some(known)) if listing.unchanged => {
            let unchanged = service.cache.change(|cache| cache.renew(&known.mark, now));
            Ok(Counts { unchanged, ..Counts::default() })
        }
        (Ok(listing), _) => take_over(service, tags, pull, listing, &taking),
        (Err(error), _) => {
            doubt(service, pull, &error, now);
            Err(error)
        }
    }
}

fn take_over(
    service: &Service,
    tags: &Tags,
    pull: &Pull,
    mut listing: Listing,
    taking: &Taking<'_>,
) -> Result<Counts, ProviderError> {
    let (tag, extents) = (listing.tag.take(), listing.extents.clone());
    let hidden = listing.denied.len();
    let (counts, mark) = service.cache.change(|cache| cache.replace(listing, taking));
    tags.keep(pull, extents, tag.zip(mark));
    if counts.held > 0 {
        tell_held(service, pull, taking.now);
    }
    match hidden {
        0 => Ok(counts),
        many => Err(ProviderError::Denied(format!(
            "{many} values are hidden: the identity may describe but not read them; the others are refreshed \
             ({counts})"
        ))),
    }
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

/// The provider's word that a whole source is gone, or denied, is its word on each of its secrets.
fn doubt(service: &Service, pull: &Pull, error: &ProviderError, now: Moment) {
    let Some(refusal @ (Refusal::Gone(_) | Refusal::Denied(_))) = service::refusal(error) else {
        return;
    };
    let doubt = |cache: &mut Cache| {
        let inside = cache.within(std::slice::from_ref(pull.extent()));
        cache.doubt_all(&inside, &refusal, now.tick)
    };
    let evicted = service.cache.change_if(doubt, |evicted| *evicted > 0);
    if evicted > 0 {
        tracing::warn!("dropped {evicted} secrets of {} from the cache: {error}", pull.name);
    }
}

impl Tags {
    /// The tag of a source, when the cache has what its listing left there: else a "nothing has changed"
    /// would be about something that is lost.
    fn of(&self, pull: &Pull, service: &Service) -> Option<Arc<Tagged>> {
        let known = self.lock().get(&pull.key).cloned()?;
        let same = known.upstream.ptr_eq(&Arc::downgrade(&pull.upstream))
            && known.wanted == pull.wanted
            && service.cache.read(|cache| cache.still_has(&known.extents, &known.mark));
        same.then_some(known)
    }

    fn keep(&self, pull: &Pull, extents: Vec<Extent>, tagged: Option<(Tag, Mark)>) {
        match tagged {
            None => {
                self.lock().remove(&pull.key);
            }
            Some((tag, mark)) => {
                let upstream = Arc::downgrade(&pull.upstream);
                let wanted = pull.wanted.clone();
                let tagged = Tagged { upstream, tag, extents, wanted, mark };
                self.lock().insert(pull.key.clone(), Arc::new(tagged));
            }
        }
    }

    /// Forgets those of other sources.
    pub(super) fn retain(&self, pulls: &[Pull]) {
        let present: HashSet<&Key> = pulls.iter().map(|pull| &pull.key).collect();
        self.lock().retain(|key, _| present.contains(key));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Tagged>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
