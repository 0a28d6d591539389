//! Changes of registrations beside storing and deleting: migrated references, other references, podman's names.

use std::sync::Arc;

use psi_common::{SecretBytes, SecretId};

use super::reference_file;
use super::{
    OwnedRegistration, PodmanName, Registered, Registration, Registry, RegistryError, blocking,
};
use crate::model::principal::Principal;
use crate::model::reference::Reference;
use crate::sys::files;

impl Registry {
    /// Registers the migrated references whose ids are free, durably, and returns their ids.
    pub fn adopt<'a>(
        &self,
        references: impl IntoIterator<Item = (SecretId, &'a Reference, &'a SecretBytes)>,
    ) -> Result<Vec<SecretId>, RegistryError> {
        let _writing = self.writing.lock();
        self.check_readable()?;
        self.trash.check_readable()?;
        let free: Vec<_> = references.into_iter().filter(|(id, ..)| self.is_free(*id)).collect();
        if free.is_empty() {
            return Ok(Vec::new());
        }
        let encode = |(id, _, raw): &(SecretId, _, &SecretBytes)| {
            reference_file::encode(id.as_str(), None, raw.expose_secret())
        };
        let encoded: Vec<_> = free.iter().map(encode).collect();
        let files = free.iter().zip(&encoded).map(|((id, ..), file)| (id.as_str(), &file[..]));
        files::add_all(&self.directory, files)?;
        let mut known = self.known.write();
        for (id, reference, raw) in &free {
            let what = Registered::reference((*reference).clone());
            let bytes = raw.expose_secret().len();
            known.secrets.insert(*id, OwnedRegistration { what, owner: None, bytes });
        }
        Ok(free.into_iter().map(|(id, ..)| id).collect())
    }

    /// Replaces a reference durably; false if it is the same. The id and its owner stay throughout.
    pub async fn repoint(
        self: &Arc<Self>,
        id: SecretId,
        reference: Reference,
        raw: SecretBytes,
        caller: Principal,
    ) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        let turn = self.turn(caller).await;
        blocking(turn, move || {
            let _writing = registry.writing.lock();
            registry.check_readable()?;
            let known = registry.owned(id).filter(|known| caller.may_use(known.owner));
            let Some(OwnedRegistration { what, owner, .. }) = known else {
                return Err(RegistryError::NotRegistered);
            };
            match what {
                Registered::Reference(known) if **known == reference => return Ok(false),
                Registered::Reference(_) => {}
                // The registration is the only copy of a literal, which a key may still decrypt.
                Registered::Literal(_) | Registered::Invalid(_) => {
                    return Err(RegistryError::Exists);
                }
                Registered::Unreadable(why) => return Err(RegistryError::Unreadable(why)),
            }
            let what = Registered::reference(reference.clone());
            let new = Registration::Reference(reference, raw);
            let bytes = registry.check_quota(&new, caller)?;
            let file = registry.sealed(id, owner, &new)?;
            files::replace(&registry.directory.join(id.as_str()), &file)?;
            registry.known.write().secrets.insert(id, OwnedRegistration { what, owner, bytes });
            Ok(true)
        })
        .await
    }

    /// Notes podman's names of ids durably, and returns how many changed; ids that the caller may not use are ignored.
    pub async fn note_names(
        self: &Arc<Self>,
        mut names: Vec<(SecretId, PodmanName)>,
        caller: Principal,
    ) -> Result<u64, RegistryError> {
        let registry = Arc::clone(self);
        let turn = self.turn(caller).await;
        blocking(turn, move || {
            let _writing = registry.writing.lock();
            registry.check_readable()?;
            registry.trash.check_readable()?;
            names.retain(|(id, _)| registry.has(*id, caller) || registry.trash.holds(*id, caller));
            Ok(registry.names.note(names, |id| !registry.is_free(id))?)
        })
        .await
    }
}
