//! The values of a workload's source: those of the cache, or without a cache a listing.

use std::collections::BTreeSet;
use std::sync::Arc;

use psi_common::SecretBytes;

use super::Service;
use crate::cache::{CacheLookup, Entry};
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::reference::{CacheKey, Listing, ListingScope};
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::{CallError, Route, Upstream, WorkloadSource};
use crate::provider::{InvalidReference, Listed, ProviderError, Source};

/// The values of a source.
pub(crate) struct SourceContents {
    pub(crate) scope: ListingScope,
    pub(crate) values: Vec<(CacheKey, SourceValue)>,
}

/// A value of a source.
pub(crate) enum SourceValue {
    /// When it replaced another one in this boot.
    Cached(Arc<Entry>, Option<BootInstant>),
    Listed(SecretBytes),
}

/// A key of a source.
pub(crate) struct SourceKey {
    pub(crate) key: CacheKey,
    pub(crate) value: SourceValue,
    /// The other directories of the source that have the key.
    pub(crate) shadowed: Vec<String>,
}

/// A source is not known completely.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Invalid(#[from] InvalidReference),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("only the rest of it was listed; run the command again")]
    Continued,
    #[error("{path}: {error}")]
    Directory { path: String, error: ProviderError },
    #[error("{key}: {why}")]
    Key { key: CacheKey, why: String },
}

impl SourceValue {
    /// When it replaced another one in this boot, and that time on the wall clock.
    pub(crate) fn replaced(&self) -> Option<(BootInstant, Timestamp)> {
        match self {
            Self::Cached(entry, replaced) => replaced.map(|at| (at, entry.changed_at())),
            Self::Listed(_) => None,
        }
    }

    pub(crate) fn secret(&self) -> &SecretBytes {
        match self {
            Self::Cached(entry, _) => entry.value(),
            Self::Listed(value) => value,
        }
    }
}

impl Service {
    /// The values of a source: those of the cache, or without a cache a listing.
    pub(crate) async fn contents(
        &self,
        upstream: &Upstream,
        source: &Source,
        now: Now,
    ) -> Result<SourceContents, SourceError> {
        match self.cached_contents(upstream, source)? {
            Some(contents) => Ok(contents),
            None => self.listed_contents(upstream, source, now).await,
        }
    }

    /// The values of a source that the cache has; none without a cache.
    pub(super) fn cached_contents(
        &self,
        upstream: &Upstream,
        source: &Source,
    ) -> Result<Option<SourceContents>, SourceError> {
        let scope = upstream.provider.scope_of(source)?;
        if !self.cache.is_enabled() {
            return Ok(None);
        }
        let entries = self.cache.entries_in(&scope).into_iter();
        let cached = |entry: Arc<Entry>| {
            let replaced = self.cache.replaced_in_this_boot(&entry);
            SourceValue::Cached(entry, replaced)
        };
        let values = entries.map(|(key, entry)| (key, cached(entry))).collect();
        Ok(Some(SourceContents { scope, values }))
    }

    /// The values of a source that its provider lists now.
    pub(super) async fn listed_contents(
        &self,
        upstream: &Upstream,
        source: &Source,
        now: Now,
    ) -> Result<SourceContents, SourceError> {
        let scope = upstream.provider.scope_of(source)?;
        let call = upstream.call_for_directory(&scope, Route::List, Caller::Admin);
        let directories = BTreeSet::new();
        let list = upstream.provider.list(source, &directories);
        let listed = upstream.call(&call, now, list).await.map_err(CallError::error)?;
        let found = complete(listed)?.found.into_iter();
        let values = found.map(|(key, value)| (key, SourceValue::Listed(value))).collect();
        Ok(SourceContents { scope, values })
    }

    /// What the cache lacks of that which a workload takes of a source: everything, an invalidated key, or a registered key
    /// that the provider has not reported gone.
    pub(crate) fn missing<'a>(
        &self,
        (source, contents): (&WorkloadSource, &SourceContents),
        registered: impl IntoIterator<Item = &'a CacheKey>,
        now: Now,
    ) -> Option<String> {
        if !self.cache.is_enabled() {
            return None;
        }
        let SourceContents { scope, values } = contents;
        let is_taken = |key: &CacheKey| scope.contains(key) && source.takes(&key.key);
        if !values.iter().any(|(key, _)| is_taken(key)) {
            return Some("everything".to_owned());
        }
        let is_missing = |key: &&CacheKey| {
            is_taken(key) && matches!(self.cache.get(key, now.boot), CacheLookup::Missing)
        };
        let invalidated = self.cache.invalidated_unconfirmed(is_taken);
        let missing = invalidated.or_else(|| registered.into_iter().find(is_missing).cloned());
        missing.map(|key| format!("the key {}", key.key.escape_debug()))
    }
}

/// The listing, if it covers the whole source: of an incomplete one, absence is no evidence.
fn complete(listed: Listed) -> Result<Listing, SourceError> {
    let Listed { listing, refused, continued, incomplete } = listed;
    if let Some(error) = incomplete {
        return Err(error.into());
    }
    if continued {
        return Err(SourceError::Continued);
    }
    if let Some((scope, error)) = refused.into_iter().next() {
        return Err(SourceError::Directory { path: scope.path, error });
    }
    match listing.denied.iter().chain(&listing.unread).next() {
        Some((key, why)) => Err(SourceError::Key { key: key.clone(), why: why.clone() }),
        None => Ok(listing),
    }
}

impl SourceContents {
    /// Each key once: of the directories below a recursive source, the nearest one wins, as in a lookup by name.
    pub(crate) fn nearest(self) -> Vec<SourceKey> {
        let Self { scope, values: mut all } = self;
        let depth = |key: &CacheKey| key.path.matches('/').count();
        all.retain(|(key, _)| scope.contains(key));
        all.sort_by(|(a, _), (b, _)| (&a.key, depth(a), &a.path).cmp(&(&b.key, depth(b), &b.path)));
        let mut kept: Vec<SourceKey> = Vec::new();
        for (key, value) in all {
            match kept.last_mut() {
                Some(found) if found.key.key == key.key => {
                    found.shadowed.push(key.path.to_string());
                }
                _ => kept.push(SourceKey { key, value, shadowed: Vec::new() }),
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reference::Namespace;

    #[test]
    fn directory_nearest_to_a_recursive_source_wins() {
        let namespace = Namespace::new(&["r"]);
        let scope =
            ListingScope { namespace: namespace.clone(), path: "/svc".into(), recursive: true };
        let found =
            [("/svc/b", "K"), ("/svc", "K"), ("/svc/a/deep", "ONLY"), ("/svc/a", "K"), ("/x", "K")];
        let value = || SourceValue::Listed(SecretBytes::new(b"v".to_vec()));
        let values =
            found.map(|(path, key)| (CacheKey::new(namespace.clone(), path, key), value())).into();
        let kept: Vec<_> = SourceContents { scope, values }
            .nearest()
            .into_iter()
            .map(|found| (found.key.path.to_string(), found.key.key.to_string(), found.shadowed))
            .collect();
        let others = vec!["/svc/a".to_owned(), "/svc/b".to_owned()];
        assert_eq!(
            kept,
            [
                ("/svc".to_owned(), "K".to_owned(), others),
                ("/svc/a/deep".to_owned(), "ONLY".to_owned(), Vec::new())
            ]
        );
    }
}
