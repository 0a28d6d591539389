//! Storing, repointing and deleting registrations.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use psi_common::{SecretBytes, SecretId};

use super::classify::{self, Look};
use super::error::{ServiceError, bad_reference};
use super::resolve::{no_provider, upstream_of};
use super::{DataKind, Service, kube};
use crate::cache::Entry;
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::principal::Principal;
use crate::model::reference::{CacheKey, Reference};
use crate::registry::reference_file::{ReferenceFile, ReferenceFileError};
use crate::registry::{Registered, Registration};

impl Service {
    /// Registers a secret, durably.
    pub async fn store(
        &self,
        id: SecretId,
        data: SecretBytes,
        kind: DataKind,
        caller: Principal,
    ) -> Result<(), ServiceError> {
        let stored = match self.classify(data, kind, caller) {
            Ok(what) => self.registry.store(id, what, caller).await.map_err(ServiceError::from),
            Err(refused) => Err(refused),
        };
        // Podman has deleted the one that this is to replace.
        stored.map_err(|error| match self.registry.deleted_just_now(caller) {
            Some(deleted) => error.with_remedy(&format!(
                "if it was to replace a secret, `psictl restore {deleted}` brings that back"
            )),
            None => error,
        })
    }

    /// Replaces a registered reference by another one, durably; false if it is the same.
    pub async fn repoint(
        &self,
        id: SecretId,
        data: SecretBytes,
        caller: Principal,
        now: Now,
    ) -> Result<bool, ServiceError> {
        match self.classify(data, DataKind::Reference, caller)? {
            Registration::Reference(reference, raw) => {
                let known = self.registry.find(id, caller).ok();
                let new = self.cached(&reference);
                let changed = self.registry.repoint(id, reference, raw, caller).await?;
                let former = known.and_then(|known| match known {
                    Registered::Reference(known) => self.cached(&known),
                    _ => None,
                });
                // A value that is not cached is not known to be another one.
                if let (true, Some(former), Some(new)) = (changed, former, new)
                    && !former.value().same_as(new.value())
                {
                    self.repointed.lock().insert(id, (now.boot, now.wall));
                }
                Ok(changed)
            }
            Registration::Literal(_) => Err(bad_reference("it is a literal")),
        }
    }

    /// When a registered reference was replaced by one with another value, since psid started.
    pub(crate) fn repointed(&self, id: SecretId) -> Option<(BootInstant, Timestamp)> {
        self.repointed.lock().get(&id).copied()
    }

    fn cached(&self, reference: &Reference) -> Option<Arc<Entry>> {
        self.cache.entry(&self.resolve_key(reference)?)
    }

    /// Classifies data as a reference or a literal. Data that is almost a reference is refused.
    pub(super) fn classify(
        &self,
        data: SecretBytes,
        kind: DataKind,
        caller: Principal,
    ) -> Result<Registration, ServiceError> {
        let (data, kind) = text_given(data, kind)?;
        let provider = match classify::look(data.expose_secret()) {
            _ if kind == DataKind::Literal => return Ok(Registration::Literal(data)),
            Look::Literal if kind == DataKind::Auto => return Ok(Registration::Literal(data)),
            Look::Literal => {
                return Err(refused_as(kind, "it is no JSON object with a \"provider\""));
            }
            Look::Mistake(why) => return Err(refused_as(kind, why)),
            Look::Reference(provider) => provider,
        };
        let upstreams = self.upstreams();
        if provider == kube::PROVIDER {
            let reference = Reference::parse(data.expose_secret())
                .ok_or_else(|| refused_as(kind, "not every member is a string"))?;
            kube::check(&upstreams, &reference, caller)?;
            return Ok(Registration::Reference(reference, data));
        }
        if upstreams.provider(&provider).is_none() {
            return Err(refused_as(kind, no_provider(&provider)));
        }
        let reference = Reference::parse(data.expose_secret())
            .ok_or_else(|| refused_as(kind, "not every member is a string"))?;
        self.check_within(&reference, caller)?;
        let upstream = upstream_of(&upstreams, &reference)?;
        upstream.provider.accept(&reference).map_err(|why| refused_as(kind, why))?;
        Ok(Registration::Reference(reference, data))
    }

    /// Deletes a registration; false if there was none. The value stays cached for some seconds, since
    /// `podman secret create --replace` deletes before it stores. Without `force`, the deletion is refused while
    /// nothing could be stored in its place.
    pub async fn delete(
        &self,
        id: SecretId,
        now: Now,
        force: bool,
        caller: Principal,
    ) -> Result<bool, ServiceError> {
        if let Ok(Registered::Reference(reference)) = self.registry.find(id, caller)
            && let Some(key) = self.key_of(&reference)
        {
            self.deleted.lock().insert(key, now.wall);
        }
        let deleted = self.registry.delete(id, now, force, caller).await?;
        self.repointed.lock().remove(&id);
        Ok(deleted)
    }

    /// The cache keys of the references that were deleted `age` ago or earlier; each is returned once.
    pub fn take_deleted(&self, now: Timestamp, age: Duration) -> HashSet<CacheKey> {
        let mut deleted = self.deleted.lock();
        let is_due = |_: &CacheKey, since: &mut Timestamp| since.age(now) >= age;
        deleted.extract_if(is_due).map(|(key, _)| key).collect()
    }
}

/// The error for data that is almost a reference. It may be meant as a literal.
fn refused_as(kind: DataKind, why: impl Display) -> ServiceError {
    let refused = bad_reference(why);
    match kind {
        DataKind::Auto => refused.with_remedy("`psictl add NAME --literal` stores it as a literal"),
        DataKind::Literal | DataKind::Reference => refused,
    }
}

/// The text of a reference file, which an admin may give to create the secret again; any other data as it is.
fn text_given(data: SecretBytes, kind: DataKind) -> Result<(SecretBytes, DataKind), ServiceError> {
    if kind == DataKind::Literal {
        return Ok((data, kind));
    }
    match ReferenceFile::parse_any(data.expose_secret()) {
        Ok(file) => Ok((SecretBytes::new(file.text.to_vec()), DataKind::Reference)),
        Err(ReferenceFileError::Foreign) => Ok((data, kind)),
        Err(why) => Err(bad_reference(why.to_string())),
    }
}
