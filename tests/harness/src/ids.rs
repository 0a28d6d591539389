//! Ids as podman makes them, and references.

use serde_json::json;

/// An id in podman's form for each number.
pub fn id(number: u32) -> String {
    format!("{number:025x}")
}

/// A reference to a secret of the project that [`super::Config`] names.
pub fn reference(path: &str, key: &str) -> String {
    json!({"provider": "infisical", "project": "myproject", "path": path, "key": key}).to_string()
}
