//! A secret that proves whether new secrets go to psi: created as an admin creates one, read back, and removed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use psi_common::{Exit, SecretBytes};

use super::{Commands, Secret, command, lookup, secrets};
use crate::error::CliError;

const PREFIX: &str = "psi-probe-";

/// Creates a secret by podman's default driver, checks that it is psi's, compares what its lookup returns, and removes
/// it, whatever came of it.
pub(crate) fn probe(commands: &Commands) -> Result<(), CliError> {
    remove_left_ones()?;
    let name = format!("{PREFIX}{:016x}", random());
    let value =
        SecretBytes::new(format!("probe {:016x}{:016x}\n", random(), random()).into_bytes());
    command::create_by_default(&name, &value)
        .map_err(|failure| failure.while_doing("podman creates no secret through psi"))?;
    let checked = command::secret(&name).and_then(|found| {
        let secret = secrets::parse(&found).ok_or_else(|| super::unrecognized(&found))?;
        check(&secret, commands, &value)
    });
    let removed = command::remove(&name);
    checked.and(removed)
}

/// Removes the probes of runs that were killed.
fn remove_left_ones() -> Result<(), CliError> {
    let listed = command::secrets()?;
    let parsed = listed.iter().filter_map(secrets::parse);
    parsed
        .filter(|secret| secret.name.starts_with(PREFIX))
        .try_for_each(|secret| command::remove(&secret.name))
}

fn check(secret: &Secret, commands: &Commands, value: &SecretBytes) -> Result<(), CliError> {
    if secret.driver != "shell" || !commands.matches(&secret.options) {
        let what = if secret.driver == "shell" {
            "podman runs other commands for new secrets than psi's".to_owned()
        } else {
            format!("podman keeps new secrets by its driver '{}', not by psi", secret.driver)
        };
        let remedy = "`psictl doctor` names the file that overrides 50-psi.conf";
        return Err(CliError::new(Exit::BadInput, what, remedy));
    }
    let served = lookup::resolve(&commands.lookup(), secret.id).map_err(|why| {
        CliError::without_remedy(Exit::Io, format!("the secret is not read back: {why}"))
    })?;
    if served.same_as(value) {
        return Ok(());
    }
    let what = "the secret that was read back is another one";
    Err(CliError::new(Exit::Protocol, what, "report it, with the output of `psictl doctor`"))
}

/// 64 bits of the standard library's hash seeds: no other secret has the name.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
