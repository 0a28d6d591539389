//! Deleting registrations, and restoring them within ten minutes.

use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretId;
use tokio::time::Instant;

use super::{Keys, REPLACE_WINDOW, Registered, Registry, RegistryError, STORE_RESERVE, blocking};
use crate::model::clock::Now;
use crate::model::principal::Principal;
use crate::sys::files;

impl Registry {
    /// Deletes a registration durably; it can be restored for ten minutes. False if there was none for this caller.
    /// Without `force`, the deletion is refused while nothing could be stored in its place.
    pub async fn delete(
        self: &Arc<Self>,
        id: SecretId,
        now: Now,
        force: bool,
        caller: Principal,
    ) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        let turn = self.turn(caller).await;
        let deleted =
            blocking(turn, move || registry.delete_blocking(id, now, force, caller)).await;
        let owner = caller.as_owner();
        match &deleted {
            Ok(true) => {
                self.last_delete.lock().insert(owner, (id, Instant::now()));
                // The store that follows belongs to it.
                self.refused_delete.lock().remove(&owner);
            }
            // Podman goes on with the store of `create --replace`, which must fail too.
            Err(_) if !force => {
                self.refused_delete.lock().insert(owner, Instant::now());
            }
            Ok(false) | Err(_) => {}
        }
        deleted
    }

    fn delete_blocking(
        &self,
        id: SecretId,
        now: Now,
        force: bool,
        caller: Principal,
    ) -> Result<bool, RegistryError> {
        let _writing = self.writing.lock();
        let Some(owner) = self.owner(id).filter(|owner| caller.may_use(*owner)) else {
            return self.check_readable().map(|()| false);
        };
        if !force {
            self.check_readable()?;
            self.can_store().map_err(|why| RegistryError::Irreplaceable(id, why))?;
        }
        self.trash.move_in(id, owner, &self.directory.join(id.as_str()), now)?;
        self.known.write().secrets.remove(&id);
        self.bound_trash(caller, now);
        Ok(true)
    }

    /// Checks whether a secret could be stored now, also a literal if there is a key backend.
    fn can_store(&self) -> Result<(), String> {
        if matches!(&*self.keys.read(), Keys::Closed) {
            return Err("there is no key to seal a literal with".into());
        }
        files::create_private_directory(&self.directory)
            .and_then(|()| files::probe_write(&self.directory, STORE_RESERVE))
            .map_err(|error| format!("{}: {error}", self.directory.display()))
    }

    /// Registers again what was deleted under `id` within the last ten minutes.
    pub async fn restore(
        self: &Arc<Self>,
        id: SecretId,
        caller: Principal,
    ) -> Result<(), RegistryError> {
        let registry = Arc::clone(self);
        let turn = self.turn(caller).await;
        blocking(turn, move || registry.restore_blocking(id, caller)).await
    }

    fn restore_blocking(&self, id: SecretId, caller: Principal) -> Result<(), RegistryError> {
        let _writing = self.writing.lock();
        self.check_readable()?;
        if caller != Principal::Admin && !self.trash.holds(id, caller) {
            self.trash.check_readable()?;
            return Err(match self.has(id, caller) {
                true => RegistryError::Exists,
                false => RegistryError::NothingDeleted,
            });
        }
        let path = self.directory.join(id.as_str());
        // It is not there if an earlier try got as far as to move it.
        if self.trash.path(id).exists() {
            // An invalid file stays in the trash.
            match self.read(id, &self.trash.path(id)).what {
                Registered::Invalid(why) => return Err(RegistryError::Invalid(why)),
                Registered::Unreadable(why) => return Err(RegistryError::Unreadable(why)),
                Registered::Reference(_) | Registered::Literal(_) => {}
            }
        }
        self.trash.move_back(id, &path, self.get(id).is_none())?;
        self.known.write().secrets.insert(id, self.read(id, &path));
        Ok(())
    }

    /// The deleted registrations of a caller, and how long each can be restored.
    pub fn restorable(
        &self,
        now: Now,
        caller: Principal,
    ) -> Result<Vec<(SecretId, Duration)>, RegistryError> {
        self.trash.check_readable()?;
        Ok(self.trash.restorable(now, caller))
    }

    /// A caller's last deletion, if a store now may belong to the same `podman secret create --replace`.
    pub fn deleted_just_now(&self, caller: Principal) -> Option<SecretId> {
        let last = self.last_delete.lock().get(&caller.as_owner()).copied();
        last.filter(|(_, at)| at.elapsed() < REPLACE_WINDOW).map(|(id, _)| id)
    }

    /// A deleted reference as text; empty if it was a literal.
    pub fn describe_deleted(&self, id: SecretId) -> String {
        match self.read(id, &self.trash.path(id)).what {
            Registered::Reference(reference) => reference.to_string(),
            _ => String::new(),
        }
    }

    /// Removes what was deleted more than ten minutes before `now`.
    pub fn purge(&self, now: Now) {
        let _writing = self.writing.lock();
        self.trash.purge(now);
    }
}
