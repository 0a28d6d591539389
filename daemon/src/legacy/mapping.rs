//! Mappings: what the Python PSI kept of each of podman's secrets, a file an id.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::model::reference::Reference;

/// Reads a mapping; `Err` says why it is none. It tells nothing of the text: the Python PSI stored
/// whatever it was given, so that may be a secret in the clear.
pub fn parse(bytes: &[u8]) -> Result<Reference, &'static str> {
    let reference =
        Reference::parse(bytes).ok_or("it is no JSON object of strings with a \"provider\"")?;
    let has = |name| reference.member(name).is_some_and(|text| !text.is_empty());
    let only = |names: &[&str]| reference.members().all(|name| names.contains(&name));
    match reference.provider() {
        "infisical" if has("project") && has("key") && only(&["project", "path", "key"]) => {
            Ok(reference)
        }
        "infisical" => Err("a mapping of infisical has a project, a path and a key, and no more"),
        "nitrokeyhsm" if has("blob") && only(&["blob"]) => Ok(reference),
        "nitrokeyhsm" => Err("a mapping of nitrokeyhsm has a blob, and no more"),
        _ => Err("its provider is neither infisical nor nitrokeyhsm"),
    }
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

/// Everything but printable ASCII is escaped, DEL too.
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
