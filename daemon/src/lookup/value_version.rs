//! The version of a value, by which the trail notices a change.

use std::sync::Arc;

use super::{Service, Value};
use crate::model::clock::Timestamp;

/// Differs between two values of one secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ValueVersion<'a> {
    /// The place of a kept value in RAM, and when it was first seen.
    Kept(usize, Timestamp),
    /// A value that psid does not keep.
    Bytes(&'a [u8]),
}

impl Service {
    /// The version of a value that was looked up.
    pub(crate) fn version_of<'a>(&self, value: &'a Value) -> ValueVersion<'a> {
        match value {
            Value::Entry(entry) if self.cache.is_enabled() => {
                ValueVersion::Kept(Arc::as_ptr(entry).addr(), entry.changed_at())
            }
            Value::Literal(value) => {
                ValueVersion::Kept(Arc::as_ptr(value).addr(), Timestamp::default())
            }
            Value::Assembled(value) => ValueVersion::Bytes(value.expose_secret()),
            Value::Entry(entry) => ValueVersion::Bytes(entry.value().expose_secret()),
        }
    }
}
