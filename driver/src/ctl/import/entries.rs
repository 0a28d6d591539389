//! The entries to import.

use psi_common::SecretBytes;

/// A secret by its key at the provider.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: SecretBytes,
}

/// Entries with distinct keys, and warnings about them.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) list: Vec<Entry>,
    pub(super) warnings: Vec<String>,
    /// Whether a source has an entry that is not here.
    pub(super) is_incomplete: bool,
}

impl Entry {
    /// A copy of the value, for the request.
    pub(super) fn copy(&self) -> Vec<u8> {
        self.value.expose_secret().to_vec()
    }
}

impl Entries {
    /// Adds an entry; of two with the same key, the later one wins.
    pub(super) fn put(&mut self, key: String, value: SecretBytes) {
        match self.list.iter_mut().find(|entry| entry.key == key) {
            None => self.list.push(Entry { key, value }),
            Some(known) => {
                if !known.value.same_as(&value) {
                    let key = key.escape_debug();
                    self.warnings.push(format!("{key} occurs twice; the later value is imported"));
                }
                known.value = value;
            }
        }
    }

    /// Removes an entry that a later one replaces by a value that is not known.
    pub(super) fn remove(&mut self, key: &str) {
        self.list.retain(|entry| entry.key != key);
    }

    /// Adds a warning that an entry of a source is not imported.
    pub(super) fn leave_out(&mut self, what: String) {
        self.is_incomplete = true;
        self.warn(what);
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, what: String) {
        self.warnings.push(what);
    }
}
