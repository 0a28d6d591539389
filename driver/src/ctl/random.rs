//! Random numbers for names.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// 64 bits of the standard library's hash seeds: no other process has them. They are no key.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}
