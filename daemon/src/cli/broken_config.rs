//! A config with which psid cannot start. The unit fails, so that `systemctl --failed` shows it, and is started again
//! by the next caller at its socket, not by time.

use psi_common::{Exit, for_own_scope};

use super::Failure;
use crate::config::ConfigError;
use crate::runtime::listener;
use crate::sys::notify;

/// Reports the config to the service manager and to the callers that wait at its socket; the failure of this start.
pub(super) async fn report(error: &ConfigError) -> Failure {
    let message = format!("{error}; `psid check` checks it");
    notify::status(&for_own_scope(&message));
    if let Some(socket) = listener::passed_socket() {
        let why = format!(
            "psid cannot start with its config: {error}; correct it, check it with `psid check`, then `systemctl \
             restart psid`"
        );
        if let Err(error) = crate::grpc::refuse(socket, for_own_scope(&why).into_owned()).await {
            tracing::debug!("callers were not answered: {error}");
        }
    }
    (Exit::BadInput, message)
}
