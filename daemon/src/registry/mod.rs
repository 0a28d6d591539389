//! What podman registered: one file an id, a reference or a sealed literal.
//!
//! `secrets/ID` is the truth and RAM its copy, read once. `deleted/ID` keeps what was deleted for ten
//! minutes, for `podman secret create --replace` deletes before it stores. What cannot be read says nothing
//! of what is registered: it is read again until it can be.

pub(crate) mod reference_file;
pub(crate) mod resolved;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use psi_common::{MAX_SECRET_BYTES, SecretBytes, SecretId};
use tokio::time::Instant;

use crate::crypto::keyring::Keyring;
use crate::model::clock::Now;
use crate::model::reference::Reference;
use crate::registry::resolved::ResolvedReference;
use crate::sys::files;

mod podman_names;
mod sealing;
mod trash;

pub(crate) use podman_names::PodmanName;
use podman_names::PodmanNames;
pub(crate) use sealing::SealedUnder;
use trash::Trash;

/// After a delete that was refused, stores are refused for so long: podman goes on with the store of
/// `secret create --replace`, and would keep two secrets of one name.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// How long after a delete a store may belong to it: it may wait for a key that is being opened.
const REPLACE_WINDOW: Duration = Duration::from_secs(15);

/// What a store needs on the disk at most.
const STORE_RESERVE: usize = MAX_SECRET_BYTES + 64 * 1_024;

/// The registered secrets.
pub struct Registry {
    directory: PathBuf,
    trash: Trash,
    keys: RwLock<Keys>,
    known: RwLock<Known>,
    /// One writer: a check and the write that follows belong together, also when who asked has gone.
    writing: Mutex<()>,
    names: PodmanNames,
    refused_delete: Mutex<Option<Instant>>,
    last_delete: Mutex<Option<(SecretId, Instant)>>,
}

/// What was read of the directory.
#[derive(Default)]
struct Known {
    secrets: HashMap<SecretId, Registered>,
    /// Why the directory cannot be read, when it cannot.
    fault: Option<String>,
}

/// What literals are sealed with.
#[derive(Clone)]
pub enum Keys {
    /// There is no key backend: a literal cannot be kept.
    None,
    /// The key is not open, yet or at all.
    Closed,
    /// The key is open.
    Open(Arc<Keyring>),
}

/// What an id stands for.
#[derive(Clone)]
pub enum Registered {
    /// A reference.
    Reference(Arc<ResolvedReference>),
    /// A literal, opened.
    Literal(Arc<SecretBytes>),
    /// A file that cannot be used: why, and what to do.
    Invalid(Arc<str>),
    /// A file that cannot be read now: why, and what to do.
    Unreadable(Arc<str>),
}

/// What is to be registered.
pub enum Registration {
    /// A reference, with the bytes that podman was given.
    Reference(Reference, SecretBytes),
    /// A literal.
    Literal(SecretBytes),
}

/// Why a registration was not found, or not changed.
#[derive(Debug)]
pub enum RegistryError {
    /// The id stands for something else already.
    Exists,
    /// A literal cannot be sealed: there is no key backend.
    NoBackend,
    /// A literal cannot be sealed: the key is not open.
    NoKey,
    /// The id stands for nothing.
    NotRegistered,
    /// The id stands for nothing since a while ago.
    Deleted(SecretId),
    /// There is nothing to restore.
    NothingDeleted,
    /// What is to be restored cannot be used: why, and what to do.
    Invalid(Arc<str>),
    /// What is registered cannot be read now: why, and what to do.
    Unreadable(Arc<str>),
    /// Nothing could be stored in place of what is to be deleted: why.
    Irreplaceable(SecretId, String),
    /// A delete was refused a moment ago.
    Paused,
    /// The disk or the kernel said no.
    Storage(String),
}

impl Registered {
    fn reference(reference: Reference) -> Self {
        Self::Reference(Arc::new(ResolvedReference::new(reference)))
    }

    fn is_usable(&self) -> bool {
        matches!(self, Self::Reference(_) | Self::Literal(_))
    }
}

impl Registry {
    /// Reads what is registered under the state directory. A file that cannot be used is kept and named.
    pub fn open(state: &Path, keys: Keys) -> Self {
        let registry = Self {
            directory: state.join("secrets"),
            trash: Trash::open(state.join("deleted")),
            keys: RwLock::new(keys),
            known: RwLock::default(),
            writing: Mutex::default(),
            names: PodmanNames::open(state.join("names")),
            refused_delete: Mutex::default(),
            last_delete: Mutex::default(),
        };
        registry.read_all();
        registry
    }

    /// Takes a key over, and opens what it can with it.
    pub fn unlock(&self, keyring: Arc<Keyring>) {
        let _writing = self.writing.lock();
        *self.keys.write() = Keys::Open(keyring);
        self.read_all();
    }

    /// Whether something could not be read, and is to be read again.
    pub fn has_unreadable(&self) -> bool {
        let known = self.known.read();
        let is_unreadable = |what: &Registered| matches!(what, Registered::Unreadable(_));
        known.fault.is_some()
            || self.trash.fault().is_some()
            || known.secrets.values().any(is_unreadable)
    }

