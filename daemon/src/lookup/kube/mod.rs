//! The secret of a workload for `podman kube play`: all of its values in one document, put together at each lookup, or
//! an error.

pub(crate) mod document;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::error::{ServiceError, bad_reference};
use super::{Served, Service, SourceContents, Value};
use crate::cache::Entry;
use crate::model::clock::Now;
use crate::model::principal::Principal;
use crate::model::reference::{CacheKey, Reference, shown};
use crate::provider::upstream::{Upstream, Upstreams, Workload, WorkloadSource, kube_name_of};
use crate::registry::resolved::ResolvedReference;
use document::NoDocument;

/// The provider of its references: psid itself.
pub(super) const PROVIDER: &str = "psi";

/// The reference to a workload's document.
pub(crate) fn reference(workload: &str) -> Reference {
    Reference::new(PROVIDER, [("workload", workload)])
}

/// The workload whose document a reference means; none for a provider's.
pub(crate) fn workload_of(reference: &Reference) -> Option<&str> {
    let is_psids = reference.provider() == PROVIDER;
    reference.member("workload").filter(|_| is_psids)
}

/// Checks a reference to a document: the config has the workload with `kube = true`, and the caller may use it.
pub(super) fn check(
    upstreams: &Upstreams,
    reference: &Reference,
    caller: Principal,
) -> Result<String, ServiceError> {
    let (Some(name), 1) = (reference.member("workload"), reference.members().count()) else {
        return Err(bad_reference("a reference of provider psi has the member workload alone"));
    };
    let workload = upstreams.workloads.get(name).filter(|workload| workload.is_of(caller));
    match (caller, workload) {
        (_, Some(workload)) if workload.kube => Ok(name.to_owned()),
        // Whether another user's exists is not said.
        (Principal::User(uid), None) => Err(ServiceError::Denied(format!(
            "uid {uid} may not use the workload {0}; user = {uid} in [workloads.\"{0}\"] of psid's config allows it",
            shown(name)
        ))),
        _ => Err(bad_reference(format!(
            "the config has no [workloads.\"{}\"] with kube = true",
            shown(name)
        ))),
    }
}

/// The workload whose document has a podman name.
pub(super) fn named(upstreams: &Upstreams, name: &str, caller: Principal) -> Option<String> {
    let mut workloads = upstreams.workloads_of(caller);
    let found = workloads.find(|(own, workload)| workload.kube && kube_name_of(own) == name);
    found.map(|(name, _)| name.clone())
}

/// The place of a variable's value, for the provider.
type Places = BTreeMap<String, Reference>;

impl Service {
    /// The document of a workload.
    pub(super) async fn find_document(
        &self,
        name: &str,
        now: Now,
        deadline: Instant,
    ) -> Result<(Value, Served), ServiceError> {
        let upstreams = self.upstreams();
        let gone = || ServiceError::unknown();
        let workload = upstreams.workloads.get(name).ok_or_else(gone)?;
        let upstream = upstreams.providers.get(&workload.provider).ok_or_else(gone)?;
        let listing = self.places(workload, upstream, now);
        let places = tokio::time::timeout_at(deadline, listing).await.unwrap_or_else(|_| {
            Err(ServiceError::Unavailable(format!(
                "{} does not answer in time; try again later",
                upstream.name
            )))
        })?;
        let mut values: BTreeMap<&str, Arc<Entry>> = BTreeMap::new();
        let mut from = Served::Ram;
        for (variable, reference) in &places {
            let reference = Arc::new(ResolvedReference::new(reference.clone()));
            let found = self.find_one(&reference, now.advanced(), deadline).await;
            let (entry, served) = found.map_err(|error| error.of_part(&shown(variable)))?;
            values.insert(variable, entry);
            from = from.max(served);
        }
        let of_values = values.iter().map(|(variable, entry)| (*variable, entry.value()));
        let document =
            document::document(kube_name_of(name), of_values).map_err(|why| match why {
                NoDocument::Empty => ServiceError::NotFound(format!("workload {name}: {why}")),
                why => ServiceError::Unavailable(format!("workload {name}: {why}")),
            })?;
        Ok((Value::Assembled(document), from))
    }

    /// The places of all variables; an error if a source is not known completely. Of two sources with one variable, the
    /// later one wins.
    async fn places(
        &self,
        workload: &Workload,
        upstream: &Upstream,
        now: Now,
    ) -> Result<Places, ServiceError> {
        let mut places = Places::new();
        for source in &workload.sources {
            if let Some(selected) = &source.selected {
                places.extend(selected.iter().map(|(variable, key)| {
                    (variable.clone(), workload.reference(source, &source.path, key))
                }));
                continue;
            }
            let contents = self.whole_contents(upstream, source, now).await?;
            places.extend(contents.nearest().into_iter().map(|found| {
                let reference = workload.reference(source, &found.key.path, &found.key.key);
                (found.key.key.to_string(), reference)
            }));
        }
        Ok(places)
    }

