//! A registered reference, and what was found out about it. Podman asks for the same secret at each exec and
//! each healthcheck: such a hit goes by its link, and takes no lock that a fetch, a refresh or a write to the
//! disk holds while it works.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::cache::Entry;
use crate::clock::Tick;
use crate::reference::{Coordinates, Reference};

/// A reference, with where it led and what was there.
pub struct Link {
    reference: Reference,
    /// Its lock is held for the copy of two pointers.
    found: RwLock<Option<Found>>,
}

struct Found {
    under: Epoch,
    at: Coordinates,
    /// The cache alone keeps a value alive.
    entry: Weak<Entry>,
}

/// One config's time: under another one, a reference may lead elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

impl Link {
    /// Nothing is found out yet.
    pub fn new(reference: Reference) -> Self {
        Self { reference, found: RwLock::default() }
    }

    /// Its value, as long as the cache has it served without asking.
    pub fn fresh(&self, under: Epoch, now: Tick) -> Option<Arc<Entry>> {
        let entry = self.look(under, |found| found.entry.upgrade())??;
        entry.is_fresh(now).then_some(entry)
    }

    /// Where it leads under a config: `accept` tells, once.
    pub fn leads(
        &self,
        under: Epoch,
        accept: impl FnOnce(&Reference) -> Result<Coordinates, String>,
    ) -> Result<Coordinates, String> {
        if let Some(at) = self.look(under, |found| found.at.clone()) {
            return Ok(at);
        }
        let at = accept(&self.reference)?;
        self.note(Found { under, at: at.clone(), entry: Weak::new() });
        Ok(at)
    }

    /// Takes note of what the cache has for it.
    pub fn lead(&self, under: Epoch, at: &Coordinates, entry: &Arc<Entry>) {
        self.note(Found { under, at: at.clone(), entry: Arc::downgrade(entry) });
    }

    fn look<T>(&self, under: Epoch, look: impl FnOnce(&Found) -> T) -> Option<T> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().filter(|found| found.under == under).map(look)
    }

    fn note(&self, found: Found) {
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
}

impl Deref for Link {
    type Target = Reference;

    fn deref(&self) -> &Reference {
        &self.reference
    }
}

/// One that never was before.
impl Default for Epoch {
    fn default() -> Self {
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        Self(BEGUN.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Realm;

    #[test]
    fn where_it_leads_is_asked_once_a_config() {
        let link = Link::new(Reference::new("p", [("key", "K")]));
        let at = |realm: &str| Coordinates::new(Realm::new(&[realm]), "/", "K");
        let (before, after) = (Epoch::default(), Epoch::default());
        let bad = |_: &Reference| Err("no such project".to_owned());
        assert_eq!(link.leads(before, bad), Err("no such project".into()));
        assert_eq!(link.leads(before, |_| Ok(at("a"))), Ok(at("a")));
        assert_eq!(link.leads(before, bad), Ok(at("a")));
        assert_eq!(link.leads(after, |_| Ok(at("b"))), Ok(at("b")));
        assert_eq!(link.leads(before, bad), Err("no such project".into()));
    }
}
