//! The cipher: AES-256-GCM under the data key of any key backend.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use psi_common::SecretBytes;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub(crate) const NONCE_LEN: usize = 12;
/// Bytes that sealing adds.
pub(crate) const TAG_LEN: usize = 16;
/// Bytes of a key id.
pub(crate) const KEY_ID_LEN: usize = 16;

/// The 32-byte key that encrypts the cache and the literals. It is wiped on drop and never printed.
pub struct DataKey(Zeroizing<[u8; Self::LEN]>);

/// Authenticated encryption under one key.
pub struct Aead {
    cipher: Aes256Gcm,
    key_id: [u8; KEY_ID_LEN],
}

/// The ciphertext or the associated data were changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data was damaged or tampered with")]
pub struct NotAuthentic;

impl DataKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// A new random key from the kernel.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; Self::LEN]);
        getrandom::fill(&mut key[..])?;
        Ok(Self(key))
    }

    /// The key in `bytes`; `None` if it has the wrong length.
    pub fn from_secret(bytes: &SecretBytes) -> Option<Self> {
        bytes.expose_secret().try_into().ok().map(|key| Self(Zeroizing::new(key)))
    }

    /// Derives a key that reveals nothing about this one.
    pub fn derived_for(&self, purpose: &[u8]) -> Self {
        Self(Zeroizing::new(
            Sha256::new_with_prefix(purpose).chain_update(&self.0[..]).finalize().into(),
        ))
    }

    /// The bytes of the key, for its backend.
    pub fn to_secret(&self) -> SecretBytes {
        SecretBytes::new(self.0.to_vec())
    }
}

impl Aead {
    /// Encryption under `key`.
    pub fn new(key: &DataKey) -> Self {
        // A hash of a random key reveals nothing. It distinguishes "another key" from "damaged".
        let digest =
            Sha256::new_with_prefix(b"psi key id v1\0").chain_update(&key.0[..]).finalize();
        let mut key_id = [0; KEY_ID_LEN];
        key_id.copy_from_slice(&digest[..KEY_ID_LEN]);
        Self { cipher: Aes256Gcm::new((&*key.0).into()), key_id }
    }

    /// Identifies the key, and reveals nothing about it.
    pub fn key_id(&self) -> [u8; KEY_ID_LEN] {
        self.key_id
    }

    /// A random 96-bit nonce; 2^32 of them are safe under one key (NIST SP 800-38D, 8.3).
    pub fn nonce() -> Result<[u8; NONCE_LEN], getrandom::Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        Ok(nonce)
    }

    /// Encrypts `plaintext` and appends ciphertext and tag to `out`; `aad` is authenticated with it.
    pub fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &SecretBytes,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.reserve(plaintext.len() + TAG_LEN);
        out.extend_from_slice(plaintext.expose_secret());
        self.seal_in_place(nonce, aad, out, start);
    }

    /// Encrypts `out` from `start` on in place, and appends the tag.
    pub fn seal_in_place(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        out: &mut Vec<u8>,
        start: usize,
    ) {
        let tag = self.cipher.encrypt_inout_detached(
            &Nonce::from(nonce),
            aad,
            (&mut out[start..]).into(),
        );
        match tag {
            Ok(tag) => out.extend_from_slice(&tag),
            // Only a plaintext of more than 64 GiB fails. It must not stay in plain text.
            Err(_) => out.truncate(start),
        }
    }

    /// Decrypts what [`Self::seal`] appended.
    pub fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, NotAuthentic> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(NotAuthentic)?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        self.cipher
            .decrypt_inout_detached(
                &Nonce::from(nonce),
                aad,
                plaintext.as_mut_slice().into(),
                tag.into(),
            )
            .map_err(|_| NotAuthentic)?;
        Ok(SecretBytes::new(std::mem::take(&mut *plaintext)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn aead(byte: u8) -> Aead {
        Aead::new(&DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap())
    }

    fn sealed(text: &[u8], aad: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        aead(1).seal([7; NONCE_LEN], aad, &SecretBytes::new(text.to_vec()), &mut out);
        out
    }

    proptest! {
        #[test]
        fn open_returns_what_was_sealed(text in prop::collection::vec(any::<u8>(), 0..100), aad in prop::collection::vec(any::<u8>(), 0..20)) {
            let opened = aead(1).open([7; NONCE_LEN], &aad, &sealed(&text, &aad)).unwrap();
            prop_assert_eq!(opened.expose_secret(), &text[..]);
        }

        #[test]
        fn open_rejects_any_flipped_bit(text in prop::collection::vec(any::<u8>(), 0..50), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = sealed(&text, b"bound");
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(aead(1).open([7; NONCE_LEN], b"bound", &bytes).err(), Some(NotAuthentic));
        }
    }

    #[test]
    fn open_rejects_another_key_nonce_or_aad() {
        let bytes = sealed(b"text", b"bound");
        assert!(aead(2).open([7; NONCE_LEN], b"bound", &bytes).is_err());
        assert!(aead(1).open([8; NONCE_LEN], b"bound", &bytes).is_err());
        assert!(aead(1).open([7; NONCE_LEN], b"other", &bytes).is_err());
        assert!(aead(1).open([7; NONCE_LEN], b"bound", &bytes[..TAG_LEN - 1]).is_err());
        assert_ne!(aead(1).key_id(), aead(2).key_id());
    }

    #[test]
    fn data_key_has_32_bytes() {
        assert!(DataKey::from_secret(&SecretBytes::new(vec![0; 31])).is_none());
        assert!(DataKey::from_secret(&SecretBytes::new(vec![0; 33])).is_none());
        let key = DataKey::generate().unwrap();
        assert!(!key.to_secret().same_as(&DataKey::generate().unwrap().to_secret()));
    }
}
