//! The values of an old cache by the cache keys that lookups use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use psi_common::SecretId;

use crate::cache::Entry;
use crate::legacy::OldCache;
use crate::lookup::Service;
use crate::model::clock::Timestamp;
use crate::model::reference::{CacheKey, Reference};
use crate::registry::Registered;

/// The provider whose mappings hold their values themselves, sealed.
pub(crate) const SEALED: &str = "nitrokeyhsm";

/// Values for psid's cache, each with its provider.
pub(crate) type PlacedValues = BTreeMap<CacheKey, (Arc<Entry>, String)>;

/// The entries of an old cache, sorted by what can be done with them.
#[derive(Default)]
pub(crate) struct Placement {
    /// The values that psid's cache may take over.
    pub(crate) values: PlacedValues,
    /// The number of entries without a mapping.
    pub(crate) without_mapping: usize,
    /// The number of values that their mappings hold sealed; they must not be stored under another key.
    pub(crate) sealed: usize,
    /// The number of entries whose mapping does not resolve under this config, by the error.
    pub(crate) without_config: BTreeMap<String, usize>,
}

/// Finds the cache key of each entry, by `mappings`.
pub(crate) fn place<'r>(
    old: OldCache,
    mappings: impl IntoIterator<Item = &'r Reference>,
    service: &Service,
) -> Placement {
    let written_at = old.written_at();
    let mapped = old.by_mapping(mappings);
    let mut placement =
        Placement { without_mapping: mapped.without_mapping, ..Placement::default() };
    for (mapping, value) in mapped.found {
        if mapping.provider() == SEALED {
            placement.sealed += 1;
            continue;
        }
        match service.try_resolve_key(mapping) {
            Ok(key) => {
                let entry = Arc::new(Entry::new(value, written_at));
                placement.values.insert(key, (entry, mapping.provider().to_owned()));
            }
            Err(error) => *placement.without_config.entry(error.to_string()).or_default() += 1,
        }
    }
    placement
}

/// The registered references.
pub(crate) fn references(
    registered: &[(SecretId, Registered)],
) -> impl Iterator<Item = &Reference> {
    registered.iter().filter_map(|(_, registered)| match registered {
        Registered::Reference(reference) => Some(&***reference),
        _ => None,
    })
}

/// A time for messages.
pub(crate) fn time(time: Timestamp) -> String {
    // RFC 3339 ends with the year 9999.
    let since = Duration::from_millis(time.as_millis()).min(Duration::from_secs(253_402_300_799));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}
