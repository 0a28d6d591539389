//! Ids as podman makes them, and references as people write them.

use serde_json::json;

/// An id of podman's form, another one for each number.
pub fn id(number: u32) -> String {
    format!("{number:025x}")
}

/// A reference to a secret of the project that [`super::Config`] names.
pub fn reference(path: &str, key: &str) -> String {
    json!({"provider": "infisical", "project": "myproject", "path": path, "key": key}).to_string()
}
