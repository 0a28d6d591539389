//! The secrets that the clients look up, and what asking for them may cost.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::faults::Class;
use super::truth::value;
use crate::harness::{Driver, World, id, reference};

/// Secrets of the provider, by folder; a list gets each folder.
pub(super) const FOLDERS: [(&str, u32); 3] = [("/a", 12), ("/b", 8), ("/c", 4)];
/// Values that psid alone has.
const LITERALS: u32 = 2;
/// The folder of what psid never had before its step.
pub(super) const PROBES: &str = "/probes";

/// Folder and key of each.
pub(super) fn references() -> Vec<(&'static str, String)> {
    let keys = |(path, count): (&'static str, u32)| {
        (0..count).map(move |number| (path, format!("{}{number}", path[1..].to_uppercase())))
    };
    FOLDERS.into_iter().flat_map(keys).collect()
}

/// The double's folders, all in version 1.
pub(super) fn seeded(references: &[(&'static str, String)]) -> Value {
    let mut folders = Map::new();
    folders.insert(PROBES.into(), json!({}));
    for (path, key) in references {
        let folder = folders.entry(*path).or_insert_with(|| json!({}));
        folder[key] = value(key, 1).into();
    }
    Value::Object(folders)
}

/// The lookup of each secret, and its name: first the provider's, then psid's own.
pub(super) fn register(
    world: &World,
    references: &[(&'static str, String)],
) -> (Vec<Driver>, Vec<String>) {
    let remote = references.iter().map(|(path, key)| (key.clone(), reference(path, key)));
    let own = (0..LITERALS).map(|number| format!("L{number}"));
    let own = own.map(|name| (name.clone(), value(&name, 1)));
    let store = |(number, (name, data)): (usize, (String, String))| {
        let id = id(u32::try_from(number).unwrap() + 1);
        world.driver(&["store"]).id(&id).stdin(data).ok();
        (world.driver(&["lookup"]).id(&id), name)
    };
    remote.chain(own).enumerate().map(store).unzip()
}

/// What may reach the provider, however many lookups there are. Each psid may have one request out for
/// each secret and each folder as an outage begins, and may try each once more; then it is one probe in
/// 30 s, and one for each folder when an admin asks; each with a login. While the provider works, each
/// secret and folder is due once in a refresh interval, which is a second here, and may take a login and
/// a second try with the new token.
pub(super) fn bound(class: Class, span: Duration, starts: u64) -> u64 {
    let folders = FOLDERS.len() as u64 + 1;
    let secrets = FOLDERS.iter().map(|(_, count)| u64::from(*count)).sum::<u64>() + 1;
    let (rounds, requests) = match class {
        Class::Outage => (2 * starts, 2),
        Class::LongPause => (2 * starts, 4),
        Class::Denial | Class::Working => (span.as_secs() + 2 + starts, 4),
    };
    let probes = span.as_secs() / 30 + 1;
    (rounds * (secrets + folders) + folders + probes) * requests
}
