//! A secret as JSON. The server strips fields that an endpoint's schema does not name, so the
//! endpoints differ, and clients rely on it.

use serde::Serialize;

use super::Found;
use crate::calendar::iso8601;
use crate::state::secret::{Metadata, Tag};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In a list, or one by name: everything
    Read,
    /// Inside `imports`: no dates, no path, no tags, no reminders, and no project
    Imported,
    /// One by name and version: no tags, no metadata, no rotation
    Version,
    /// The answer to a creation: the bare schema
    Created,
    /// The answer to an update or a deletion
    Changed,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretView {
    id: String,
    #[serde(rename = "_id")]
    underscore_id: String,
    workspace: String,
    environment: String,
    version: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    secret_key: String,
    secret_value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_value_hidden: Option<bool>,
    secret_comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_path: Option<String>,
    /// Null on every secret: reminders are in a table of their own
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_reminder_note: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_reminder_repeat_days: Option<()>,
    skip_multiline_encoding: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_rotated_secret: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_id: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<ActorView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<Tag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_metadata: Option<Vec<Metadata>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorView {
    actor_id: String,
    actor_type: &'static str,
    name: String,
    membership_id: Option<String>,
    group_id: Option<String>,
}

impl SecretView {
    pub fn new(project: &str, found: &Found<'_>, shape: Shape) -> Self {
        let secret = found.secret;
        let imported = shape == Shape::Imported;
        let whole = shape == Shape::Read;
        let rotation = shape != Shape::Version;
        let author = secret.author.as_ref().filter(|_| !imported);
        Self {
            id: secret.id.clone(),
            underscore_id: secret.id.clone(),
            // Empty for an import: the server keeps the field for old clients only
            workspace: if imported { String::new() } else { project.to_owned() },
            environment: found.environment.clone(),
            version: secret.version,
            kind: "shared",
            secret_key: found.key.to_owned(),
            secret_value: found.value.clone(),
            secret_value_hidden: (shape != Shape::Created).then_some(found.hidden),
            secret_comment: secret.comment.clone(),
            secret_path: matches!(shape, Shape::Read | Shape::Version).then(|| found.path.clone()),
            secret_reminder_note: (!imported).then_some(()),
            secret_reminder_repeat_days: (!imported).then_some(()),
            skip_multiline_encoding: secret.skip_multiline_encoding,
            created_at: (!imported).then(|| iso8601(secret.created_at)),
            updated_at: (!imported).then(|| iso8601(secret.updated_at)),
            is_rotated_secret: rotation.then_some(false),
            rotation_id: rotation.then_some(()),
            actor: author.map(|author| ActorView {
                actor_id: author.id.clone(),
                actor_type: "identity",
                name: author.name.clone(),
                membership_id: None,
                group_id: None,
            }),
            tags: whole.then(|| secret.tags.clone()),
            secret_metadata: (whole || imported).then(|| secret.metadata.clone()),
        }
    }
}
