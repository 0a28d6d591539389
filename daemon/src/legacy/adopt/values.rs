//! The values of an old cache, each where a lookup will look for it.

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

/// The provider whose values are sealed in the mappings themselves.
pub(crate) const SEALED: &str = "nitrokeyhsm";

/// Values for our cache, each with its provider.
pub(crate) type Values = BTreeMap<CacheKey, (Arc<Entry>, String)>;

/// What became of each entry of an old cache.
#[derive(Default)]
pub(crate) struct Placed {
    /// What our cache may take.
    pub(crate) values: Values,
    /// How many no mapping names.
    pub(crate) unclaimed: usize,
    /// How many are sealed in their mappings, and belong on no disk otherwise.
    pub(crate) sealed: usize,
    /// How many lead nowhere under this config, by the cause.
    pub(crate) homeless: BTreeMap<String, usize>,
}

/// Gives each entry its place; `mappings` are those that may name it.
pub(crate) fn place<'r>(
    old: OldCache,
    mappings: impl IntoIterator<Item = &'r Reference>,
    service: &Service,
) -> Placed {
    let written_at = old.written_at();
    let claims = old.claim(mappings);
    let mut placed = Placed { unclaimed: claims.unclaimed, ..Placed::default() };
    for (mapping, value) in claims.found {
        if mapping.provider() == SEALED {
            placed.sealed += 1;
            continue;
        }
        match service.try_resolve_key(mapping) {
            Ok(at) => {
                let entry = Arc::new(Entry::new(value, written_at));
                placed.values.insert(at, (entry, mapping.provider().to_owned()));
            }
            Err(why) => *placed.homeless.entry(why.to_string()).or_default() += 1,
        }
    }
    placed
}

/// What is registered as a reference.
pub(crate) fn references(
    registered: &[(SecretId, Registered)],
) -> impl Iterator<Item = &Reference> {
    registered.iter().filter_map(|(_, what)| match what {
        Registered::Reference(link) => Some(&***link),
        _ => None,
    })
}

/// A time for people.
pub(crate) fn time(at: Timestamp) -> String {
    // Beyond the year 9999 there is no text for it.
    let at = Duration::from_millis(at.as_millis()).min(Duration::from_secs(253_402_300_799));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + at).to_string()
}
