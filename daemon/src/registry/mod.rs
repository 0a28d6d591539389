//! What podman registered: one file an id, a reference or a sealed literal, with the uid of the user that stored it.
//! What a user may not use does not exist for that user.
//!
//! `secrets/ID` is authoritative; RAM has a copy, which is read at the start. `deleted/ID` keeps a deleted
//! registration for ten minutes, since `podman secret create --replace` deletes before it stores. A file or
//! directory that cannot be read is not treated as missing: reading it is retried.

pub(crate) mod reference_file;
pub(crate) mod resolved;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use psi_common::{MAX_SECRET_BYTES, SecretBytes, SecretId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::crypto::keyring::Keyring;
use crate::model::principal::{Owner, Principal};
use crate::model::reference::Reference;
use crate::registry::resolved::ResolvedReference;
use crate::sys::files;

mod changes;
mod deletion;
mod error;
mod label;
mod podman_names;
mod quota;
mod sealing;
mod trash;

pub(crate) use error::RegistryError;
pub(crate) use podman_names::PodmanName;
use podman_names::PodmanNames;
pub(crate) use sealing::SealedUnder;
use trash::Trash;

/// How long stores are refused after a refused delete: podman goes on with the store of
/// `secret create --replace`, and would keep two secrets with one name.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// How long after a delete a store may belong to the same `--replace`: it may wait for a key.
const REPLACE_WINDOW: Duration = Duration::from_secs(15);

/// The space on the disk that a store needs at most.
const STORE_RESERVE: usize = MAX_SECRET_BYTES + 64 * 1_024;

/// The registered secrets.
pub struct Registry {
    directory: PathBuf,
    trash: Trash,
    keys: RwLock<Keys>,
    known: RwLock<Known>,
    /// Changes of users, one at a time: root's waits for at most one of them.
    users_turn: Arc<Semaphore>,
    /// One writer: a check and its write are one step, also if the caller has disconnected.
    writing: Mutex<()>,
    names: PodmanNames,
    /// By the user that asked: no user delays another one's stores.
    refused_delete: Mutex<HashMap<Owner, Instant>>,
    last_delete: Mutex<HashMap<Owner, (SecretId, Instant)>>,
}

/// The registrations in RAM.
#[derive(Default)]
struct Known {
    secrets: HashMap<SecretId, OwnedRegistration>,
    /// Why the directory cannot be read, if it cannot.
    fault: Option<String>,
}

/// A registration and its owner.
#[derive(Clone)]
struct OwnedRegistration {
    what: Registered,
    owner: Owner,
    /// The length of the literal or of the reference's text.
    bytes: usize,
}

/// The key that literals are encrypted with.
#[derive(Clone)]
pub enum Keys {
    /// There is no key backend, so literals cannot be stored.
    None,
    /// The key is not unlocked.
    Closed,
    /// The key is unlocked.
    Open(Arc<Keyring>),
}

/// A registration.
#[derive(Clone)]
pub enum Registered {
    /// A reference.
    Reference(Arc<ResolvedReference>),
    /// A decrypted literal.
    Literal(Arc<SecretBytes>),
    /// An invalid file: why, and what to do.
    Invalid(Arc<str>),
    /// A file that cannot be read at present: why, and what to do.
    Unreadable(Arc<str>),
}

/// Data to be registered.
pub enum Registration {
    /// A reference, with the bytes that podman passed.
    Reference(Reference, SecretBytes),
    /// A literal.
    Literal(SecretBytes),
}

/// The turn of a user's change; none for an admin's.
type Turn = Option<OwnedSemaphorePermit>;

impl Registered {
    fn reference(reference: Reference) -> Self {
        Self::Reference(Arc::new(ResolvedReference::new(reference)))
    }

    fn is_usable(&self) -> bool {
        matches!(self, Self::Reference(_) | Self::Literal(_))
    }
}

impl Registry {
    /// Reads the registrations below the state directory. Invalid files are kept and reported.
    pub fn open(state: &Path, keys: Keys) -> Self {
        let registry = Self {
            directory: state.join("secrets"),
            trash: Trash::open(state.join("deleted")),
            keys: RwLock::new(keys),
            known: RwLock::default(),
            users_turn: Arc::new(Semaphore::new(1)),
            writing: Mutex::default(),
            names: PodmanNames::open(state.join("names")),
            refused_delete: Mutex::default(),
            last_delete: Mutex::default(),
        };
        registry.read_all();
        registry
    }

    /// Decrypts the literals with an unlocked key.
    pub fn unlock(&self, keyring: Arc<Keyring>) {
        let _writing = self.writing.lock();
        *self.keys.write() = Keys::Open(keyring);
        self.read_all();
    }

    /// Whether a file or directory could not be read.
    pub fn has_unreadable(&self) -> bool {
        let known = self.known.read();
        let is_unreadable =
            |known: &OwnedRegistration| matches!(known.what, Registered::Unreadable(_));
        known.fault.is_some()
            || self.trash.fault().is_some()
            || known.secrets.values().any(is_unreadable)
    }

    /// Retries to read them.
    pub fn reload_unreadable(&self) {
        let _writing = self.writing.lock();
        if self.trash.fault().is_some() {
            self.trash.reload();
        }
        if self.has_unreadable() {
            self.read_all();
        }
    }

    /// If the directory cannot be read, the registrations in RAM stay, and changes are refused.
    fn read_all(&self) {
        let ids = match files::list_ids(&self.directory) {
            Ok(ids) => ids,
            Err(error) => {
                self.known.write().fault =
                    Some(files::problem(&self.directory, &error).to_string());
                return;
            }
        };
        let secrets = ids.into_iter().map(|id| {
            let found = self.read(id, &self.directory.join(id.as_str()));
            match (&found.what, self.owned(id)) {
                (Registered::Unreadable(_), Some(known)) if known.what.is_usable() => (id, known),
                _ => (id, found),
            }
        });
        let secrets = secrets.collect();
        *self.known.write() = Known { secrets, fault: None };
        self.trash.read_owners(|id, path| self.read(id, path).owner);
    }

