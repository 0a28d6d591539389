//! Podman's secrets, as `podman secret inspect` prints them.

use std::collections::{BTreeMap, BTreeSet};

use psi_common::{Problem, SecretId};
use serde_json::Value;

/// A secret as podman knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) id: SecretId,
    pub(crate) name: String,
    /// "shell", "file" or "pass".
    pub(crate) driver: String,
    /// The driver's options, set when the secret was created.
    pub(crate) options: BTreeMap<String, String>,
}

/// Every secret of one store, sorted by name and id. Two can have the same name: a `--replace` whose delete failed
/// leaves the old secret beside the new one.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Vec<Secret>);

impl FromIterator<Secret> for Secrets {
    fn from_iter<T: IntoIterator<Item = Secret>>(secrets: T) -> Self {
        let mut all: Vec<Secret> = secrets.into_iter().collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Self(all)
    }
}

impl Secrets {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All secrets of a name.
    pub(crate) fn named(&self, name: &str) -> &[Secret] {
        let from = self.0.partition_point(|secret| secret.name.as_str() < name);
        let count = self.0[from..].iter().take_while(|secret| secret.name == name).count();
        &self.0[from..from + count]
    }

    /// The secret of a name; `None` if there are several.
    pub(crate) fn only(&self, name: &str) -> Option<&Secret> {
        match self.named(name) {
            [secret] => Some(secret),
            _ => None,
        }
    }

    /// Whether there is one of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.named(name).is_empty()
    }

    /// The secrets that share a name, by name.
    pub(crate) fn duplicates(&self) -> impl Iterator<Item = &[Secret]> {
        self.0.chunk_by(|a, b| a.name == b.name).filter(|same| same.len() > 1)
    }
}

/// Parses one secret of `podman secret inspect`.
pub(super) fn parse(secret: &Value) -> Option<Secret> {
    let spec = &secret["Spec"];
    let driver = &spec["Driver"];
    let options = driver["Options"].as_object().into_iter().flatten();
    Some(Secret {
        id: secret["ID"].as_str()?.parse().ok()?,
        name: spec["Name"].as_str()?.to_owned(),
        driver: driver["Name"].as_str()?.to_owned(),
        options: options
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect::<Option<_>>()?,
    })
}

impl Secret {
    /// Whether its commands are psi's, of this version or version 1.
    pub(crate) fn names_psi(&self) -> bool {
        runs_psi(&self.driver, self.options.values().map(String::as_str))
    }
}

/// Whether a driver with these options is psi, of this version or version 1.
pub(super) fn runs_psi<'a>(driver: &str, options: impl Iterator<Item = &'a str>) -> bool {
    let mut words = options.flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    driver == "shell" && words.any(|word| word == "psi")
}

/// The ids of some secrets.
pub(crate) fn ids<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> BTreeSet<SecretId> {
    secrets.into_iter().map(|secret| secret.id).collect()
}

/// The message that several secrets have one name. Podman uses the name for one of them and forgets it when it
/// removes any of them, so the remedy removes all and creates one again.
pub(crate) fn duplicate_names(same: &[Secret]) -> Problem {
    let name = same.first().map_or("", |secret| secret.name.as_str());
    let ids: Vec<&str> = same.iter().map(|secret| secret.id.as_str()).collect();
    Problem::new(
        format!("podman has {} secrets with the name {name}: {}", same.len(), ids.join(", ")),
        format!("remove them with `podman secret rm {}`, then create it again", ids.join(" ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(driver: &str, lookup: &str) -> Secret {
        let inspected = json!({
            "ID": "0123456789abcdef012345678",
            "Spec": {"Name": "a", "Driver": {"Name": driver, "Options": {"lookup": lookup}}},
        });
        parse(&inspected).unwrap()
    }

    #[test]
    fn names_psi_recognizes_both_versions() {
        for lookup in [
            "exec /usr/bin/psi-driver lookup",
            "curl -sf --unix-socket /run/psi/psi.sock http://localhost/lookup/$SECRET_ID",
            "podman run --rm registry.example/psi:latest secret lookup",
        ] {
            assert!(secret("shell", lookup).names_psi(), "{lookup}");
        }
        assert!(!secret("shell", "pass show /epsilon/$SECRET_ID").names_psi());
        assert!(!secret("file", "/var/lib/psi").names_psi());
    }

    #[test]
    fn secrets_with_one_name_are_all_kept() {
        let named = |name: &str, digit: &str| Secret {
            name: name.into(),
            id: digit.repeat(25).parse().unwrap(),
            ..secret("shell", "x")
        };
        let all = [named("b", "2"), named("a", "3"), named("b", "1"), named("c", "4")];
        let all: Secrets = all.into_iter().collect();
        assert_eq!(all.iter().count(), 4);
        let ids: Vec<&str> = all.named("b").iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["1".repeat(25), "2".repeat(25)]);
        assert!(all.has("b") && all.only("b").is_none() && !all.has("bb"));
        assert_eq!(all.only("c").map(|one| one.name.as_str()), Some("c"));
        assert_eq!(all.duplicates().count(), 1);
    }
}
