//! The values of removed entries, as keyed hashes: whether the value that is fetched next is another one.

use std::collections::HashMap;
use std::hash::RandomState;

use psi_common::SecretBytes;

use crate::model::reference::CacheKey;

/// Beyond it all are forgotten.
const MAX_FORMER: usize = 65_536;

/// The hashes, in bounded memory.
#[derive(Default)]
pub(super) struct FormerValues {
    hasher: RandomState,
    values: HashMap<CacheKey, u64>,
}

impl FormerValues {
    /// Notes the value of an entry that is removed.
    pub(super) fn note(&mut self, key: &CacheKey, value: &SecretBytes) {
        if self.values.len() >= MAX_FORMER {
            self.values.clear();
        }
        self.values.insert(key.clone(), value.hash_with(&self.hasher));
    }

    /// Forgets the former value; whether there was one, other than `new`.
    pub(super) fn take_if_other(&mut self, key: &CacheKey, new: &SecretBytes) -> bool {
        let former = self.values.remove(key);
        former.is_some_and(|former| former != new.hash_with(&self.hasher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reference::Namespace;

    #[test]
    fn only_another_value_counts_and_once() {
        let key = |name: &str| CacheKey::new(Namespace::new(&["p"]), "/", name);
        let value = |text: &str| SecretBytes::new(text.into());
        let mut former = FormerValues::default();
        former.note(&key("A"), &value("1"));
        former.note(&key("B"), &value("1"));
        assert!(former.take_if_other(&key("A"), &value("2")));
        assert!(!former.take_if_other(&key("A"), &value("3")), "it is forgotten");
        assert!(!former.take_if_other(&key("B"), &value("1")));
        assert!(!former.take_if_other(&key("C"), &value("1")));
    }
}
