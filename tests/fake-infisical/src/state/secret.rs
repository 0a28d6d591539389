//! One stored secret.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Millis;

/// A seed may have a plain string; the state always has the whole object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "SecretSeed")]
pub struct Secret {
    pub id: String,
    pub version: u64,
    pub value: String,
    pub comment: String,
    pub tags: Vec<Tag>,
    pub metadata: Vec<Metadata>,
    pub skip_multiline_encoding: bool,
    #[serde(skip)]
    pub created_at: Millis,
    #[serde(skip)]
    pub updated_at: Millis,
    #[serde(skip)]
    pub author: Option<Author>,
    /// Values of earlier versions, for `?version=`
    #[serde(skip)]
    pub history: Vec<(u64, String)>,
}

/// The identity that wrote a secret last; seeded ones have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub id: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    #[serde(default = "new_id")]
    pub id: String,
    pub slug: String,
    #[serde(default)]
    pub color: Option<String>,
    #[serde(default)]
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub key: String,
    pub value: String,
    #[serde(default)]
    pub is_encrypted: bool,
}

impl Secret {
    pub fn new(value: impl Into<String>, now: Millis) -> Self {
        Self {
            id: new_id(),
            version: 1,
            value: value.into(),
            comment: String::new(),
            tags: Vec::new(),
            metadata: Vec::new(),
            skip_multiline_encoding: false,
            created_at: now,
            updated_at: now,
            author: None,
            history: Vec::new(),
        }
    }

    /// Every update is a new version, also without a change of the value.
    pub fn revise(&mut self, value: Option<String>, now: Millis) {
        self.history.push((self.version, self.value.clone()));
        self.version += 1;
        self.updated_at = now;
        if let Some(value) = value {
            self.value = value;
        }
    }

    /// The secret at a version, if it existed.
    pub fn at_version(&self, version: u64) -> Option<Self> {
        if version == self.version {
            return Some(self.clone());
        }
        let (_, value) = self.history.iter().find(|(v, _)| *v == version)?;
        Some(Self { version, value: value.clone(), ..self.clone() })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SecretSeed {
    Value(String),
    Whole(WholeSecret),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WholeSecret {
    #[serde(default = "new_id")]
    id: String,
    #[serde(default = "first_version")]
    version: u64,
    value: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    metadata: Vec<Metadata>,
    #[serde(default)]
    skip_multiline_encoding: bool,
}

impl From<SecretSeed> for Secret {
    fn from(seed: SecretSeed) -> Self {
        match seed {
            SecretSeed::Value(value) => Self::new(value, 0),
            SecretSeed::Whole(whole) => Self {
                id: whole.id,
                version: whole.version,
                comment: whole.comment,
                tags: whole.tags,
                metadata: whole.metadata,
                skip_multiline_encoding: whole.skip_multiline_encoding,
                ..Self::new(whole.value, 0)
            },
        }
    }
}

fn new_id() -> String {
    Uuid::new_v4().to_string()
}

fn first_version() -> u64 {
    1
}
