//! Random numbers for names.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A number from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "any such number will do")]
pub(crate) fn fraction() -> f64 {
    number() as f64 / u64::MAX as f64
}

/// 64 bits of the standard library's hash seeds: no other process has them. They are no key.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}
