//! A secret as bytes: the type in which a secret is passed between modules.

use std::fmt;
use std::hash::BuildHasher;

use zeroize::Zeroizing;

/// A secret's bytes: zeroized on drop, never printed, not cloned and not serialized.
///
/// To share one, put it into an `Arc`. Copies of the slice of [`Self::expose_secret`] are not zeroized.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over, without a copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, to be used and not kept.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// Hands the bytes over, without a copy, to something that zeroizes them or writes them out.
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the secret is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A hash of the bytes by a keyed hasher, for comparisons where the bytes are not to be kept.
    pub fn hash_with(&self, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(self.expose_secret())
    }

    /// Whether two secrets are equal. The comparison does not take constant time: both come from trusted sources.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content() {
        let secret = SecretBytes::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "SecretBytes(redacted)");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    SecretBytes(redacted),\n)");
    }

    #[test]
    fn bytes_stay_unchanged() {
        let secret = SecretBytes::new(b"\0a\r\n\xff".to_vec());
        assert_eq!(secret.len(), 5);
        assert!(!secret.is_empty());
        assert!(secret.same_as(&SecretBytes::new(b"\0a\r\n\xff".to_vec())));
        assert_eq!(secret.into_exposed(), b"\0a\r\n\xff");
    }
}
