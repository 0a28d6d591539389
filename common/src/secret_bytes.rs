//! The one type in which a secret crosses a boundary.

use std::fmt;

use zeroize::Zeroizing;

/// A secret's bytes: wiped on drop, never printed, not cloned and not serialised.
///
/// To share one, put it into an `Arc`. Whoever calls [`Self::expose_secret`] answers for the copy.
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

    /// Hands the bytes over, without a copy, to something that wipes them or writes them out.
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether two secrets are the same. Not in constant time: both sides are ours.
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
    fn debug_tells_nothing() {
        let secret = SecretBytes::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "SecretBytes(redacted)");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    SecretBytes(redacted),\n)");
    }

    #[test]
    fn bytes_are_handed_over_whole() {
        let secret = SecretBytes::new(b"\0a\r\n\xff".to_vec());
        assert_eq!(secret.len(), 5);
        assert!(!secret.is_empty());
        assert!(secret.same_as(&SecretBytes::new(b"\0a\r\n\xff".to_vec())));
        assert_eq!(secret.into_exposed(), b"\0a\r\n\xff");
    }
}
