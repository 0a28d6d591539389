//! The document of a workload's secret: a `kind: Secret` in YAML, with its values in base64, as `podman kube play`
//! reads it. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use psi_common::{MAX_SECRET_BYTES, SecretBytes, check};

/// The parts of a line around its key and its value. In quotes, since YAML has numbers and `null` without them.
const BEFORE: &str = "  \"";
const BETWEEN: &str = "\": \"";
const AFTER: &str = "\"\n";

/// Why there is no document.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoDocument {
    #[error("it has no secret")]
    Empty,
    #[error(
        "the key '{0}' cannot be a key of a `kind: Secret`: letters, digits and _.-; rename it at the provider, or give \
         it a variable by env"
    )]
    Key(String),
    #[error(
        "its secrets have {0} bytes as a `kind: Secret`, and podman takes at most {MAX_SECRET_BYTES}; select fewer keys, \
         or set kube = false and name the secrets one by one"
    )]
    TooLong(usize),
}

/// Checks the keys and the size of a document without its values: their lengths by key.
pub(crate) fn check<'a>(
    name: &str,
    lengths: impl IntoIterator<Item = (&'a str, usize)>,
) -> Result<usize, NoDocument> {
    let head = head(name).len();
    let mut total = head;
    for (key, length) in lengths {
        if check::file_name(key).is_err() {
            return Err(NoDocument::Key(check::excerpt(key).to_string()));
        }
        let encoded = base64::encoded_len(length, true).unwrap_or(usize::MAX);
        total = total.saturating_add(BEFORE.len() + key.len() + BETWEEN.len() + AFTER.len());
        total = total.saturating_add(encoded);
    }
    match total {
        total if total == head => Err(NoDocument::Empty),
        total if total > MAX_SECRET_BYTES => Err(NoDocument::TooLong(total)),
        total => Ok(total),
    }
}

/// The document of these values by key.
pub(crate) fn document<'a>(
    name: &str,
    values: impl IntoIterator<Item = (&'a str, &'a SecretBytes)> + Clone,
) -> Result<SecretBytes, NoDocument> {
    let lengths = values.clone().into_iter().map(|(key, value)| (key, value.len()));
    // Allocated at once: a buffer that grows leaves copies of the secrets behind.
    let mut text = String::with_capacity(check(name, lengths)?);
    text.push_str(&head(name));
    for (key, value) in values {
        [BEFORE, key, BETWEEN].into_iter().for_each(|part| text.push_str(part));
        STANDARD.encode_string(value.expose_secret(), &mut text);
        text.push_str(AFTER);
    }
    Ok(SecretBytes::new(text.into_bytes()))
}

fn head(name: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"{name}\"\ntype: Opaque\ndata:\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn text_of(values: &[(&str, &[u8])]) -> Result<String, NoDocument> {
        let values: BTreeMap<&str, SecretBytes> =
            values.iter().map(|(key, value)| (*key, SecretBytes::new(value.to_vec()))).collect();
        let document = document("app", values.iter().map(|(key, value)| (*key, value)))?;
        Ok(String::from_utf8(document.expose_secret().to_vec()).unwrap())
    }

    #[test]
    fn document_is_a_secret_in_yaml() {
        let text = text_of(&[("null", b"a\0b"), (".dockerconfigjson", b"{}"), ("0x10", b"")]);
        assert_eq!(
            text.unwrap(),
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"app\"\ntype: Opaque\ndata:\n  \
             \".dockerconfigjson\": \"e30=\"\n  \"0x10\": \"\"\n  \"null\": \"YQBi\"\n"
        );
    }

    #[test]
    fn document_is_refused_without_keys_with_odd_ones_and_over_podmans_limit() {
        assert_eq!(text_of(&[]), Err(NoDocument::Empty));
        for key in ["a b", "a\nb: c", "\"", "..", "", "\u{e4}"] {
            assert!(matches!(text_of(&[("GOOD", b"1"), (key, b"1")]), Err(NoDocument::Key(_))));
        }
        let room = MAX_SECRET_BYTES - text_of(&[("K", b"")]).unwrap().len();
        let of = |length: usize| check("app", [("K", length)]);
        assert!(of(room / 4 * 3).is_ok_and(|length| length <= MAX_SECRET_BYTES));
        assert!(matches!(of(room / 4 * 3 + 1), Err(NoDocument::TooLong(_))));
        assert!(matches!(of(usize::MAX), Err(NoDocument::TooLong(_))));
    }

    proptest! {
        #[test]
        fn document_has_the_checked_length(
            values in prop::collection::btree_map("[A-Za-z0-9_.-]{1,9}x", prop::collection::vec(any::<u8>(), 0..90), 1..9)
        ) {
            let lengths = values.iter().map(|(key, value)| (key.as_str(), value.len()));
            let expected = check("app", lengths).unwrap();
            let values: Vec<(&str, &[u8])> =
                values.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            prop_assert_eq!(text_of(&values).unwrap().len(), expected);
        }
    }
}
