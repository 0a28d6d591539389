//! Whether psid runs with the config file as it is: a command that follows an older one leaves something out.

use psi_common::{Exit, Paths};
use psi_proto::v1::StatusResponse;

use crate::client::{Client, Deadline};
use crate::error::CliError;

/// The causes of psid's degradations that concern the config file.
const CAUSES: [&str; 2] = ["config", "config-changed"];

/// Fails if psid runs with another config than the file, with the command that ends that.
pub(super) fn check(paths: &Paths) -> Result<(), CliError> {
    let status = Client::new(paths, Deadline::Probe).status(false)?;
    drift_in(&status).map_or(Ok(()), |why| Err(error(why)))
}

/// What psid reports of its config file.
pub(super) fn drift_in(status: &StatusResponse) -> Option<String> {
    let mut reasons = status.degraded_causes.iter().zip(&status.degraded);
    reasons.find_map(|(cause, why)| CAUSES.contains(&cause.as_str()).then(|| why.clone()))
}

/// The error of a command that psid served with another config than the file.
pub(super) fn error(why: String) -> CliError {
    CliError::without_remedy(Exit::Drift, why)
}