    /// Reads again what could not be read.
    pub fn reload_unreadable(&self) {
        let _writing = self.writing.lock();
        if self.trash.fault().is_some() {
            self.trash.reload();
        }
        if self.has_unreadable() {
            self.read_all();
        }
    }

    /// An unreadable directory is not an empty one: what is known stays, and nothing may be changed.
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
            match (found, self.get(id)) {
                (Registered::Unreadable(_), Some(known)) if known.is_usable() => (id, known),
                (found, _) => (id, found),
            }
        });
        let secrets = secrets.collect();
        *self.known.write() = Known { secrets, fault: None };
    }

    /// Why the registered secrets cannot be read, when they cannot, and what to do.
    pub fn fault(&self) -> Option<String> {
        self.known.read().fault.clone()
    }

    /// Why the deleted secrets cannot be read, when they cannot, and what to do.
    pub fn trash_fault(&self) -> Option<String> {
        self.trash.fault()
    }

    fn check_readable(&self) -> Result<(), RegistryError> {
        self.fault().map_or(Ok(()), |why| Err(RegistryError::Unreadable(why.into())))
    }

    /// What an id stands for, as far as that is known.
    pub fn get(&self, id: SecretId) -> Option<Registered> {
        self.known.read().secrets.get(&id).cloned()
    }

    /// What an id stands for, or why nobody can tell, or since when it stands for nothing.
    pub fn find(&self, id: SecretId) -> Result<Registered, RegistryError> {
        if let Some(known) = self.get(id) {
            return Ok(known);
        }
        self.check_readable()?;
        if self.trash.holds(id) {
            return Err(RegistryError::Deleted(id));
        }
        Err(RegistryError::NotRegistered)
    }

    /// Every registered id and what it stands for, sorted by id, as far as that is known.
    pub fn all(&self) -> Vec<(SecretId, Registered)> {
        let known = self.known.read();
        let mut all: Vec<_> = known.secrets.iter().map(|(id, what)| (*id, what.clone())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Likewise; refused while the directory cannot be read, for then there may be more.
    pub fn list(&self) -> Result<Vec<(SecretId, Registered)>, RegistryError> {
        self.check_readable()?;
        Ok(self.all())
    }

    /// Registers a secret; it is durable when this returns. The same bytes again are no error.
    pub async fn store(
        self: &Arc<Self>,
        id: SecretId,
        what: Registration,
    ) -> Result<(), RegistryError> {
        let refused = *self.refused_delete.lock();
        if refused.is_some_and(|at| Instant::now() < at + STORE_PAUSE) {
            return Err(RegistryError::Paused);
        }
        let registry = Arc::clone(self);
        blocking(move || registry.store_blocking(id, what)).await
    }

    fn store_blocking(&self, id: SecretId, what: Registration) -> Result<(), RegistryError> {
        let _writing = self.writing.lock();
        self.check_readable()?;
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
        let file = self.sealed(id, &what)?;
        let known = match what {
            Registration::Reference(reference, _) => Registered::reference(reference),
            Registration::Literal(value) => Registered::Literal(Arc::new(value)),
        };
        files::create_private_directory(&self.directory)?;
        files::replace(&path, &file)?;
        self.known.write().secrets.insert(id, known);
        Ok(())
    }

    /// Registers references from elsewhere, each whose id is free, and tells which; durable when this
    /// returns.
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
            reference_file::encode(id.as_str(), raw.expose_secret())
        };
        let encoded: Vec<_> = free.iter().map(encode).collect();
        let files = free.iter().zip(&encoded).map(|((id, ..), file)| (id.as_str(), &file[..]));
        files::add_all(&self.directory, files)?;
        let mut known = self.known.write();
        for (id, reference, _) in &free {
            known.secrets.insert(*id, Registered::reference((*reference).clone()));
        }
        Ok(free.into_iter().map(|(id, ..)| id).collect())
    }

    /// Whether an id is not registered, and was not a moment ago.
    pub fn is_free(&self, id: SecretId) -> bool {
        self.get(id).is_none() && !self.trash.holds(id)
    }

    /// Puts another reference in the place of one, durably; false when `id` stood for it already. The id is
    /// registered all the while.
    pub async fn repoint(
        self: &Arc<Self>,
        id: SecretId,
        reference: Reference,
        raw: SecretBytes,
    ) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || {
            let _writing = registry.writing.lock();
            registry.check_readable()?;
            match registry.get(id) {
                Some(Registered::Reference(known)) if **known == reference => return Ok(false),
                Some(Registered::Reference(_)) => {}
                // Nothing but the registration holds a literal; one that does not open may yet.
                Some(Registered::Literal(_) | Registered::Invalid(_)) => {
                    return Err(RegistryError::Exists);
                }
                Some(Registered::Unreadable(why)) => return Err(RegistryError::Unreadable(why)),
                None => return Err(RegistryError::NotRegistered),
            }
            let known = Registered::reference(reference.clone());
            let file = registry.sealed(id, &Registration::Reference(reference, raw))?;
            files::replace(&registry.directory.join(id.as_str()), &file)?;
            registry.known.write().secrets.insert(id, known);
            Ok(true)
        })
        .await
    }

    /// Forgets a secret, durably, for ten minutes restorable; false when it was not registered. Without
    /// `force`, nothing is deleted while nothing could be stored in its place.
    pub async fn delete(
        self: &Arc<Self>,
        id: SecretId,
        now: Now,
        force: bool,
    ) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        let deleted = blocking(move || registry.delete_blocking(id, now, force)).await;
        match &deleted {
            Ok(true) => {
                *self.last_delete.lock() = Some((id, Instant::now()));
                // podman stores next, in the place of what it deleted just now.
                *self.refused_delete.lock() = None;
            }
            // Whatever kept podman from deleting must keep it from storing too.
            Err(_) if !force => *self.refused_delete.lock() = Some(Instant::now()),
            Ok(false) | Err(_) => {}
        }
        deleted
    }

    fn delete_blocking(&self, id: SecretId, now: Now, force: bool) -> Result<bool, RegistryError> {
        let _writing = self.writing.lock();
        let is_known = self.get(id).is_some();
        if !is_known {
            return self.check_readable().map(|()| false);
        }
        if !force {
            self.check_readable()?;
            self.can_store().map_err(|why| RegistryError::Irreplaceable(id, why))?;
        }
        self.trash.move_in(id, &self.directory.join(id.as_str()), now)?;
        self.known.write().secrets.remove(&id);
        Ok(true)
    }

    /// Whether a secret could be stored now, a literal too if any can be; if not, why.
    fn can_store(&self) -> Result<(), String> {
        if matches!(&*self.keys.read(), Keys::Closed) {
            return Err("there is no key to seal a literal with".into());
        }
        files::create_private_directory(&self.directory)
            .and_then(|()| files::probe_write(&self.directory, STORE_RESERVE))
            .map_err(|error| format!("{}: {error}", self.directory.display()))
    }

    /// Registers again what was deleted under `id` within the last ten minutes.
    pub async fn restore(self: &Arc<Self>, id: SecretId) -> Result<(), RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || registry.restore_blocking(id)).await
    }

    fn restore_blocking(&self, id: SecretId) -> Result<(), RegistryError> {
        let _writing = self.writing.lock();
        self.check_readable()?;
        let path = self.directory.join(id.as_str());
        // It is not there if an earlier try got as far as to move it.
        if self.trash.path(id).exists() {
            // What cannot be used stays where it is.
            match self.read(id, &self.trash.path(id)) {
                Registered::Invalid(why) => return Err(RegistryError::Invalid(why)),
                Registered::Unreadable(why) => return Err(RegistryError::Unreadable(why)),
                Registered::Reference(_) | Registered::Literal(_) => {}
            }
        }
        self.trash.move_back(id, &path, self.get(id).is_none())?;
        self.known.write().secrets.insert(id, self.read(id, &path));
        Ok(())
    }

    /// What can be restored at `now`, and for how long.
    pub fn restorable(&self, now: Now) -> Result<Vec<(SecretId, Duration)>, RegistryError> {
        self.trash.check_readable()?;
        Ok(self.trash.restorable(now))
    }

    /// What was deleted last, if that may be a part of the same `podman secret create --replace`.
    pub fn deleted_just_now(&self) -> Option<SecretId> {
        let last = *self.last_delete.lock();
        last.filter(|(_, at)| at.elapsed() < REPLACE_WINDOW).map(|(id, _)| id)
    }

    /// What a restorable id referred to, in the words of people; empty when it was no reference.
    pub fn describe_deleted(&self, id: SecretId) -> String {
        match self.read(id, &self.trash.path(id)) {
            Registered::Reference(reference) => reference.to_string(),
            _ => String::new(),
        }
    }

    /// Removes for good what was deleted ten minutes before `now`.
    pub fn purge(&self, now: Now) {
        let _writing = self.writing.lock();
        self.trash.purge(now);
    }

    /// What podman calls the registered and the restorable ids, as far as it was noted.
    pub fn names(&self) -> BTreeMap<SecretId, PodmanName> {
        self.names.all()
    }

    /// Notes what podman calls ids, and returns how many names changed; durable when this returns.
    pub async fn note_names(
        self: &Arc<Self>,
        names: Vec<(SecretId, PodmanName)>,
    ) -> Result<u64, RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || {
            let _writing = registry.writing.lock();
            registry.check_readable()?;
            registry.trash.check_readable()?;
            Ok(registry.names.note(names, |id| !registry.is_free(id))?)
        })
        .await
    }
}

impl From<getrandom::Error> for RegistryError {
    fn from(error: getrandom::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<io::Error> for RegistryError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(RegistryError::Storage("the write was interrupted".into())))
}

#[cfg(test)]
mod tests;
