//! `psi-driver restore`: the way back from a deletion.

use psi_common::{Exit, InvalidSecretId, Paths};

use crate::client::{Client, Patience};
use crate::failure::Failure;
use crate::stdio;

/// Podman has forgotten a secret that it deleted, so the value comes back under its old id only; the
/// last line says how to give it to podman again.
pub(crate) fn run(paths: &Paths, id: Option<&str>) -> Result<(), Failure> {
    let client = Client::new(paths, Patience::Probe);
    let Some(id) = id else {
        let lines = client
            .restorable()?
            .into_iter()
            .map(|secret| format!("{} (for {} s more)\n", secret.id, secret.seconds_left));
        return stdio::write_text(&lines.collect::<String>());
    };
    let id = id.parse().map_err(|error: InvalidSecretId| {
        Failure::new(Exit::BadInput, error.to_string(), "take an id of `psi-driver restore`")
    })?;
    client.restore(id)?;
    stdio::write_text(&format!(
        "restored; to give it to podman: psi-driver get {id} | podman secret create NAME -\n"
    ))
}
