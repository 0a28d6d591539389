//! `psictl restore`: restores registrations that were deleted within the last ten minutes.

use std::collections::BTreeMap;

use psi_common::{Exit, InvalidSecretId, Paths, SecretId};
use psi_proto::v1::RestorableSecret;

use crate::client::{Client, Deadline};
use crate::ctl::podman;
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, id: Option<&str>, all: bool) -> Result<(), CliError> {
    let id = id.map(str::parse::<SecretId>).transpose().map_err(|error: InvalidSecretId| {
        CliError::new(Exit::BadInput, error.to_string(), "use an id of `psictl restore`")
    })?;
    let client = Client::new(paths, Deadline::Admin);
    let restorable = client.restorable()?;
    let Some(id) = id else {
        return if all { restore_all(&client, &restorable) } else { list(&restorable) };
    };
    client.restore(id)?;
    let deleted = restorable.iter().find(|secret| secret.id == id.as_str());
    stdio::write_text(&format!("restored; {}\n", next_step(id, deleted, &names_of_podman())))
}

fn list(restorable: &[RestorableSecret]) -> Result<(), CliError> {
    let lines = restorable.iter().map(|secret| {
        let label = label(secret);
        format!("{} (for {} s more){label}\n", secret.id, secret.seconds_left)
    });
    stdio::write_text(&lines.collect::<String>())
}

/// The label of a registration: podman's name, or else its description.
fn label(secret: &RestorableSecret) -> String {
    match (secret.name.as_str(), secret.description.as_str()) {
        ("", "") => String::new(),
        ("", description) => format!(": {description}"),
        (name, _) => format!(": {name}"),
    }
}

fn restore_all(client: &Client, restorable: &[RestorableSecret]) -> Result<(), CliError> {
    let known = names_of_podman();
    let (mut text, mut failed) = (String::new(), 0);
    for secret in restorable {
        let Ok(id) = secret.id.parse::<SecretId>() else { continue };
        match client.restore(id) {
            Ok(()) => {
                let step = next_step(id, Some(secret), &known);
                text += &format!("restored {id}{}; {step}\n", label(secret));
            }
            Err(failure) => {
                failed += 1;
                text += &format!("left {id}{}: {failure}\n", label(secret));
            }
        }
    }
    if restorable.is_empty() {
        text += "nothing was deleted within the last ten minutes\n";
    }
    stdio::write_text(&text)?;
    if failed > 0 {
        let what = format!("{failed} of {} were not restored", restorable.len());
        return Err(CliError::new(Exit::Drift, what, "see the lines that begin with `left`"));
    }
    Ok(())
}

/// Podman's names by id; empty if podman fails.
fn names_of_podman() -> BTreeMap<SecretId, String> {
    let secrets = podman::secrets().unwrap_or_default();
    secrets.iter().map(|secret| (secret.id, secret.name.clone())).collect()
}

/// The next step. Podman no longer has a secret that it deleted, so that the value is available only under its old id;
/// after `gc` or a failed `--replace`, podman still has it.
fn next_step(
    id: SecretId,
    deleted: Option<&RestorableSecret>,
    known: &BTreeMap<SecretId, String>,
) -> String {
    if let Some(name) = known.get(&id) {
        return format!("podman still has it, as {name}");
    }
    let (name, description) =
        deleted.map_or(("", ""), |it| (it.name.as_str(), it.description.as_str()));
    let name = if name.is_empty() { "NAME" } else { name };
    if description.is_empty() {
        return format!(
            "to create it in podman again: psictl get {id} | psictl add {name} --literal"
        );
    }
    format!(
        "podman does not have it: `psictl setup` creates it again if a workload lists it; otherwise create {name} with its reference ({description})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_step_depends_on_podman_and_the_kind() {
        let id: SecretId = "a".repeat(25).parse().unwrap();
        let none = BTreeMap::new();
        let known = BTreeMap::from([(id, "db".to_owned())]);
        assert_eq!(next_step(id, None, &known), "podman still has it, as db");
        let deleted = |name: &str, description: &str| RestorableSecret {
            name: name.into(),
            description: description.into(),
            ..RestorableSecret::default()
        };
        let literal = next_step(id, Some(&deleted("db", "")), &none);
        assert!(literal.ends_with(&format!("get {id} | psictl add db --literal")), "{literal}");
        let reference = next_step(id, Some(&deleted("", "infisical key=A")), &none);
        assert!(reference.contains("create NAME with its reference (infisical key=A)"));
        assert_eq!(label(&deleted("", "infisical key=A")), ": infisical key=A");
        assert_eq!(label(&deleted("db", "infisical key=A")), ": db");
    }
}
