//! What podman tells of its secrets.

use std::collections::{BTreeMap, BTreeSet};

use psi_common::SecretId;
use serde_json::Value;

/// A secret as podman knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) id: SecretId,
    pub(crate) name: String,
    /// "shell", "file" or "pass".
    pub(crate) driver: String,
    /// What the driver was told when the secret was made.
    pub(crate) options: BTreeMap<String, String>,
}

/// Every secret of one store, sorted by name and id. Two may have one name: a `--replace` whose delete failed,
/// or that psid's return cut in two, leaves the old one beside the new one.
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

    /// All of one name.
    pub(crate) fn named(&self, name: &str) -> &[Secret] {
        let from = self.0.partition_point(|secret| secret.name.as_str() < name);
        let count = self.0[from..].iter().take_while(|secret| secret.name == name).count();
        &self.0[from..from + count]
    }

    /// The one of a name; of several, none.
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

    /// Those that have a name in common.
    pub(crate) fn doubled(&self) -> impl Iterator<Item = &[Secret]> {
        self.0.chunk_by(|a, b| a.name == b.name).filter(|same| same.len() > 1)
    }
}

/// As `podman secret inspect` has it.
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
    /// Whether it is psi's, this psi's or a former one's: its commands name psi.
    pub(crate) fn names_psi(&self) -> bool {
        let words = self.options.values();
        let mut words = words.flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
        self.driver == "shell" && words.any(|word| word == "psi")
    }
}

/// The ids of some secrets.
pub(crate) fn ids<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> BTreeSet<SecretId> {
    secrets.into_iter().map(|secret| secret.id).collect()
}

/// That several secrets have one name, and the way out. Podman takes the name for one of them, and loses the
/// name with whichever is removed: so all are removed, and one is made again.
pub(crate) fn doubled(same: &[Secret]) -> String {
    let name = same.first().map_or("", |secret| secret.name.as_str());
    let ids: Vec<&str> = same.iter().map(|secret| secret.id.as_str()).collect();
    format!(
        "podman has {} secrets of the name {name}: {}; remove them with `podman secret rm {}`, and create it again",
        same.len(),
        ids.join(", "),
        ids.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(driver: &str, lookup: &str) -> Secret {
        let told = json!({
            "ID": "0123456789abcdef012345678",
            "Spec": {"Name": "a", "Driver": {"Name": driver, "Options": {"lookup": lookup}}},
        });
        parse(&told).unwrap()
    }

    #[test]
    fn the_python_psi_s_commands_are_known_and_others_are_not() {
        for lookup in [
            "exec /usr/bin/psi-driver lookup",
            "curl -sf --unix-socket /run/psi/psi.sock http://localhost/lookup/$SECRET_ID",
            "podman run --rm ghcr.io/quickvm/psi:latest secret lookup",
        ] {
            assert!(secret("shell", lookup).names_psi(), "{lookup}");
        }
        assert!(!secret("shell", "pass show /epsilon/$SECRET_ID").names_psi());
        assert!(!secret("file", "/var/lib/psi").names_psi());
    }

    #[test]
    fn secrets_of_one_name_are_all_kept() {
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
        assert_eq!(all.doubled().count(), 1);
    }
}
