//! A secret as text: a token, a password, a PIN.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::SecretBytes;

/// A secret's text: zeroized on drop, never printed, not cloned and not serialized.
///
/// The counterpart of [`SecretBytes`] for protocols that take text: bytes that are not UTF-8 are an
/// error here, at the boundary, and not an empty or altered string later.
pub struct SecretString(Zeroizing<String>);

/// The bytes of a secret are not UTF-8. The error holds none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is not UTF-8 text")]
pub struct NotUtf8;

impl SecretString {
    /// Takes the text over, without a copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Takes bytes over as text, without a copy; bytes that are not UTF-8 are zeroized.
    pub fn from_utf8(bytes: Vec<u8>) -> Result<Self, NotUtf8> {
        String::from_utf8(bytes).map(Self::new).map_err(|error| {
            error.into_bytes().zeroize();
            NotUtf8
        })
    }

    /// The text, to be used and not kept.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }

    /// Hands the text over, without a copy, to something that zeroizes it or writes it out.
    pub fn into_exposed(mut self) -> String {
        std::mem::take(&mut *self.0)
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<SecretBytes> for SecretString {
    type Error = NotUtf8;

    fn try_from(bytes: SecretBytes) -> Result<Self, NotUtf8> {
        Self::from_utf8(bytes.into_exposed())
    }
}

impl From<SecretString> for SecretBytes {
    fn from(text: SecretString) -> Self {
        Self::new(text.into_exposed().into_bytes())
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_content() {
        let secret = SecretString::new("hunter2".into());
        assert_eq!(format!("{secret:?}"), "SecretString(redacted)");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    SecretString(redacted),\n)");
    }

    #[test]
    fn from_utf8_rejects_other_bytes_and_shows_none_of_them() {
        let error = SecretString::from_utf8(b"hunter2\xff".to_vec()).unwrap_err();
        assert_eq!((error, error.to_string()), (NotUtf8, "the secret is not UTF-8 text".into()));
        assert!(SecretString::try_from(SecretBytes::new(b"\xc3".to_vec())).is_err());
    }

    #[test]
    fn text_and_bytes_convert_without_change() {
        let secret = SecretString::from_utf8("pässword".into()).unwrap();
        assert_eq!(
            (secret.expose_secret(), secret.len(), secret.is_empty()),
            ("pässword", 9, false)
        );
        let bytes = SecretBytes::from(secret);
        assert_eq!(bytes.expose_secret(), "pässword".as_bytes());
        assert_eq!(SecretString::try_from(bytes).unwrap().into_exposed(), "pässword");
    }
}
