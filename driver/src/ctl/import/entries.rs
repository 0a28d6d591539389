//! What is to be imported.

use psi_common::SecretBytes;

/// A secret by its key at the provider.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: SecretBytes,
}

/// Secrets, no two of one key; and what is to be known of them.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) list: Vec<Entry>,
    pub(super) warnings: Vec<String>,
}

impl Entry {
    /// For a message.
    pub(super) fn copy(&self) -> Vec<u8> {
        self.value.expose_secret().to_vec()
    }
}

impl Entries {
    /// Takes one in; of two with one key, the later one counts.
    pub(super) fn put(&mut self, key: String, value: SecretBytes) {
        match self.list.iter_mut().find(|entry| entry.key == key) {
            None => self.list.push(Entry { key, value }),
            Some(known) => {
                if !known.value.same_as(&value) {
                    let key = key.escape_debug();
                    self.warnings
                        .push(format!("{key} is there twice; the later value is imported"));
                }
                known.value = value;
            }
        }
    }

    /// Notes what was left out, or what may surprise.
    pub(super) fn warn(&mut self, what: String) {
        self.warnings.push(what);
    }
}