    /// The values of a source, from the provider if the cache lacks one of them.
    async fn whole_contents(
        &self,
        upstream: &Upstream,
        source: &WorkloadSource,
        now: Now,
    ) -> Result<SourceContents, ServiceError> {
        let cached = self.cached_contents(upstream, source);
        if let Ok(Some(contents)) = cached
            && self.missing((source, &contents), &self.registered_keys(), now).is_none()
        {
            return Ok(contents);
        }
        let listed = match self.drill.outage_reason(upstream.provider.persistence(), now.mono) {
            Some(why) => Err(why),
            None => {
                self.listed_contents(upstream, source, now).await.map_err(|error| error.to_string())
            }
        };
        listed.map_err(|why| {
            ServiceError::Unavailable(format!(
                "psid does not know every secret of {}: {why}; try again when {} is back",
                source.source, upstream.name
            ))
        })
    }

    /// The cache keys of a workload's document, as far as they are cached; none if the config has no such document.
    pub(crate) fn document_keys(&self, reference: &Reference) -> Option<Vec<CacheKey>> {
        let upstreams = self.upstreams();
        let workload = upstreams.workloads.get(workload_of(reference)?)?;
        let upstream = upstreams.providers.get(&workload.provider).filter(|_| workload.kube)?;
        let mut keys: BTreeMap<String, CacheKey> = BTreeMap::new();
        for source in &workload.sources {
            match &source.selected {
                Some(selected) => {
                    let key = |(variable, key): (&String, &String)| {
                        let reference = workload.reference(source, &source.path, key);
                        Some((variable.clone(), upstream.provider.accept(&reference).ok()?))
                    };
                    keys.extend(selected.iter().filter_map(key));
                }
                None => {
                    let contents = self.cached_contents(upstream, source).ok().flatten();
                    let found = contents.into_iter().flat_map(SourceContents::nearest);
                    keys.extend(found.map(|found| (found.key.key.to_string(), found.key)));
                }
            }
        }
        Some(keys.into_values().collect())
    }

    fn registered_keys(&self) -> Vec<CacheKey> {
        self.references().map(|(_, _, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::upstream::WorkloadUser;

    fn upstreams() -> Upstreams {
        let workload = |name: &str, uid: Option<u32>, kube| {
            let user = uid.map(WorkloadUser::Uid);
            (name.to_owned(), Workload { user, kube, ..Workload::default() })
        };
        let workloads = [
            workload("web@", Some(1_000), true),
            workload("plain", Some(1_000), false),
            workload("root", None, true),
        ];
        Upstreams { workloads: workloads.into(), ..Upstreams::default() }
    }

    #[test]
    fn document_is_its_users_and_roots() {
        let upstreams = upstreams();
        let check = |name: &str, caller| check(&upstreams, &reference(name), caller);
        for caller in [Principal::Admin, Principal::User(1_000)] {
            assert_eq!(check("web@", caller).unwrap(), "web@");
            let error = check("plain", caller).unwrap_err();
            assert!(matches!(error, ServiceError::Malformed(_)), "{error}");
        }
        // Another user's is as one that does not exist.
        for name in ["web@", "root", "none"] {
            let error = check(name, Principal::User(1_001)).unwrap_err();
            assert!(matches!(error, ServiceError::Denied(_)), "{error}");
        }
        assert!(check("root", Principal::Admin).is_ok());
        let more = [("workload", "root"), ("key", "K")];
        super::check(&upstreams, &Reference::new(PROVIDER, more), Principal::Admin).unwrap_err();
        super::check(&upstreams, &Reference::new(PROVIDER, []), Principal::Admin).unwrap_err();
    }

    #[test]
    fn document_is_found_by_its_podman_name() {
        let upstreams = upstreams();
        assert_eq!(named(&upstreams, "web", Principal::Admin).as_deref(), Some("web@"));
        assert_eq!(named(&upstreams, "web", Principal::User(1_000)).as_deref(), Some("web@"));
        for (name, caller) in [("web", 1_001), ("root", 1_000), ("plain", 1_000), ("web@", 1_000)] {
            assert_eq!(named(&upstreams, name, Principal::User(caller)), None, "{name}");
        }
    }
}
