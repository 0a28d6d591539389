//! What podman registered: one file an id, a reference or a literal, sealed.
//!
//! `secrets/ID` is the truth and RAM its copy, read once. `deleted/ID` keeps what was deleted for ten
//! minutes, for `podman secret create --replace` deletes before it stores.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use psi_common::{SecretBytes, SecretId};

use crate::clock::Timestamp;
use crate::envelope::Vault;
use crate::files;
use crate::link::Link;
use crate::reference::Reference;
use crate::reference_file;

mod names;
mod sealing;

use names::Names;
pub use names::Noted;

/// How long a deleted secret can be restored.
const RESTORABLE: Duration = Duration::from_secs(600);

/// The registered secrets.
pub struct Registry {
    folder: PathBuf,
    deleted: PathBuf,
    keys: RwLock<Keys>,
    known: RwLock<HashMap<SecretId, Registered>>,
    /// One writer: a check and the write that follows belong together, also when who asked has gone.
    writing: Mutex<()>,
    names: Names,
    /// Why the folder cannot be read, when it cannot.
    fault: RwLock<Option<String>>,
}

/// What registrations are sealed with.
#[derive(Clone)]
pub enum Keys {
    /// There is no key backend: a reference has a checksum, and a literal cannot be kept.
    None,
    /// The key is not open, yet or at all: a reference is read, though not verified.
    Closed,
    /// The key is open: a reference without its seal is refused.
    Open(Arc<Vault>),
    /// The key is open for the first time: a reference from before it is believed.
    First(Arc<Vault>),
}

/// What an id stands for.
#[derive(Clone)]
pub enum Registered {
    /// A reference.
    Reference(Arc<Link>),
    /// A literal, opened.
    Literal(Arc<SecretBytes>),
    /// A file that cannot be used: why, and what to do.
    Unusable(Arc<str>),
}

/// What is to be registered.
pub enum Registration {
    /// A reference, with the bytes that podman was given.
    Reference(Reference, SecretBytes),
    /// A literal.
    Literal(SecretBytes),
}

/// Why a registration was not changed.
#[derive(Debug)]
pub enum RegistryError {
    /// The id stands for something else already.
    Exists,
    /// Nothing can be sealed without a key.
    NoKey,
    /// The id stands for nothing.
    NotRegistered,
    /// There is nothing to restore.
    NothingDeleted,
    /// What is to be restored cannot be used: why, and what to do.
    Unusable(Arc<str>),
    /// The disk or the kernel said no.
    Storage(String),
}

impl Registered {
    fn reference(reference: Reference) -> Self {
        Self::Reference(Arc::new(Link::new(reference)))
    }
}

impl Registry {
    /// Reads what is registered under the state folder. A file that cannot be used is kept and named.
    pub fn open(state: &Path, keys: Keys) -> Self {
        let registry = Self {
            folder: state.join("secrets"),
            deleted: state.join("deleted"),
            keys: RwLock::new(keys),
            known: RwLock::default(),
            writing: Mutex::default(),
            names: Names::open(state.join("names")),
            fault: RwLock::default(),
        };
        registry.read_all();
        registry
    }

    /// Takes a key over, and opens what it can with it.
    pub fn unlock(&self, vault: Arc<Vault>) {
        let _writing = lock(&self.writing);
        self.take(Keys::Open(vault));
    }

    fn take(&self, keys: Keys) {
        *write(&self.keys) = keys;
        self.read_all();
    }

