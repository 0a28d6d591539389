//! `psictl restore`: the way back from a deletion.

use std::collections::BTreeMap;

use psi_common::{Exit, InvalidSecretId, Paths, SecretId};
use psi_proto::v1::RestorableSecret;

use crate::client::{Client, Deadline};
use crate::ctl::podman;
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, id: Option<&str>, all: bool) -> Result<(), CliError> {
    let id = id.map(str::parse::<SecretId>).transpose().map_err(|error: InvalidSecretId| {
        CliError::new(Exit::BadInput, error.to_string(), "take an id of `psictl restore`")
    })?;
    let client = Client::new(paths, Deadline::Admin);
    let restorable = client.restorable()?;
    let Some(id) = id else {
        return if all { restore_all(&client, &restorable) } else { list(&restorable) };
    };
    client.restore(id)?;
    let deleted = restorable.iter().find(|secret| secret.id == id.as_str());
    stdio::write_text(&format!("restored; {}\n", next(id, deleted, &names_of_podman())))
}

fn list(restorable: &[RestorableSecret]) -> Result<(), CliError> {
    let lines = restorable.iter().map(|secret| {
        let label = label(secret);
        format!("{} (for {} s more){label}\n", secret.id, secret.seconds_left)
    });
    stdio::write_text(&lines.collect::<String>())
}

/// What it is to people: podman's name, else where it led.
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
                let next = next(id, Some(secret), &known);
                text += &format!("restored {id}{}; {next}\n", label(secret));
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

/// Podman's names by id; none, when podman does not say.
fn names_of_podman() -> BTreeMap<SecretId, String> {
    let secrets = podman::secrets().unwrap_or_default();
    secrets.iter().map(|secret| (secret.id, secret.name.clone())).collect()
}

/// What is left to do. Podman has forgotten a secret that it deleted, so that the value comes back under its old
/// id only; after `gc`, or a `--replace` that was refused, podman still has the id.
fn next(
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
        return format!("to give it to podman: psictl get {id} | psictl add {name} --literal");
    }
    format!(
        "podman does not have it: `psictl setup` makes it again if a workload lists it; else create {name} with its reference ({description})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_follows_from_what_podman_has_and_what_it_was() {
        let id: SecretId = "a".repeat(25).parse().unwrap();
        let none = BTreeMap::new();
        let known = BTreeMap::from([(id, "db".to_owned())]);
        assert_eq!(next(id, None, &known), "podman still has it, as db");
        let deleted = |name: &str, description: &str| RestorableSecret {
            name: name.into(),
            description: description.into(),
            ..RestorableSecret::default()
        };
        let literal = next(id, Some(&deleted("db", "")), &none);
        assert!(literal.ends_with(&format!("get {id} | psictl add db --literal")), "{literal}");
        let reference = next(id, Some(&deleted("", "infisical key=A")), &none);
        assert!(reference.contains("create NAME with its reference (infisical key=A)"));
        assert_eq!(label(&deleted("", "infisical key=A")), ": infisical key=A");
        assert_eq!(label(&deleted("db", "infisical key=A")), ": db");
    }
}
