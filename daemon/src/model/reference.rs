//! What a registered secret refers to.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use psi_common::SecretBytes;
use serde_json::Value;

/// A reference as podman was given it: `{"provider":"infisical","project":…,"path":…,"key":…}`.
///
/// A JSON object with string members; which members there must be is the provider's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    provider: String,
    members: BTreeMap<String, String>,
}

/// Where a value really is, as its provider tells it. It is the cache's key, so a secret that podman
/// re-creates under another id, or that two ids share, is one entry; and a project that the config
/// points elsewhere is another entry.
///
/// Shared, not copied: the cache and a snapshot on its way to the disk have the same ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(Arc<Place>);

/// What [`CacheKey`] say.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The provider, and what it needs to tell its own realms apart.
    pub realm: Namespace,
    /// The folder within the realm.
    pub path: Arc<str>,
    /// The secret's name in the folder.
    pub key: Box<str>,
}

/// One provider's project and environment, or what plays that part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

/// The part of a realm that a listing speaks for: what is in here and not in the listing, is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListingScope {
    /// The realm.
    pub realm: Namespace,
    /// The folder: absolute, without a slash at its end unless it is the root.
    pub path: String,
    /// Whether the folders below count too.
    pub recursive: bool,
}

/// What a provider listed.
#[derive(Default)]
pub struct Listing {
    /// What the listing speaks for: what is in here and was not found, is gone.
    pub extents: Vec<ListingScope>,
    /// The values.
    pub found: Vec<(CacheKey, SecretBytes)>,
    /// What is there and not for us, and why.
    pub denied: Vec<(CacheKey, String)>,
    /// What is there and has no value that can be taken, and why. What is known of it stays as it is.
    pub unread: Vec<(CacheKey, String)>,
}

impl Reference {
    /// A reference to `provider` with these members.
    pub fn new<'a>(provider: &str, members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let members =
            members.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { provider: provider.into(), members }
    }

    /// Reads a reference, a byte order mark and blanks before it or not; `None` when `bytes` are no JSON object
    /// of strings with a `provider`.
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

    /// The members' names, but for the provider.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The text that [`Self::parse`] takes.
    pub fn to_json(&self) -> String {
        let members = self.members.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let members = std::iter::once(("provider", self.provider.as_str())).chain(members);
        let members =
            members.map(|(name, value)| format!("{}:{}", Value::from(name), Value::from(value)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// A member's value.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(String::as_str)
    }
}

impl CacheKey {
    /// The coordinates of `key` in a folder of a realm.
    pub fn new(realm: Namespace, path: impl Into<Arc<str>>, key: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Place { realm, path: path.into(), key: key.into() }))
    }
}

impl Ord for CacheKey {
    /// By namespace, directory and name. The keys of a listing share the first two, so that they are compared
    /// by their addresses as a rule.
    fn cmp(&self, other: &Self) -> Ordering {
        let compare = |a: &Arc<str>, b: &Arc<str>| match Arc::ptr_eq(a, b) {
            true => Ordering::Equal,
            false => a.cmp(b),
        };
        compare(&self.realm.0, &other.realm.0)
            .then_with(|| compare(&self.path, &other.path))
            .then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for CacheKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Deref for CacheKey {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Namespace {
    /// A realm from parts, which may hold any character.
    pub fn new(parts: &[&str]) -> Self {
        // JSON, for it keeps parts apart that hold the separator.
        Self(Value::from(parts).to_string().into())
    }

    /// A realm as it stands in a file.
    pub fn from_stored(text: Arc<str>) -> Self {
        Self(text)
    }

    /// The text that [`Self::from_stored`] takes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ListingScope {
    /// Whether the listing speaks for `at`.
    pub fn contains(&self, at: &CacheKey) -> bool {
        self.realm == at.realm
            && match at.path.strip_prefix(self.path.as_str()) {
                Some("") => true,
                Some(below) => {
                    self.recursive && (self.path.ends_with('/') || below.starts_with('/'))
                }
                None => false,
            }
    }
}

/// In the words of people: realm, folder and key.
impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line =
            |text: &str| text.chars().take(200).flat_map(char::escape_debug).collect::<String>();
        let parts: Vec<String> = serde_json::from_str(&self.realm.0).unwrap_or_default();
        let (path, key) = (line(&self.path), line(&self.key));
        write!(f, "{} {}/{key}", line(&parts.join(" ")), path.trim_end_matches('/'))
    }
}

/// In the words of people; a key of a sealed blob is cut.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.provider))?;
        for (name, value) in &self.members {
            write!(f, " {}={}", shown(name), shown(value))?;
        }
        Ok(())
    }
}

/// What follows a byte order mark and blanks.
pub(crate) fn without_blanks(data: &[u8]) -> &[u8] {
    let valid = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&data[..error.valid_up_to()]).unwrap_or_default(),
    };
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    &data[valid.len() - valid.trim_start_matches(is_blank).len()..]
}

/// A text of somebody's for one line of words: a refusal that quotes it whole may be too long for the
/// header that carries it, and then nobody reads it.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reference_is_an_object_of_strings_with_a_provider() {
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
        fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reference::parse(&bytes);
        }

        #[test]
        fn every_reference_survives_json(provider in any::<String>(), members in prop::collection::btree_map(any::<String>(), any::<String>(), 0..5)) {
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
        fn different_parts_are_different_realms(a in prop::collection::vec(any::<String>(), 1..4), b in prop::collection::vec(any::<String>(), 1..4)) {
            let of = |parts: &[String]| Namespace::new(&parts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(of(&a) == of(&b), a == b);
        }
    }

    #[test]
    fn an_extent_ends_at_a_folder() {
        let at = |path: &str| CacheKey::new(Namespace::new(&["r"]), path, "K");
        let extent = |path: &str, recursive| ListingScope {
            realm: Namespace::new(&["r"]),
            path: path.into(),
            recursive,
        };
        assert!(extent("/app", false).contains(&at("/app")));
        assert!(!extent("/app", false).contains(&at("/app/sub")));
        assert!(extent("/app", true).contains(&at("/app/sub")));
        assert!(!extent("/app", true).contains(&at("/apple")));
        assert!(extent("/", true).contains(&at("/app")));
        assert!(!extent("/", false).contains(&at("/app")));
        let elsewhere =
            ListingScope { realm: Namespace::new(&["s"]), path: "/".into(), recursive: true };
        assert!(!elsewhere.contains(&at("/app")));
    }
}
