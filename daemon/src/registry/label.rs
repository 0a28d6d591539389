//! What people call a registration, and when it was stored.

use psi_common::SecretId;

use super::{Registered, Registry};
use crate::model::clock::Timestamp;

impl Registry {
    /// Podman's name of an id, if it is noted; else what its reference names.
    pub(crate) fn label(&self, id: SecretId) -> Option<String> {
        let noted = self.names.name_of(id);
        noted.or_else(|| match self.get(id)? {
            Registered::Reference(reference) => Some(reference.to_string()),
            _ => None,
        })
    }

    /// When the file of a registration was written. It reads the disk.
    pub(crate) fn stored_at(&self, id: SecretId) -> Option<Timestamp> {
        let file = std::fs::metadata(self.directory.join(id.as_str()));
        file.and_then(|file| file.modified()).ok().map(Timestamp::from)
    }
}
