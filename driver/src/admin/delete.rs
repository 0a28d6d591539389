//! `psi-driver delete ID`: what podman's delete does, by hand.

use psi_common::{Exit, InvalidSecretId, Paths};

use crate::client::{Client, Patience};
use crate::failure::Failure;

pub(crate) fn run(paths: &Paths, id: &str, force: bool) -> Result<(), Failure> {
    let id = id.parse().map_err(|error: InvalidSecretId| {
        Failure::new(Exit::BadInput, error.to_string(), "take an id of `psi-driver list`")
    })?;
    Client::new(paths, Patience::Podman).delete(id, force)
}
