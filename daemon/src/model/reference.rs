//! References of registered secrets, and the keys of the cache.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use psi_common::SecretBytes;
use serde_json::Value;

/// A reference as podman was given it: `{"provider":"infisical","project":…,"path":…,"key":…}`.
///
/// A JSON object with string members. The provider defines which members are required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    provider: String,
    members: BTreeMap<String, String>,
}

/// The key of a cache entry: the place of a value at its provider. A secret that podman creates again under another
/// id, or that two ids share, is one entry; after a change of the project in the config, it is another entry.
///
/// Clones share the content, so a snapshot of the cache copies no text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(Arc<Place>);

/// The content of a [`CacheKey`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The namespace at the provider.
    pub namespace: Namespace,
    /// The directory in the namespace.
    pub path: Arc<str>,
    /// The name of the secret in the directory.
    pub key: Box<str>,
}

/// A project and environment of a provider, or their equivalent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

/// The part of a namespace that a listing covers: a secret in it that is not listed does not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListingScope {
    /// The namespace.
    pub namespace: Namespace,
    /// The absolute path of the directory, without a trailing slash unless it is the root.
    pub path: String,
    /// Whether subdirectories are included.
    pub recursive: bool,
}

/// A listing of a provider.
#[derive(Default)]
pub struct Listing {
    /// The scopes of the listing: a secret in them that is not listed does not exist.
    pub scopes: Vec<ListingScope>,
    /// The values.
    pub found: Vec<(CacheKey, SecretBytes)>,
    /// Secrets that exist and may not be read, with the reason.
    pub denied: Vec<(CacheKey, String)>,
    /// Secrets that exist and whose value is unusable, with the reason. Their cached values stay.
    pub unread: Vec<(CacheKey, String)>,
}

impl Reference {
    /// A reference to `provider` with these members.
    pub fn new<'a>(provider: &str, members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let members =
            members.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { provider: provider.into(), members }
    }

    /// Parses a reference, after an optional byte order mark and blanks; `None` if `bytes` is not a JSON object of
    /// strings with a `provider`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let Value::Object(object) = serde_json::from_slice(without_blanks(bytes)).ok()? else {
            return None;
        };
        let mut members = BTreeMap::new();
        for (name, value) in object {
            let Value::String(value) = value else { return None };
            members.insert(name, value);
        }
        let provider = members.remove("provider")?;
        Some(Self { provider, members })
    }

    /// The provider's name in the config.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The names of the members except the provider.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The JSON text, which [`Self::parse`] accepts.
    pub fn to_json(&self) -> String {
        let members = self.members.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let members = std::iter::once(("provider", self.provider.as_str())).chain(members);
        let members =
            members.map(|(name, value)| format!("{}:{}", Value::from(name), Value::from(value)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// The value of a member.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(String::as_str)
    }
}

impl CacheKey {
    /// The key of the secret `key` in a directory of a namespace.
    pub fn new(namespace: Namespace, path: impl Into<Arc<str>>, key: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Place { namespace, path: path.into(), key: key.into() }))
    }
}

impl Hash for Place {
    /// Namespaces are few and long, and each lookup hashes a key.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
        self.key.hash(state);
    }
}

impl Deref for CacheKey {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Namespace {
    /// A namespace of parts, which may contain any character.
    pub fn new(parts: &[&str]) -> Self {
        // JSON, because a part may contain any separator.
        Self(Value::from(parts).to_string().into())
    }

    /// A namespace read from a file.
    pub fn from_stored(text: Arc<str>) -> Self {
        Self(text)
    }

    /// The text for a file, which [`Self::from_stored`] accepts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ListingScope {
    /// Whether the scope includes a secret.
    pub fn contains(&self, key: &CacheKey) -> bool {
        self.namespace == key.namespace && self.covers(&key.path)
    }

    /// Whether the scope includes a directory of its namespace.
    pub(crate) fn covers(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some("") => true,
            Some(below) => self.recursive && (self.path.ends_with('/') || below.starts_with('/')),
            None => false,
        }
    }
}

/// For messages: namespace, directory and name.
impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line =
            |text: &str| text.chars().take(200).flat_map(char::escape_debug).collect::<String>();
        let parts: Vec<String> = serde_json::from_str(&self.namespace.0).unwrap_or_default();
        let (path, key) = (line(&self.path), line(&self.key));
        write!(f, "{} {}/{key}", line(&parts.join(" ")), path.trim_end_matches('/'))
    }
}

/// For messages; long values, such as a sealed blob, are cut.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.provider))?;
        for (name, value) in &self.members {
            write!(f, " {}={}", shown(name), shown(value))?;
        }
        Ok(())
    }
}

/// The bytes after an optional byte order mark and blanks.
pub(crate) fn without_blanks(data: &[u8]) -> &[u8] {
    let valid = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    };
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    &data[valid.len() - valid.trim_start_matches(is_blank).len()..]
}

/// Escapes and cuts a text for a message: gRPC truncates messages that are too long for a header.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_accepts_objects_of_strings_with_a_provider() {
        let text = br#" {"key": "DB", "provider":"infisical"} "#;
        assert_eq!(Reference::parse(text), Some(Reference::new("infisical", [("key", "DB")])));
        for text in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"key":"DB"}"#,
            r#"{"provider":1}"#,
            "\"provider\"",
            "{\"provider\":\"a\",\"n\":null}",
        ] {
            assert_eq!(Reference::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reference::parse(&bytes);
        }

        #[test]
        fn reference_survives_a_round_trip(provider in any::<String>(), members in prop::collection::btree_map(any::<String>(), any::<String>(), 0..5)) {
            let mut members: BTreeMap<String, String> = members;
            members.remove("provider");
            let mut object = members.clone();
            object.insert("provider".into(), provider.clone());
            let json = serde_json::to_vec(&object).unwrap();
            let reference = Reference { provider, members };
            prop_assert_eq!(Reference::parse(reference.to_json().as_bytes()), Some(reference.clone()));
            prop_assert_eq!(Reference::parse(&json), Some(reference));
        }

        #[test]
        fn different_parts_are_different_namespaces(a in prop::collection::vec(any::<String>(), 1..4), b in prop::collection::vec(any::<String>(), 1..4)) {
            let of = |parts: &[String]| Namespace::new(&parts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(of(&a) == of(&b), a == b);
        }
    }

    #[test]
    fn listing_scope_ends_at_a_directory() {
        let at = |path: &str| CacheKey::new(Namespace::new(&["r"]), path, "K");
        let scope = |path: &str, recursive| ListingScope {
            namespace: Namespace::new(&["r"]),
            path: path.into(),
            recursive,
        };
        assert!(scope("/app", false).contains(&at("/app")));
        assert!(!scope("/app", false).contains(&at("/app/sub")));
        assert!(scope("/app", true).contains(&at("/app/sub")));
        assert!(!scope("/app", true).contains(&at("/apple")));
        assert!(scope("/", true).contains(&at("/app")));
        assert!(!scope("/", false).contains(&at("/app")));
        let elsewhere =
            ListingScope { namespace: Namespace::new(&["s"]), path: "/".into(), recursive: true };
        assert!(!elsewhere.contains(&at("/app")));
    }
}
