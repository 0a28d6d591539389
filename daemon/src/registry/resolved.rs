//! A registered reference, and what was found out about it. Podman asks for the same secret at each exec and
//! each healthcheck: such a hit goes by its link, and takes no lock that a fetch, a refresh or a write to the
//! disk holds while it works.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::cache::Entry;
use crate::model::clock::BootInstant;
use crate::model::reference::{CacheKey, Reference};
use crate::provider::upstream::Upstreams;

/// A reference, with where it led and what was there.
pub struct ResolvedReference {
    reference: Reference,
    /// Its lock is held for the copy of a pointer.
    found: RwLock<Option<Found>>,
}

struct Found {
    /// Under another config, it may lead elsewhere.
    under: Weak<Upstreams>,
    at: CacheKey,
    /// The cache alone keeps a value alive.
    entry: Weak<Entry>,
}

impl ResolvedReference {
    /// Nothing is found out yet.
    pub fn new(reference: Reference) -> Self {
        Self { reference, found: RwLock::default() }
    }

    /// Its value, as long as the cache has it served without asking.
    pub fn fresh(&self, under: &Arc<Upstreams>, now: BootInstant) -> Option<Arc<Entry>> {
        let entry = self.look(under, |found| found.entry.upgrade())??;
        entry.is_fresh(now).then_some(entry)
    }

    /// Where it leads: `accept` tells, once a config.
    pub fn coordinates(
        &self,
        under: &Arc<Upstreams>,
        accept: impl FnOnce(&Reference) -> Result<CacheKey, String>,
    ) -> Result<CacheKey, String> {
        if let Some(at) = self.look(under, |found| found.at.clone()) {
            return Ok(at);
        }
        let at = accept(&self.reference)?;
        self.note(Found { under: Arc::downgrade(under), at: at.clone(), entry: Weak::new() });
        Ok(at)
    }

    /// Takes note of what the cache has where it leads.
    pub fn remember(&self, under: &Arc<Upstreams>, at: &CacheKey, entry: &Arc<Entry>) {
        let (under, entry) = (Arc::downgrade(under), Arc::downgrade(entry));
        self.note(Found { under, at: at.clone(), entry });
    }

    fn look<T>(&self, under: &Arc<Upstreams>, look: impl FnOnce(&Found) -> T) -> Option<T> {
        let found = self.found.read();
        let same = |found: &&Found| std::ptr::eq(found.under.as_ptr(), Arc::as_ptr(under));
        found.as_ref().filter(same).map(look)
    }

    fn note(&self, found: Found) {
        *self.found.write() = Some(found);
    }
}

impl Deref for ResolvedReference {
    type Target = Reference;

    fn deref(&self) -> &Reference {
        &self.reference
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use psi_common::SecretBytes;

    use super::*;
    use crate::cache::{Answer, BootId, Cache, Policy};
    use crate::model::clock;
    use crate::model::reference::Namespace;

    fn at(realm: &str) -> CacheKey {
        CacheKey::new(Namespace::new(&[realm]), "/", "K")
    }

    fn configs() -> [Arc<Upstreams>; 2] {
        [Arc::default(), Arc::default()]
    }

    #[test]
    fn where_it_leads_is_asked_once_a_config() {
        let link = ResolvedReference::new(Reference::new("p", [("key", "K")]));
        let [before, after] = configs();
        let bad = |_: &Reference| Err("no such project".to_owned());
        assert_eq!(link.coordinates(&before, bad), Err("no such project".into()));
        assert_eq!(link.coordinates(&before, |_| Ok(at("a"))), Ok(at("a")));
        assert_eq!(link.coordinates(&before, bad), Ok(at("a")));
        assert_eq!(link.coordinates(&after, |_| Ok(at("b"))), Ok(at("b")));
        assert_eq!(link.coordinates(&before, bad), Err("no such project".into()));
    }

    /// After a reload, the project of its name may be another one.
    #[test]
    fn what_was_found_under_one_config_is_not_served_under_another() {
        let policy = Policy {
            enabled: true,
            fresh_for: Duration::from_secs(3_600),
            max_stale: None,
            evict_revoked: true,
        };
        let mut cache = Cache::new(policy, BootId(NonZeroU64::MIN));
        let (epoch, now) = (cache.begin_fetch(), clock::now());
        let value = Entry::new(SecretBytes::new(b"one".to_vec()), now.wall);
        cache.put(&at("a"), value, now, epoch);
        let Answer::Fresh(entry) = cache.get(&at("a"), now.tick) else { panic!("it is not fresh") };
        let link = ResolvedReference::new(Reference::new("p", [("key", "K")]));
        let [before, after] = configs();
        link.remember(&before, &at("a"), &entry);
        assert!(link.fresh(&before, now.tick).is_some());
        assert!(link.fresh(&after, now.tick).is_none());
        drop(entry);
        cache.invalidate(&at("a"));
        assert!(link.fresh(&before, now.tick).is_none(), "a link keeps no value alive");
    }
}
