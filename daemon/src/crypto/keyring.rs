//! The data keys in use.

use std::sync::Arc;

use parking_lot::RwLock;
use psi_common::SecretBytes;

use crate::crypto::aead::{Aead, DataKey, TAG_LEN};
use crate::crypto::envelope::{self, AadContext, Envelope, EnvelopeError, WrappedKeyHeader};

/// The data keys in use: the present one, which seals, and during a rekey the former ones, which still open.
pub struct Keyring {
    keys: RwLock<Vec<Arc<Key>>>,
}

/// A data key and its wrapped-key header.
struct Key {
    data: DataKey,
    aead: Aead,
    wrapped: WrappedKeyHeader,
}

impl Keyring {
    /// A keyring with one key.
    pub fn new(key: DataKey, wrapped: WrappedKeyHeader) -> Self {
        Self { keys: RwLock::new(vec![Arc::new(Key::new(key, wrapped))]) }
    }

    /// Makes `key` the present one; the former ones still open.
    pub fn set_present(&self, key: DataKey, wrapped: WrappedKeyHeader) {
        self.keys.write().insert(0, Arc::new(Key::new(key, wrapped)));
    }

    /// Adds a former key, which only opens.
    pub fn add_former(&self, key: DataKey, wrapped: WrappedKeyHeader) {
        self.keys.write().push(Arc::new(Key::new(key, wrapped)));
    }

    /// Removes the former keys.
    pub fn remove_former(&self) {
        self.keys.write().truncate(1);
    }

    /// Whether there are former keys.
    pub fn has_former(&self) -> bool {
        self.keys.read().len() > 1
    }

    /// Calls `inspect` with the keys, the present one first.
    pub fn with_keys<T>(&self, inspect: impl FnOnce(&[&DataKey]) -> T) -> T {
        let keys = self.keys.read().clone();
        inspect(&keys.iter().map(|key| &key.data).collect::<Vec<_>>())
    }

    /// Seals `plaintext` into a file.
    pub fn seal(
        &self,
        content: AadContext<'_>,
        plaintext: &SecretBytes,
    ) -> Result<Vec<u8>, getrandom::Error> {
        let key = self.present();
        envelope::seal(content, &key.wrapped, &key.aead, plaintext)
    }

    /// Seals what `write` appends, at most `size` bytes, in place, so that a large plaintext has no second copy in
    /// memory.
    pub fn seal_written(
        &self,
        content: AadContext<'_>,
        size: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, getrandom::Error> {
        let key = self.present();
        let (nonce, mut file) = envelope::begin(content, &key.wrapped, &key.aead)?;
        let aad = envelope::aad(content, &file);
        let start = file.len();
        file.reserve_exact(size + TAG_LEN);
        write(&mut file);
        key.aead.seal_in_place(nonce, &aad, &mut file, start);
        Ok(file)
    }

    /// Opens a file.
    pub fn open(&self, content: AadContext<'_>, file: &[u8]) -> Result<SecretBytes, EnvelopeError> {
        let envelope = Envelope::parse(content, file)?;
        let keys = self.keys.read().clone();
        match keys.iter().find(|key| key.aead.key_id() == envelope.key_id()) {
            Some(key) => envelope.open(content, &key.aead),
            None if keys.iter().any(|key| key.wrapped.tag == envelope.wrapped_key.tag) => {
                Err(EnvelopeError::OtherKey)
            }
            None => Err(EnvelopeError::OtherBackend(envelope.wrapped_key.tag)),
        }
    }

    /// Whether a file is sealed under the present key with the present wrapped-key header.
    pub fn is_present(&self, content: AadContext<'_>, file: &[u8]) -> bool {
        let present = self.present();
        Envelope::parse(content, file).is_ok_and(|envelope| {
            envelope.key_id() == present.aead.key_id() && envelope.wrapped_key == present.wrapped
        })
    }

    fn present(&self) -> Arc<Key> {
        // There is always a first key.
        Arc::clone(&self.keys.read()[0])
    }
}

impl Key {
    fn new(data: DataKey, wrapped: WrappedKeyHeader) -> Self {
        Self { aead: Aead::new(&data), data, wrapped }
    }
}

#[cfg(test)]
mod tests {
    use psi_common::BackendTag;

    use super::*;

    fn header() -> WrappedKeyHeader {
        WrappedKeyHeader { tag: BackendTag::Tpm, bytes: b"wrapped".to_vec() }
    }

    fn keyring() -> Keyring {
        Keyring::new(DataKey::generate().unwrap(), header())
    }

    #[test]
    fn during_a_rekey_both_keys_open_and_the_new_one_seals() {
        let keyring = keyring();
        let text = SecretBytes::new(b"text".to_vec());
        let old = keyring.seal(AadContext::Cache, &text).unwrap();
        assert!(keyring.is_present(AadContext::Cache, &old) && !keyring.has_former());
        keyring.set_present(DataKey::generate().unwrap(), header());
        let new = keyring.seal(AadContext::Cache, &text).unwrap();
        assert!(
            !keyring.is_present(AadContext::Cache, &old)
                && keyring.is_present(AadContext::Cache, &new)
        );
        for file in [&old, &new] {
            assert!(keyring.open(AadContext::Cache, file).unwrap().same_as(&text));
        }
        keyring.remove_former();
        assert_eq!(keyring.open(AadContext::Cache, &old).err(), Some(EnvelopeError::OtherKey));
        assert!(keyring.open(AadContext::Cache, &new).is_ok());
    }
}
