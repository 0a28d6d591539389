//! A registered reference and the cache key that it resolves to. The key is resolved once for each
//! configuration, not for each lookup.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::model::reference::{CacheKey, Reference};
use crate::provider::InvalidReference;
use crate::provider::upstream::Upstreams;

/// A reference, with its key under the configuration that was used last.
pub struct ResolvedReference {
    reference: Reference,
    /// Another configuration may resolve it to another key.
    resolved: RwLock<Option<(Weak<Upstreams>, CacheKey)>>,
}

impl ResolvedReference {
    /// A reference that is not resolved yet.
    pub fn new(reference: Reference) -> Self {
        Self { reference, resolved: RwLock::default() }
    }

    /// Its key under a configuration; `accept` resolves it the first time.
    pub fn key(
        &self,
        upstreams: &Arc<Upstreams>,
        accept: impl FnOnce(&Reference) -> Result<CacheKey, InvalidReference>,
    ) -> Result<CacheKey, InvalidReference> {
        if let Some((under, key)) = &*self.resolved.read()
            && std::ptr::eq(under.as_ptr(), Arc::as_ptr(upstreams))
        {
            return Ok(key.clone());
        }
        let key = accept(&self.reference)?;
        *self.resolved.write() = Some((Arc::downgrade(upstreams), key.clone()));
        Ok(key)
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
    use super::*;
    use crate::model::reference::Namespace;

    fn key(namespace: &str) -> CacheKey {
        CacheKey::new(Namespace::new(&[namespace]), "/", "K")
    }

    #[test]
    fn reference_is_resolved_once_for_each_configuration() {
        let reference = ResolvedReference::new(Reference::new("p", [("key", "K")]));
        let [before, after]: [Arc<Upstreams>; 2] = Default::default();
        let error = InvalidReference::UnknownProject("p".into());
        let bad = |_: &Reference| Err(error.clone());
        assert_eq!(reference.key(&before, bad), Err(error.clone()));
        assert_eq!(reference.key(&before, |_| Ok(key("a"))), Ok(key("a")));
        assert_eq!(reference.key(&before, bad), Ok(key("a")));
        assert_eq!(reference.key(&after, |_| Ok(key("b"))), Ok(key("b")));
        assert_eq!(reference.key(&before, bad), Err(error.clone()));
    }
}
