//! A secret that is stored in psid and deleted again, as podman would do it: only a store shows that the key, the disk
//! and the state directory allow one.

use psi_common::{Exit, Paths, SecretBytes, SecretId};
use psi_proto::v1::StoreKind;

use crate::client::{Client, Deadline};
use crate::ctl::random;
use crate::error::CliError;

/// How the ids of trials begin. Podman makes such an id once in 2^40.
const PREFIX: &str = "0000000000";

/// Whether an id is that of a trial.
pub(crate) fn is_trial(id: &str) -> bool {
    id.starts_with(PREFIX)
}

/// Stores a literal and deletes it, with those that an interrupted install left.
pub(super) fn store_and_delete(paths: &Paths) -> Result<(), CliError> {
    // As long as podman's own call may take.
    let client = Client::new(paths, Deadline::Podman);
    let left = client.list()?;
    for id in left.iter().filter(|id| is_trial(id)).filter_map(|id| id.parse().ok()) {
        client.delete(id, true)?;
    }
    let id = new_id()?;
    let stored = client.store(id, &SecretBytes::new(b"trial".to_vec()), StoreKind::Literal);
    // A store whose answer was lost may have been done.
    let deleted = client.delete(id, true);
    stored.and(deleted)
}

fn new_id() -> Result<SecretId, CliError> {
    let random = random::number() >> 4;
    format!("{PREFIX}{random:015x}").parse().map_err(|error: psi_common::InvalidSecretId| {
        CliError::without_remedy(Exit::Protocol, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_id_is_an_id_and_a_trial() {
        let ids = [new_id().unwrap(), new_id().unwrap()];
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| is_trial(id.as_str())));
        assert!(!is_trial("0123456789abcdef012345678"));
    }
}
