//! What podman registered: one file an id, a reference or a sealed literal.
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
use tokio::time::Instant;

use crate::crypto::keyring::Keyring;
use crate::model::reference::Reference;
use crate::registry::resolved::ResolvedReference;
use crate::sys::files;

mod deletion;
mod error;
mod label;
mod podman_names;
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
    /// One writer: a check and its write are one step, also if the caller has disconnected.
    writing: Mutex<()>,
    names: PodmanNames,
    refused_delete: Mutex<Option<Instant>>,
    last_delete: Mutex<Option<(SecretId, Instant)>>,
}

/// The registrations in RAM.
#[derive(Default)]
struct Known {
    secrets: HashMap<SecretId, Registered>,
    /// Why the directory cannot be read, if it cannot.
    fault: Option<String>,
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
        let is_unreadable = |what: &Registered| matches!(what, Registered::Unreadable(_));
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
            match (found, self.get(id)) {
                (Registered::Unreadable(_), Some(known)) if known.is_usable() => (id, known),
                (found, _) => (id, found),
            }
        });
        let secrets = secrets.collect();
        *self.known.write() = Known { secrets, fault: None };
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
        self.known.read().secrets.get(&id).cloned()
    }

    /// The registration of an id, or why there is none.
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

    /// The registrations in RAM, in the order of ids.
    pub fn all(&self) -> Vec<(SecretId, Registered)> {
        let known = self.known.read();
        let mut all: Vec<_> = known.secrets.iter().map(|(id, what)| (*id, what.clone())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// All registrations, in the order of ids; an error while the directory cannot be read.
    pub fn list(&self) -> Result<Vec<(SecretId, Registered)>, RegistryError> {
        self.check_readable()?;
        Ok(self.all())
    }

    /// Registers a secret durably. Storing the same data again succeeds.
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

    /// Whether an id is neither registered nor restorable.
    pub fn is_free(&self, id: SecretId) -> bool {
        self.get(id).is_none() && !self.trash.holds(id)
    }

    /// Replaces a reference durably; false if it is the same. The id stays registered throughout.
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
                // The registration is the only copy of a literal, which a key may still decrypt.
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

    /// The podman names of registered and restorable ids, as far as they are noted.
    pub fn names(&self) -> BTreeMap<SecretId, PodmanName> {
        self.names.all()
    }

    /// Notes podman's names of ids durably, and returns how many changed.
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(RegistryError::Storage("the write was interrupted".into())))
}

#[cfg(test)]
mod tests;