    /// An unreadable folder is not an empty one: what is known stays, and nothing may be changed.
    fn read_all(&self) {
        let ids = match fs::read_dir(&self.folder) {
            Ok(folder) => folder.map(|file| Ok(file?.file_name())).collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let ids = match ids {
            Ok(ids) => ids,
            Err(error) => {
                *write(&self.fault) = Some(format!("{}: {error}", self.folder.display()));
                return;
            }
        };
        let known = ids
            .iter()
            .filter_map(|name| name.to_str()?.parse::<SecretId>().ok())
            .map(|id| (id, self.read(id, &self.folder.join(id.as_str()))))
            .collect();
        *write(&self.known) = known;
        *write(&self.fault) = None;
    }

    /// Why the registered secrets cannot be read, when they cannot.
    pub fn fault(&self) -> Option<String> {
        read(&self.fault).clone()
    }

    fn usable(&self) -> Result<(), RegistryError> {
        self.fault().map_or(Ok(()), |why| Err(RegistryError::Storage(why)))
    }

    /// What an id stands for.
    pub fn get(&self, id: SecretId) -> Option<Registered> {
        read(&self.known).get(&id).cloned()
    }

    /// Every registered id and what it stands for, sorted by id.
    pub fn all(&self) -> Vec<(SecretId, Registered)> {
        let mut all: Vec<_> =
            read(&self.known).iter().map(|(id, what)| (*id, what.clone())).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Registers a secret; it is durable when this returns. The same bytes again are no error.
    pub async fn store(
        self: &Arc<Self>,
        id: SecretId,
        what: Registration,
    ) -> Result<(), RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || registry.store_blocking(id, what)).await
    }

    fn store_blocking(&self, id: SecretId, what: Registration) -> Result<(), RegistryError> {
        let _writing = lock(&self.writing);
        self.usable()?;
        let path = self.folder.join(id.as_str());
        if let Some(known) = self.get(id) {
            let same = match (&known, &what) {
                (Registered::Literal(known), Registration::Literal(new)) => known.same_as(new),
                (Registered::Reference(_), Registration::Reference(_, new)) => {
                    self.text_of(id, &path).is_some_and(|known| known == new.expose_secret())
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
        files::make_private_folder(&self.folder)?;
        files::replace(&path, &file)?;
        write(&self.known).insert(id, known);
        Ok(())
    }

    /// Registers references from elsewhere, each whose id is free, and tells which; durable when this
    /// returns. Without an open key, [`Self::take_over_with`] is to seal them.
    pub fn take_over<'a>(
        &self,
        references: impl IntoIterator<Item = (SecretId, &'a Reference, &'a SecretBytes)>,
    ) -> Result<Vec<SecretId>, RegistryError> {
        let _writing = lock(&self.writing);
        self.usable()?;
        let free: Vec<_> = references.into_iter().filter(|(id, ..)| self.is_free(*id)).collect();
        if free.is_empty() {
            return Ok(Vec::new());
        }
        let vault = self.vault();
        let seal = |(id, _, raw): &(SecretId, _, &SecretBytes)| {
            reference_file::encode(id.as_str(), raw.expose_secret(), vault.as_deref())
        };
        let sealed = free.iter().map(seal).collect::<Result<Vec<_>, _>>()?;
        let files = free.iter().zip(&sealed).map(|((id, ..), file)| (id.as_str(), &file[..]));
        files::add_all(&self.folder, files)?;
        let mut known = write(&self.known);
        for (id, reference, _) in &free {
            known.insert(*id, Registered::reference((*reference).clone()));
        }
        Ok(free.into_iter().map(|(id, ..)| id).collect())
    }

    /// Whether an id is not registered, and was not a moment ago.
    pub fn is_free(&self, id: SecretId) -> bool {
        self.get(id).is_none() && !self.deleted.join(id.as_str()).exists()
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
            let _writing = lock(&registry.writing);
            registry.usable()?;
            match registry.get(id) {
                Some(Registered::Reference(known)) if **known == reference => return Ok(false),
                Some(Registered::Reference(_)) => {}
                // Nothing but the registration holds a literal; one that does not open may yet.
                Some(Registered::Literal(_) | Registered::Unusable(_)) => {
                    return Err(RegistryError::Exists);
                }
                None => return Err(RegistryError::NotRegistered),
            }
            let known = Registered::reference(reference.clone());
            let file = registry.sealed(id, &Registration::Reference(reference, raw))?;
            files::replace(&registry.folder.join(id.as_str()), &file)?;
            write(&registry.known).insert(id, known);
            Ok(true)
        })
        .await
    }

