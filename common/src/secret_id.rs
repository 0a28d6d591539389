//! Podman's id of a secret.

use std::fmt;
use std::str::FromStr;

const LEN: usize = 25;

/// An id as podman makes it: `^[0-9a-f]{25}$` (secrets.go: 64 hexadecimal digits cut to 25).
///
/// It can be a file name as it is: it has no separator, no dot and one length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretId([u8; LEN]);

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecretId {
    /// The text is empty, as podman ≥ 5.1 passes it for `create --replace` of a missing name.
    #[error("the secret id is empty")]
    Empty,
    /// The text has another length or other characters; the text, cut and escaped for one line.
    #[error("'{0}' is no secret id (25 lower-case hexadecimal digits)")]
    Malformed(String),
}

impl SecretId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        // The bytes were checked to be ASCII; the fallback is never reached.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for SecretId {
    type Err = InvalidSecretId;

    fn from_str(text: &str) -> Result<Self, InvalidSecretId> {
        if text.is_empty() {
            return Err(InvalidSecretId::Empty);
        }
        match <[u8; LEN]>::try_from(text.as_bytes()) {
            Ok(id) if id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self(id))
            }
            _ => Err(InvalidSecretId::Malformed(
                text.chars().take(40).flat_map(char::escape_default).collect(),
            )),
        }
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_round_trips_every_id_of_podman(text in "[0-9a-f]{25}") {
            let id: SecretId = text.parse().unwrap();
            prop_assert_eq!(id.as_str(), text);
        }

        #[test]
        fn parse_rejects_any_other_text(text in any::<String>()) {
            let shaped = text.len() == 25
                && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            prop_assert_eq!(text.parse::<SecretId>().is_ok(), shaped);
        }

        #[test]
        fn error_is_one_short_line(text in any::<String>()) {
            if let Err(error) = text.parse::<SecretId>() {
                let line = error.to_string();
                prop_assert!(line.is_ascii() && !line.contains('\n') && line.len() < 500);
            }
        }
    }

    #[test]
    fn parse_rejects_near_misses() {
        for text in [
            "0123456789abcdef01234567",
            "0123456789abcdef0123456789",
            "0123456789ABCDEF012345678",
            "../../../../etc/shadow000",
            "0123456789abcdef01234567\n",
        ] {
            assert!(matches!(text.parse::<SecretId>(), Err(InvalidSecretId::Malformed(_))));
        }
        assert_eq!("".parse::<SecretId>(), Err(InvalidSecretId::Empty));
    }
}
