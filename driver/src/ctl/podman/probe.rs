//! A secret that proves whether new secrets go to psi: created as an admin creates one, looked up, and removed.

use psi_common::{Exit, SecretBytes};

use super::{Commands, Secret, command, lookup, secrets};
use crate::ctl::random;
use crate::error::CliError;

/// How the names of probes begin; 16 hexadecimal digits follow.
const PREFIX: &str = "psi-probe-";

/// Why new secrets do not go to psi.
#[derive(Debug)]
pub(crate) enum ProbeFailure {
    /// Podman creates none.
    NotCreated(CliError),
    /// Podman has another driver, or other commands.
    Elsewhere(String),
    /// The probe itself failed.
    Other(CliError),
}

/// Creates a secret by podman's default driver, checks that it is psi's, compares what its lookup returns, and removes
/// it, whatever came of it.
pub(crate) fn probe(commands: &Commands) -> Result<(), ProbeFailure> {
    let name = format!("{PREFIX}{:016x}", random::number());
    let value = SecretBytes::new(
        format!("probe {:016x}{:016x}\n", random::number(), random::number()).into_bytes(),
    );
    command::create_by_default(&name, &value).map_err(ProbeFailure::NotCreated)?;
    let found = command::secret(&name)
        .and_then(|found| secrets::parse(&found).ok_or_else(|| super::unrecognized(&found)));
    let checked = match &found {
        Ok(secret) => check(secret, commands, &value),
        Err(_) => Ok(()),
    };
    let removed = command::remove(&name);
    checked?;
    found.map(drop).and(removed).map_err(ProbeFailure::Other)
}

/// Removes the probes that an interrupted install left.
pub(crate) fn remove_probes() -> Result<(), CliError> {
    command::names()?.lines().filter(|name| is_probe(name)).try_for_each(command::remove)
}

/// Whether a name is that of a probe.
pub(crate) fn is_probe(name: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(PREFIX).is_some_and(|number| number.len() == 16 && number.bytes().all(is_hex))
}

fn check(secret: &Secret, commands: &Commands, value: &SecretBytes) -> Result<(), ProbeFailure> {
    if secret.driver != "shell" {
        let what = format!("new secrets go to podman's driver '{}', not to psi", secret.driver);
        return Err(ProbeFailure::Elsewhere(what));
    }
    if !commands.matches(&secret.options) {
        let what = "new secrets do not go to psi: podman runs other commands for them";
        return Err(ProbeFailure::Elsewhere(what.into()));
    }
    let served = lookup::resolve(&commands.lookup(), secret.id).map_err(|why| {
        let what = format!("podman created a secret with psi, and its lookup failed: {why}");
        ProbeFailure::Other(CliError::without_remedy(Exit::Io, what))
    })?;
    if served.same_as(value) {
        return Ok(());
    }
    let what = "podman created a secret with psi, and its lookup returned another value";
    let remedy = "report it, with the output of `psictl doctor`";
    Err(ProbeFailure::Other(CliError::new(Exit::Protocol, what, remedy)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_probe_matches_no_other_name() {
        assert!(is_probe(&format!("{PREFIX}{:016x}", random::number())));
        for name in ["psi-probe", "psi-probe-", "psi-probe-mine", "psi-probe-0123456789abcdeg", "x"]
        {
            assert!(!is_probe(name), "{name}");
        }
    }
}
