//! The values of workloads as variables of a process of the host.

use std::collections::BTreeMap;

use psi_common::{Exit, MAX_VARIABLE_BYTES, SecretBytes, check, chooses_code};
use psi_proto::v1::{PlannedSecret, PlannedWorkload};

use super::{value, workloads};
use crate::client::Client;
use crate::error::CliError;

/// Values by variable.
pub(super) type Variables = BTreeMap<String, SecretBytes>;

/// The variables of the named workloads; of several workloads, the later one wins, as of several sources. All of them, or
/// an error that names the key.
pub(super) fn of(
    client: &Client,
    names: &[String],
    allowed: &[String],
    title: &str,
) -> Result<Variables, CliError> {
    let mut variables = Variables::new();
    for workload in workloads(client, names, title)? {
        variables.extend(variables_of(client, &workload, allowed)?);
    }
    Ok(variables)
}

fn variables_of(
    client: &Client,
    workload: &PlannedWorkload,
    allowed: &[String],
) -> Result<Variables, CliError> {
    reject_code(workload, allowed)?;
    let mut variables = Variables::new();
    for secret in workload.secrets.iter().filter(|secret| !secret.mount) {
        if check::variable(&secret.key).is_err() || secret.reference.is_empty() {
            return Err(no_variable(workload, secret));
        }
        let value = value(client, secret)?;
        fits(&workload.name, &secret.key, &value)?;
        variables.insert(secret.key.clone(), value);
    }
    Ok(variables)
}

/// Rejects variables that choose code: otherwise a user with write access to the provider's directory could run code as
/// the caller.
fn reject_code(workload: &PlannedWorkload, allowed: &[String]) -> Result<(), CliError> {
    let secrets = workload.secrets.iter().filter(|secret| !secret.mount);
    let refused: Vec<&str> = secrets
        .map(|secret| secret.key.as_str())
        .filter(|key| chooses_code(key) && !allowed.iter().any(|name| name == key))
        .collect();
    let Some(first) = refused.first() else { return Ok(()) };
    let (list, name) = (refused.join(", "), &workload.name);
    let verb = if refused.len() == 1 { "chooses" } else { "choose" };
    Err(CliError::new(
        Exit::BadInput,
        format!("{list} of the workload {name} {verb} what a program loads or runs"),
        format!("remove it at the provider, or pass `--allow {first}` if the command needs it"),
    ))
}

/// Checks that a value fits into a variable: Linux takes `NAME=VALUE` with a NUL at its end, of limited length.
fn fits(workload: &str, key: &str, value: &SecretBytes) -> Result<(), CliError> {
    let what = if value.expose_secret().contains(&0) {
        "contains a NUL, which no variable can hold"
    } else if key.len() + 1 + value.len() >= MAX_VARIABLE_BYTES {
        "is over 128 KiB, Linux's limit for a variable"
    } else {
        return Ok(());
    };
    Err(CliError::new(
        Exit::BadInput,
        format!("the value of {key} {what}"),
        format!("add {key} to mount of [workloads.\"{workload}\"], and use `psictl render`"),
    ))
}

/// A key that no variable can carry is not left out: the program would run without it.
fn no_variable(workload: &PlannedWorkload, secret: &PlannedSecret) -> CliError {
    let (key, name) = (check::excerpt(&secret.key), &workload.name);
    CliError::new(
        Exit::BadInput,
        format!("no variable can have the name of the key '{key}' of the workload {name}"),
        format!(
            "give it a variable by env of [workloads.\"{name}\"], add it to mount there if it is for a file, or rename it at \
             the provider"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(keys: &[&str], allowed: &[&str]) -> Option<String> {
        let secrets =
            keys.iter().map(|key| PlannedSecret { key: (*key).into(), ..Default::default() });
        let workload = PlannedWorkload {
            name: "app".into(),
            secrets: secrets.collect(),
            ..Default::default()
        };
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        reject_code(&workload, &allowed).err().map(|failure| failure.to_string())
    }

    #[test]
    fn exec_rejects_variables_that_choose_code() {
        assert_eq!(refusal(&["A", "DB_URL"], &[]), None);
        let line = refusal(&["A", "LD_PRELOAD", "PYTHONPATH"], &[]).unwrap();
        assert!(
            line.starts_with("LD_PRELOAD, PYTHONPATH of the workload app choose what"),
            "{line}"
        );
        assert!(line.contains("`--allow LD_PRELOAD`"), "{line}");
        let line = refusal(&["LD_PRELOAD", "PATH"], &["LD_PRELOAD"]).unwrap();
        assert!(line.starts_with("PATH of the workload app chooses what"), "{line}");
        assert_eq!(refusal(&["LD_PRELOAD", "PATH"], &["PATH", "LD_PRELOAD"]), None);
        // A prefix of a name is no name.
        assert!(refusal(&["LD_PRELOAD"], &["LD_"]).is_some());
    }

    #[test]
    fn fits_reports_the_key_of_a_value_that_does_not_fit() {
        let fits = |bytes: Vec<u8>| fits("app", "KEY", &SecretBytes::new(bytes));
        assert!(fits(vec![b'x'; MAX_VARIABLE_BYTES - 5]).is_ok());
        let line = fits(vec![b'x'; MAX_VARIABLE_BYTES - 4]).unwrap_err().to_string();
        assert!(line.starts_with("the value of KEY is over 128 KiB"), "{line}");
        let line = fits(b"a\0b".to_vec()).unwrap_err().to_string();
        assert!(line.starts_with("the value of KEY contains a NUL"), "{line}");
    }
}