    /// Why the registrations cannot be read, if they cannot, and what to do.
    pub fn fault(&self) -> Option<String> {
        self.known.read().fault.clone()
    }

    /// Why the deleted registrations cannot be read, if they cannot, and what to do.
    pub fn trash_fault(&self) -> Option<String> {
        self.trash.fault()
    }

    fn check_readable(&self) -> Result<(), RegistryError> {
        self.fault().map_or(Ok(()), |why| Err(RegistryError::Unreadable(why.into())))
    }

    /// The registration of an id in RAM.
    pub fn get(&self, id: SecretId) -> Option<Registered> {
        self.known.read().secrets.get(&id).map(|known| known.what.clone())
    }

    fn owned(&self, id: SecretId) -> Option<OwnedRegistration> {
        self.known.read().secrets.get(&id).cloned()
    }

    /// The owner of a registered id.
    pub fn owner(&self, id: SecretId) -> Option<Owner> {
        self.known.read().secrets.get(&id).map(|known| known.owner)
    }

    /// Whether an id is registered, and this caller may use it.
    pub fn has(&self, id: SecretId, caller: Principal) -> bool {
        self.owner(id).is_some_and(|owner| caller.may_use(owner))
    }

    /// The registration of an id, or why there is none for this caller.
    pub fn find(&self, id: SecretId, caller: Principal) -> Result<Registered, RegistryError> {
        if let Some(known) = self.owned(id).filter(|known| caller.may_use(known.owner)) {
            return Ok(known.what);
        }
        self.check_readable()?;
        if self.trash.holds(id, caller) {
            return Err(RegistryError::Deleted(id));
        }
        Err(RegistryError::NotRegistered)
    }

    /// The registrations in RAM that a caller may use, in the order of ids.
    pub fn all_of(&self, caller: Principal) -> Vec<(SecretId, Registered)> {
        let known = self.known.read();
        let all = known.secrets.iter().filter(|(_, known)| caller.may_use(known.owner));
        let mut all: Vec<_> = all.map(|(id, known)| (*id, known.what.clone())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// The registrations in RAM, in the order of ids.
    pub fn all(&self) -> Vec<(SecretId, Registered)> {
        self.all_of(Principal::Admin)
    }

    /// The registrations that a caller may use, in the order of ids; an error while the directory cannot be read.
    pub fn list(&self, caller: Principal) -> Result<Vec<(SecretId, Registered)>, RegistryError> {
        self.check_readable()?;
        Ok(self.all_of(caller))
    }

    /// Registers a secret durably. Storing the same data again succeeds.
    pub async fn store(
        self: &Arc<Self>,
        id: SecretId,
        what: Registration,
        caller: Principal,
    ) -> Result<(), RegistryError> {
        let refused = self.refused_delete.lock().get(&caller.as_owner()).copied();
        if refused.is_some_and(|at| Instant::now() < at + STORE_PAUSE) {
            return Err(RegistryError::Paused);
        }
        let registry = Arc::clone(self);
        let turn = self.turn(caller).await;
        blocking(turn, move || registry.store_blocking(id, what, caller)).await
    }

    fn store_blocking(
        &self,
        id: SecretId,
        what: Registration,
        caller: Principal,
    ) -> Result<(), RegistryError> {
        let _writing = self.writing.lock();
        self.check_readable()?;
        if self.is_foreign(id, caller) {
            return Err(RegistryError::Foreign);
        }
        let path = self.directory.join(id.as_str());
        if let Some(known) = self.get(id) {
            let same = match (&known, &what) {
                (Registered::Literal(known), Registration::Literal(new)) => known.same_as(new),
                (Registered::Reference(_), Registration::Reference(_, new)) => {
                    self.text_of(id, &path).is_some_and(|known| known == new.expose_secret())
                }
                (Registered::Unreadable(why), _) => {
                    return Err(RegistryError::Unreadable(Arc::clone(why)));
                }
                _ => false,
            };
            return if same { Ok(()) } else { Err(RegistryError::Exists) };
        }
        let owner = caller.as_owner();
        let bytes = self.check_quota(&what, caller)?;
        let file = self.sealed(id, owner, &what)?;
        let what = match what {
            Registration::Reference(reference, _) => Registered::reference(reference),
            Registration::Literal(value) => Registered::Literal(Arc::new(value)),
        };
        files::create_private_directory(&self.directory)?;
        files::replace(&path, &file)?;
        self.known.write().secrets.insert(id, OwnedRegistration { what, owner, bytes });
        Ok(())
    }

    /// Whether an id is registered or restorable, and another user's.
    fn is_foreign(&self, id: SecretId, caller: Principal) -> bool {
        let in_trash = |caller| self.trash.holds(id, caller);
        (self.get(id).is_some() && !self.has(id, caller))
            || (in_trash(Principal::Admin) && !in_trash(caller))
    }

    /// Whether an id is neither registered nor restorable.
    pub fn is_free(&self, id: SecretId) -> bool {
        self.get(id).is_none() && !self.trash.holds(id, Principal::Admin)
    }

    /// The podman names of registered and restorable ids, as far as they are noted.
    pub fn names(&self) -> BTreeMap<SecretId, PodmanName> {
        self.names.all()
    }
}

/// Does work that waits for the disk, in its turn.
async fn blocking<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    // The turn ends with the work, also if the caller has disconnected.
    let work = move || {
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(RegistryError::Storage("the write was interrupted".into())))
}

#[cfg(test)]
mod tests;
