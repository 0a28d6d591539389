//! A config with which psid cannot start. The unit fails, so that `systemctl --failed` shows it, and is started again
//! by the next caller at its socket, not by time.

use psi_common::for_own_scope;

use crate::cli::error::CommandError;
use crate::config::ConfigError;
use crate::grpc::refuse;
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
    let answer = for_own_scope(&answer).into_owned();
    // A user does not see what the config says.
    let to_users = "psid cannot start with its config; root sees why with `psid check`".to_owned();
    let (admin, users) = listener::passed_sockets();
    let refused = tokio::join!(refuse(admin, answer), refuse(users, to_users));
    for error in [refused.0, refused.1].into_iter().filter_map(Result::err) {
        tracing::debug!("callers were not answered: {error}");
    }
    error
}
