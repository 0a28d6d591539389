//! From an id, a name or a reference to the provider and the cache key.

use std::sync::Arc;

use super::access;
use super::error::{ServiceError, bad_reference};
use super::{Resolved, SecretSelector, Service, kube};
use crate::model::principal::Principal;
use crate::model::reference::{CacheKey, Reference, shown};
use crate::provider::configured_name;
use crate::provider::upstream::{Upstream, Upstreams};
use crate::registry::resolved::ResolvedReference;
use crate::registry::{Registered, RegistryError};

impl Service {
    /// A reference's cache key, if its provider is configured and accepts it.
    pub fn resolve_key(&self, reference: &Reference) -> Option<CacheKey> {
        self.try_resolve_key(reference).ok()
    }

    /// A reference's cache key, or why it has none.
    pub fn try_resolve_key(&self, reference: &Reference) -> Result<CacheKey, ServiceError> {
        resolve_reference(&self.upstreams(), reference).map(|(_, key)| key)
    }

    /// A registered reference's cache key, which is resolved once for each configuration.
    pub(super) fn key_of(&self, reference: &ResolvedReference) -> Option<CacheKey> {
        resolve_upstream(&self.upstreams(), reference).ok().map(|(_, key)| key)
    }

    /// The literal or the references that a selector names.
    pub(super) fn resolve(
        &self,
        selector: &SecretSelector,
        caller: Principal,
    ) -> Result<Resolved, ServiceError> {
        let references = match selector {
            SecretSelector::Id(id) => match self.registry.find(*id, caller)? {
                Registered::Literal(value) => return Ok(Resolved::Literal(value)),
                Registered::Reference(reference) if is_document(&reference) => {
                    return self.resolve_document(&reference, caller);
                }
                Registered::Reference(reference) => vec![reference],
                Registered::Invalid(why) => return Err(ServiceError::NoKey(why.to_string())),
                Registered::Unreadable(why) => return Err(RegistryError::Unreadable(why).into()),
            },
            SecretSelector::Name(name) if name.starts_with('{') => {
                let reference = Reference::parse(name.as_bytes()).ok_or_else(|| {
                    bad_reference("it is no JSON object of strings with a \"provider\"")
                })?;
                if is_document(&reference) {
                    return self.resolve_document(&reference, caller);
                }
                vec![Arc::new(ResolvedReference::new(reference))]
            }
            SecretSelector::Name(name) => self
                .upstreams()
                .by_name(name, caller)
                .into_iter()
                .map(|one| Arc::new(ResolvedReference::new(one)))
                .collect(),
        };
        if let SecretSelector::Name(name) = selector
            && references.is_empty()
        {
            if let Some(workload) = kube::named(&self.upstreams(), name, caller) {
                return Ok(Resolved::Document(workload));
            }
            access::check_name(name, caller)?;
        }
        for reference in &references {
            self.check_within(reference, caller)?;
        }
        if references.is_empty() {
            Err(ServiceError::unknown())
        } else {
            Ok(Resolved::References(references))
        }
    }

    fn resolve_document(
        &self,
        reference: &Reference,
        caller: Principal,
    ) -> Result<Resolved, ServiceError> {
        kube::check(&self.upstreams(), reference, caller).map(Resolved::Document)
    }
}

fn is_document(reference: &Reference) -> bool {
    reference.provider() == kube::PROVIDER
}

/// The message that a reference names a provider that the config lacks.
pub(super) fn no_provider(name: &str) -> String {
    format!("the config has no [providers.{}]", shown(configured_name(name)))
}

/// A reference's provider.
pub(super) fn upstream_of<'a>(
    upstreams: &'a Upstreams,
    reference: &Reference,
) -> Result<&'a Arc<Upstream>, ServiceError> {
    let name = reference.provider();
    upstreams.provider(name).ok_or_else(|| bad_reference(no_provider(name)))
}

/// A reference's provider and cache key.
pub(super) fn resolve_reference(
    upstreams: &Upstreams,
    reference: &Reference,
) -> Result<(Arc<Upstream>, CacheKey), ServiceError> {
    let upstream = upstream_of(upstreams, reference)?;
    let key = upstream.provider.accept(reference).map_err(bad_reference)?;
    Ok((Arc::clone(upstream), key))
}

/// A registered reference's provider and cache key. The key is resolved once for each configuration.
pub(super) fn resolve_upstream(
    upstreams: &Arc<Upstreams>,
    reference: &ResolvedReference,
) -> Result<(Arc<Upstream>, CacheKey), ServiceError> {
    let upstream = upstream_of(upstreams, reference)?;
    let accept = |reference: &Reference| upstream.provider.accept(reference);
    let key = reference.key(upstreams, accept).map_err(bad_reference)?;
    Ok((Arc::clone(upstream), key))
}
