//! A config with which psid cannot start. The unit fails, so that `systemctl --failed` shows it, and is started again
//! by the next caller at its socket, not by time.

use psi_common::for_own_scope;

use crate::cli::error::CommandError;
use crate::config::ConfigError;
use crate::runtime::listener;
use crate::sys::notify;

/// Reports the config to the service manager and to the callers that wait at its socket; the error of this start.
pub(super) async fn report(error: ConfigError) -> CommandError {
    let answer = format!(
        "psid cannot start with its config: {error}; correct it, check it with `psid check`, then `systemctl restart \
         psid`"
    );
    let error = CommandError::from(error);
    notify::status(&for_own_scope(&error.to_string()));
    if let Some(socket) = listener::passed_socket()
        && let Err(error) = crate::grpc::refuse(socket, for_own_scope(&answer).into_owned()).await
    {
        tracing::debug!("callers were not answered: {error}");
    }
    error
}
