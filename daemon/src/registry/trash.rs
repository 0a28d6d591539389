//! The trash: deleted registrations, which can be restored for ten minutes.
//!
//! A deletion's age is measured on the boot clock; after a restart, by the file's modification time.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use psi_common::SecretId;

use super::RegistryError;
use crate::model::clock::{BootInstant, Now, Timestamp};
use crate::model::principal::{Owner, Principal};
use crate::sys::files;

/// How long a deleted secret can be restored.
pub(super) const RESTORABLE: Duration = Duration::from_secs(600);

/// The directory of deleted registrations, with a copy in RAM.
pub(super) struct Trash {
    directory: PathBuf,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    deleted: HashMap<SecretId, Deletion>,
    /// The owners; one that is not known yet counts as root.
    owners: HashMap<SecretId, Owner>,
    /// Why the directory cannot be read, when it cannot.
    fault: Option<String>,
}

/// The time of a deletion.
#[derive(Clone, Copy)]
enum Deletion {
    /// After the start of the process.
    Here(BootInstant),
    /// Before it, by the file's time.
    Before(Timestamp),
}

impl Deletion {
    fn age(self, now: Now) -> Duration {
        match self {
            Self::Here(at) => at.age(now.boot),
            Self::Before(at) => at.age(now.wall),
        }
    }
}

impl Known {
    fn owner(&self, id: SecretId) -> Owner {
        self.owners.get(&id).copied().flatten()
    }
}

impl Trash {
    pub(super) fn open(directory: PathBuf) -> Self {
        let trash = Self { directory, known: RwLock::default() };
        trash.reload();
        trash
    }

    /// If the directory cannot be read, the copy in RAM stays.
    pub(super) fn reload(&self) {
        let found = self.scan();
        let mut known = self.known.write();
        match found {
            Ok(found) => {
                known.deleted = found
                    .into_iter()
                    .map(|(id, at)| (id, known.deleted.get(&id).copied().unwrap_or(at)))
                    .collect();
                known.fault = None;
            }
            Err(error) => known.fault = Some(files::problem(&self.directory, &error).to_string()),
        }
    }

    fn scan(&self) -> io::Result<Vec<(SecretId, Deletion)>> {
        let times = self.ids()?.into_iter().map(|id| {
            let deleted_at = fs::symlink_metadata(self.path(id))?.modified()?;
            Ok((id, Deletion::Before(deleted_at.into())))
        });
        times.collect()
    }

    /// The ids of the files that are here.
    pub(super) fn ids(&self) -> io::Result<Vec<SecretId>> {
        files::list_ids(&self.directory)
    }

    /// Where the file of a deleted secret is.
    pub(super) fn path(&self, id: SecretId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.known.read().fault.clone()
    }

    pub(super) fn check_readable(&self) -> Result<(), RegistryError> {
        self.fault().map_or(Ok(()), |why| Err(RegistryError::Unreadable(why.into())))
    }

    /// Whether an id can be restored by a caller.
    pub(super) fn holds(&self, id: SecretId, caller: Principal) -> bool {
        let known = self.known.read();
        known.deleted.contains_key(&id) && caller.may_use(known.owner(id))
    }

    /// Reads the owners that are not known.
    pub(super) fn read_owners(&self, read: impl Fn(SecretId, &Path) -> Owner) {
        let unknown: Vec<SecretId> = {
            let known = self.known.read();
            known.deleted.keys().filter(|id| !known.owners.contains_key(id)).copied().collect()
        };
        for id in unknown {
            let owner = read(id, &self.path(id));
            self.known.write().owners.insert(id, owner);
        }
    }

    /// The ids of a user, the oldest first.
    pub(super) fn oldest_of(&self, uid: u32, now: Now) -> Vec<SecretId> {
        let known = self.known.read();
        let of_user = known.deleted.iter().filter(|(id, _)| known.owner(**id) == Some(uid));
        let mut ages: Vec<_> = of_user.map(|(id, at)| (at.age(now), *id)).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        ages.into_iter().map(|(_, id)| id).collect()
    }

    /// Removes an id for good.
    pub(super) fn remove(&self, id: SecretId) {
        let _ = fs::remove_file(self.path(id));
        self.known.write().deleted.remove(&id);
    }

    /// Moves a file here, durably.
    pub(super) fn move_in(
        &self,
        id: SecretId,
        owner: Owner,
        path: &Path,
        now: Now,
    ) -> io::Result<()> {
        files::create_private_directory(&self.directory)?;
        let here = self.path(id);
        // The time of the deletion, by which it is purged after a restart, is the file's; an old one would be
        // its end.
        let deleted_at = SystemTime::from(now.wall);
        let moved = fs::File::open(path)
            .and_then(|file| file.set_modified(deleted_at).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(path, &here));
        match moved {
            // An earlier attempt moved it: what is left is to make it durable.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result?,
        }
        files::sync_parent(&here)?;
        files::sync_parent(path)?;
        if here.exists() {
            let mut known = self.known.write();
            known.deleted.insert(id, Deletion::Here(now.boot));
            known.owners.insert(id, owner);
        }
        Ok(())
    }

    /// Moves a file back, durably; `is_free` says whether nothing is registered under its id.
    pub(super) fn move_back(
        &self,
        id: SecretId,
        path: &Path,
        is_free: bool,
    ) -> Result<(), RegistryError> {
        let here = self.path(id);
        // An earlier try may have got so far and no further: what is left is to make it durable.
        let is_moved = is_free && path.exists();
        match files::rename_no_replace(&here, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(RegistryError::Exists);
            }
            Err(error) if error.kind() == ErrorKind::NotFound && is_moved => {
                files::sync_parent(path)?;
                files::sync_parent(&here)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.check_readable()?;
                return Err(RegistryError::NothingDeleted);
            }
            result => result?,
        }
        self.known.write().deleted.remove(&id);
        Ok(())
    }

    /// A caller's restorable ids in order, and for how long.
    pub(super) fn restorable(&self, now: Now, caller: Principal) -> Vec<(SecretId, Duration)> {
        let known = self.known.read();
        let left =
            known.deleted.iter().filter(|(id, _)| caller.may_use(known.owner(**id))).filter_map(
                |(id, deletion)| Some((*id, RESTORABLE.checked_sub(deletion.age(now))?)),
            );
        let mut left: Vec<_> = left.collect();
        left.sort_unstable();
        left
    }

    /// Removes what can no longer be restored.
    pub(super) fn purge(&self, now: Now) {
        let mut known = self.known.write();
        known.deleted.retain(|id, deletion| {
            let is_over = deletion.age(now) > RESTORABLE;
            // A failed removal is retried.
            !is_over || matches!(fs::remove_file(self.path(*id)), Err(error) if error.kind() != ErrorKind::NotFound)
        });
        let Known { deleted, owners, .. } = &mut *known;
        owners.retain(|id, _| deleted.contains_key(id));
    }
}