    /// Forgets a secret, durably, for ten minutes restorable; false when it was not registered.
    pub async fn delete(
        self: &Arc<Self>,
        id: SecretId,
        now: Timestamp,
    ) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || registry.delete_blocking(id, now)).await
    }

    fn delete_blocking(&self, id: SecretId, now: Timestamp) -> Result<bool, RegistryError> {
        let _writing = lock(&self.writing);
        self.usable()?;
        let path = self.folder.join(id.as_str());
        let grave = self.deleted.join(id.as_str());
        if self.get(id).is_none() {
            return Ok(false);
        }
        files::make_private_folder(&self.deleted)?;
        // The time of the deletion, by which it is purged, is the file's; an old one would be its end.
        let deleted_at = SystemTime::UNIX_EPOCH + Duration::from_millis(now.as_millis());
        let buried = fs::File::open(&path)
            .and_then(|file| file.set_modified(deleted_at).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&path, &grave));
        match buried {
            // Somebody was faster, or an earlier try got that far: what is left is to make it durable.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result?,
        }
        files::sync_folder_of(&grave)?;
        files::sync_folder_of(&path)?;
        write(&self.known).remove(&id);
        Ok(true)
    }

    /// Registers again what was deleted under `id` within the last ten minutes.
    pub async fn restore(self: &Arc<Self>, id: SecretId) -> Result<(), RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || registry.restore_blocking(id)).await
    }

    fn restore_blocking(&self, id: SecretId) -> Result<(), RegistryError> {
        let _writing = lock(&self.writing);
        self.usable()?;
        let path = self.folder.join(id.as_str());
        let grave = self.deleted.join(id.as_str());
        // What cannot be used stays where it is.
        if let Registered::Unusable(why) = self.read(id, &grave)
            && grave.exists()
        {
            return Err(RegistryError::Unusable(why));
        }
        // An earlier try may have got so far and no further: what is left is to make it durable.
        let is_moved = self.get(id).is_none() && path.exists();
        match files::rename_to_free(&grave, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(RegistryError::Exists);
            }
            Err(error) if error.kind() == ErrorKind::NotFound && is_moved => {
                files::sync_folder_of(&path)?;
                files::sync_folder_of(&grave)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(RegistryError::NothingDeleted);
            }
            result => result?,
        }
        write(&self.known).insert(id, self.read(id, &path));
        Ok(())
    }

    /// What can be restored at `now`, and for how long.
    pub fn restorable(&self, now: Timestamp) -> Vec<(SecretId, Duration)> {
        let mut found: Vec<_> = self
            .graves()
            .filter_map(|(id, deleted_at)| {
                let left = RESTORABLE.checked_sub(deleted_at.age(now))?;
                Some((id, left))
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// What a restorable id referred to, in the words of people; empty when it was no reference.
    pub fn about_deleted(&self, id: SecretId) -> String {
        match self.read(id, &self.deleted.join(id.as_str())) {
            Registered::Reference(reference) => reference.to_string(),
            Registered::Literal(_) | Registered::Unusable(_) => String::new(),
        }
    }

    /// Removes for good what was deleted ten minutes before `now`.
    pub fn purge(&self, now: Timestamp) {
        for (id, deleted_at) in self.graves() {
            if deleted_at.age(now) > RESTORABLE {
                let _ = fs::remove_file(self.deleted.join(id.as_str()));
            }
        }
    }

    /// What podman calls the registered and the restorable ids, as far as it was noted.
    pub fn names(&self) -> BTreeMap<SecretId, Noted> {
        self.names.all()
    }

    /// Notes what podman calls ids, and returns how many names changed; durable when this returns.
    pub async fn note_names(
        self: &Arc<Self>,
        names: Vec<(SecretId, Noted)>,
    ) -> Result<u64, RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || {
            let _writing = lock(&registry.writing);
            registry.usable()?;
            Ok(registry.names.note(names, |id| !registry.is_free(id))?)
        })
        .await
    }

    fn graves(&self) -> impl Iterator<Item = (SecretId, Timestamp)> {
        fs::read_dir(&self.deleted).into_iter().flatten().flatten().filter_map(|file| {
            let id = file.file_name().to_str()?.parse().ok()?;
            Some((id, file.metadata().ok()?.modified().ok()?.into()))
        })
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
