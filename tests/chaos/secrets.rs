//! The secrets of the clients, and the limit of requests for them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::faults::Class;
use super::model::value;
use psi_harness::{
    Config, Driver, FakeInfisical, Instance, PROJECT, id, reference, seed_with_two_identities,
};

/// Secrets of the provider, by directory; one listing gets each directory.
pub(super) const DIRECTORIES: [(&str, u32); 4] = [("/a", 12), ("/b", 8), ("/c", 4), (SECOND, 4)];
/// The directory of another project, for which psid logs in as another identity.
pub(super) const SECOND: &str = "/s";
/// That project's id.
const SECOND_PROJECT: &str = "6f2d1b0e-0000-4000-8000-00000000000e";
/// Values that only psid has.
const LITERALS: u32 = 2;
/// The directory of secrets that psid never had before their step.
pub(super) const PROBES: &str = "/probes";

/// Directory and key of each.
pub(super) fn references() -> Vec<(&'static str, String)> {
    let keys = |(path, count): (&'static str, u32)| {
        (0..count).map(move |number| (path, format!("{}{number}", path[1..].to_uppercase())))
    };
    DIRECTORIES.into_iter().flat_map(keys).collect()
}

/// The fake's seed, all in version 1.
pub(super) fn seeded(references: &[(&'static str, String)]) -> Value {
    let mut directories = Map::new();
    directories.insert(PROBES.into(), json!({}));
    for (path, key) in references {
        let directory = directories.entry(*path).or_insert_with(|| json!({}));
        directory[key] = value(key, 1).into();
    }
    let second = json!({SECOND: directories.remove(SECOND)});
    let mut seed = seed_with_two_identities(&Value::Object(directories));
    let projects = seed["projects"].as_array_mut().unwrap();
    projects.push(json!({"id": SECOND_PROJECT, "slug": "second", "environments": ["prod"],
                         "secrets": {"prod": second}}));
    seed
}

/// psid's config: a workload for each directory, and an identity for each project.
pub(super) fn config(infisical: &FakeInfisical) -> Config {
    let mut config = Config::of(infisical).short_lived().timeout("2s");
    config.rest += &format!(
        "[providers.infisical.projects.second]\nid = \"{SECOND_PROJECT}\"\nenvironment = \"prod\"\n\
         [providers.infisical.projects.second.auth]\nmethod = \"universal-auth\"\n\
         client_id = \"other-client\"\n\
         client_secret_credential = \"infisical-client-secret\"\n\
         [workloads.s]\nprovider = \"infisical\"\n\
         secrets = [{{ project = \"second\", path = \"{SECOND}\" }}]\n"
    );
    for (path, _) in DIRECTORIES.iter().filter(|(path, _)| *path != SECOND) {
        config = config.workload(&path[1..], path, false);
    }
    config
}

pub(super) fn project_of(path: &str) -> &'static str {
    if path == SECOND { SECOND_PROJECT } else { PROJECT }
}

/// Sets a secret without the API.
pub(super) fn put_at(infisical: &FakeInfisical, path: &str, key: &str, value: &str) {
    let body = json!({"project": project_of(path), "environment": "prod", "path": path, "key": key,
                      "value": value});
    infisical.control("PUT", "/secret", &body);
}

/// The numbers of a directory's secrets.
pub(super) fn references_in<'a>(
    references: &'a [(&'static str, String)],
    directory: &'a str,
) -> impl Iterator<Item = usize> + 'a {
    let all = references.iter().enumerate();
    all.filter(move |(_, (path, _))| *path == directory).map(|(at, _)| at)
}

fn reference_of(path: &str, key: &str) -> String {
    let text = reference(path, key);
    if path == SECOND { text.replace("myproject", "second") } else { text }
}

/// Registers all secrets; returns the lookup and name of each: first the provider's, then psid's
/// own.
pub(super) fn register(
    instance: &Instance,
    references: &[(&'static str, String)],
) -> (Vec<Driver>, Vec<String>) {
    let remote = references.iter().map(|(path, key)| (key.clone(), reference_of(path, key)));
    let own = (0..LITERALS).map(|number| format!("L{number}"));
    let own = own.map(|name| (name.clone(), value(&name, 1)));
    let store = |(number, (name, data)): (usize, (String, String))| {
        let id = id(u32::try_from(number).unwrap() + 1);
        instance.driver(&["store"]).id(&id).stdin(data).ok();
        (instance.driver(&["lookup"]).id(&id), name)
    };
    remote.chain(own).enumerate().map(store).unzip()
}

/// The limit of requests to the provider, however many lookups there are. When an outage begins,
/// each psid may have one request in flight for each secret and each directory, and may repeat each
/// once; then there is one probe in 30 s, and one per directory for a refresh by command; each with
/// a login. While the provider works, each secret and directory is due once per refresh interval,
/// which is a second here, and may need a login and a second attempt with the new token. `wide` is
/// the number of additional directories.
pub(super) fn bound(class: Class, span: Duration, starts: u64, wide: u64) -> u64 {
    let directories = DIRECTORIES.len() as u64 + 1 + wide;
    let secrets = DIRECTORIES.iter().map(|(_, count)| u64::from(*count)).sum::<u64>() + 1;
    let (rounds, requests) = match class {
        Class::Outage => (2 * starts, 2),
        Class::LongPause | Class::LoginRefused => (2 * starts, 4),
        Class::Denial | Class::Partial | Class::Working => (span.as_secs() + 2 + starts, 4),
    };
    let probes = span.as_secs() / 30 + 1;
    (rounds * (secrets + directories) + directories + probes) * requests
}
