//! Mappings: the Python PSI's record of a podman secret, one file for each id.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use crate::model::reference::Reference;

/// A file is not a mapping. The message does not quote the file: the Python PSI stored any data, so it may be a
/// secret in clear text.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is other data.
    #[error("it is not a JSON object of strings with a \"provider\"")]
    NotAReference,
    /// Its provider is unknown.
    #[error("its provider is neither infisical nor nitrokeyhsm")]
    Provider,
    /// It has other members than its provider's mappings have.
    #[error("a mapping of {provider} has {members}, and no other member")]
    Members {
        /// The provider.
        provider: &'static str,
        /// The members of its mappings.
        members: &'static str,
    },
}

/// Parses a mapping.
pub fn parse(bytes: &[u8]) -> Result<Reference, MappingError> {
    let reference = Reference::parse(bytes).ok_or(MappingError::NotAReference)?;
    let has = |name| reference.member(name).is_some_and(|text| !text.is_empty());
    let only = |names: &[&str]| reference.members().all(|name| names.contains(&name));
    let (is_valid, provider, members) = match reference.provider() {
        "infisical" => (
            has("project") && has("key") && only(&["project", "path", "key"]),
            "infisical",
            "a project, a path and a key",
        ),
        "nitrokeyhsm" => (has("blob") && only(&["blob"]), "nitrokeyhsm", "a blob"),
        _ => return Err(MappingError::Provider),
    };
    if is_valid { Ok(reference) } else { Err(MappingError::Members { provider, members }) }
}

/// A mapping as Python's `json.dumps(…, sort_keys=True, separators=(",", ":"))` writes it.
pub fn canonical(mapping: &Reference) -> String {
    let mut members: BTreeMap<&str, &str> =
        mapping.members().filter_map(|name| Some((name, mapping.member(name)?))).collect();
    members.insert("provider", mapping.provider());
    let mut json = String::from("{");
    // Python sorts by code points; the bytes of UTF-8 have the same order.
    for (name, value) in members {
        if json.len() > 1 {
            json.push(',');
        }
        quote(name, &mut json);
        json.push(':');
        quote(value, &mut json);
    }
    json.push('}');
    json
}

/// Appends a JSON string: all characters but printable ASCII are escaped, DEL too.
fn quote(text: &str, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            ' '..='~' => json.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
        }
    }
    json.push('"');
}
