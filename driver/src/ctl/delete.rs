//! `psictl delete ID`: deletes a registration as podman's `delete` does.

use psi_common::{Exit, InvalidSecretId, Paths};

use crate::client::{Client, Deadline};
use crate::error::CliError;

pub(crate) fn run(paths: &Paths, id: &str, force: bool) -> Result<(), CliError> {
    let id = id.parse().map_err(|error: InvalidSecretId| {
        CliError::new(Exit::BadInput, error.to_string(), "use an id of `psictl list`")
    })?;
    Client::new(paths, Deadline::Podman).delete(id, force)
}
