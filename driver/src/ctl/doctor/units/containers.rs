//! Containers that exist: those of compose, of units that start them, and of commands.

use std::collections::BTreeSet;

use super::{Unit, UnitKind};
use crate::ctl::podman::Container;
use crate::ctl::quadlet::{SecretUse, secret_options};

/// The label with the unit of a container.
const UNIT: &str = "PODMAN_SYSTEMD_UNIT";
/// The labels with project and service, of docker-compose and of podman-compose.
const COMPOSE: [&str; 2] = ["com.docker.compose", "io.podman.compose"];

/// The containers that name a secret, unless their unit is known.
pub(super) fn load(containers: &[Container], known: &BTreeSet<String>) -> Vec<Unit> {
    let all = containers.iter().filter_map(Unit::of_container);
    let mut found: Vec<Unit> = Vec::new();
    for unit in all.filter(|unit| !known.contains(&unit.name)) {
        match found.iter_mut().find(|other| other.name == unit.name) {
            Some(other) => other.secrets.extend(unit.secrets),
            None => found.push(unit),
        }
    }
    found.retain(|unit| !unit.secrets.is_empty());
    found
}

impl Unit {
    fn of_container(container: &Container) -> Option<Self> {
        let args: Vec<Vec<u8>> =
            container.created_by.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let uses =
            secret_options(&args).filter_map(|spec| SecretUse::of(str::from_utf8(spec).ok()?));
        let label = |name: &str| container.labels.get(name).filter(|value| !value.is_empty());
        let compose = COMPOSE.iter().find_map(|prefix| {
            let service = label(&format!("{prefix}.service"))?;
            let project = label(&format!("{prefix}.project"))?;
            Some(format!("compose service {service} of {project}"))
        });
        let (name, kind) = match (compose, label(UNIT)) {
            (Some(name), _) => (name, UnitKind::Compose),
            (None, Some(unit)) => (unit.clone(), UnitKind::Service),
            (None, None) => (format!("container {}", container.name), UnitKind::Container),
        };
        // Compose creates its containers again, and so looks all secrets up. A container that is only started again
        // keeps its files, and podman looks up its variables.
        let secrets = uses.filter(|one| one.is_variable || kind == UnitKind::Compose);
        let secrets = secrets.map(|one| one.name).collect();
        Some(Self { name, kind, path: None, user: None, secrets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, labels: &[(&str, &str)], secret: &str) -> Container {
        Container {
            id: "1".into(),
            name: name.into(),
            is_running: false,
            words: BTreeSet::new(),
            created_by: ["podman", "run", "--secret", secret, "image"].map(str::to_owned).into(),
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }

    #[test]
    fn containers_are_named_by_compose_service_and_unit() {
        let labels = |prefix: &str| {
            [(format!("{prefix}.project"), "shop"), (format!("{prefix}.service"), "web")]
        };
        let [a, b] = COMPOSE.map(labels);
        let of = |labels: &[(String, &'static str); 2], name: &str| {
            let labels = labels.each_ref().map(|(name, value)| (name.as_str(), *value));
            container(name, &labels, &format!("{name}-secret"))
        };
        let all = [
            of(&a, "one"),
            of(&b, "two"),
            container("old", &[(UNIT, "old.service")], "x,type=env"),
            container("known", &[(UNIT, "known.service")], "x,type=env"),
            container("file", &[], "x"),
            container("plain", &[], "x,type=env"),
        ];
        let found = load(&all, &BTreeSet::from(["known.service".to_owned()]));
        let found: Vec<(&str, UnitKind, usize)> =
            found.iter().map(|it| (it.name.as_str(), it.kind, it.secrets.len())).collect();
        assert_eq!(
            found,
            [
                ("compose service web of shop", UnitKind::Compose, 2),
                ("old.service", UnitKind::Service, 1),
                ("container plain", UnitKind::Container, 1),
            ]
        );
    }
}
