//! gRPC: authorizes the caller, converts messages to domain types and back, errors to statuses, and reads the
//! clock. It calls `lookup::Service` and [`control::Control`] only.

mod admin;
mod caller;
pub(crate) mod control;
mod drill;
mod driver;
mod hsm;
mod import;
mod incoming;
mod login;
mod peer;
mod refuse;
mod registrations;
mod report;
mod workloads;

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use psi_common::{MAX_SECRET_BYTES, Problem, SecretBytes, SecretId, for_own_scope};
use psi_proto::v1::cache_admin_server::CacheAdminServer;
use psi_proto::v1::hsm_admin_server::HsmAdminServer;
use psi_proto::v1::import_admin_server::ImportAdminServer;
use psi_proto::v1::provider_admin_server::ProviderAdminServer;
use psi_proto::v1::secret_driver_server::SecretDriverServer;
use psi_proto::v1::workload_admin_server::WorkloadAdminServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::lookup::ServiceError;
use control::Control;
use peer::Authorizer;

pub(crate) use refuse::refuse;

/// The deadline of a call without one: that of psi-driver, which holds podman's lock meanwhile.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// How long before the caller's deadline psid answers.
const MARGIN: Duration = Duration::from_millis(400);
/// The largest request: a secret and its id fit. A request is buffered until it is complete.
const MAX_REQUEST_BYTES: usize = 2 * MAX_SECRET_BYTES;
/// Concurrent calls of one connection; psi-driver makes one.
const MAX_CALLS: u32 = 32;
/// An idle connection is pinged at this interval…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and closed if it does not answer the ping in this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open calls may take once psid stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Serves the socket until `stop`, then ends the open calls.
pub async fn serve(
    daemon: Arc<dyn Control>,
    listener: UnixListener,
    stop: CancellationToken,
) -> Result<(), Problem> {
    let failed = |error: &dyn Error| {
        Problem::new(format!("the server ended: {error}"), "see `journalctl -u psid`")
    };
    let listener = tokio::net::UnixListener::from_std(listener).map_err(|error| failed(&error))?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let authorizer = Authorizer::new(Arc::clone(&daemon));
    let connections = incoming::connections(listener, authorizer.clone(), stop.clone());
    let driver = SecretDriverServer::new(driver::Driver(Arc::clone(&daemon)));
    let admin = CacheAdminServer::new(admin::Admin(Arc::clone(&daemon)));
    let hsm = HsmAdminServer::new(hsm::Hsm(Arc::clone(&daemon)));
    let import = ImportAdminServer::new(import::Import(Arc::clone(&daemon)));
    let providers = ProviderAdminServer::new(login::Providers(Arc::clone(&daemon)));
    let workloads = WorkloadAdminServer::new(workloads::Workloads(daemon));
    let server = Server::builder()
        .max_concurrent_streams(MAX_CALLS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(authorized(health.max_decoding_message_size(MAX_REQUEST_BYTES), &authorizer))
        .add_service(authorized(driver.max_decoding_message_size(MAX_REQUEST_BYTES), &authorizer))
        .add_service(authorized(admin.max_decoding_message_size(MAX_REQUEST_BYTES), &authorizer))
        .add_service(authorized(hsm.max_decoding_message_size(MAX_REQUEST_BYTES), &authorizer))
        .add_service(authorized(import.max_decoding_message_size(MAX_REQUEST_BYTES), &authorizer))
        .add_service(authorized(
            providers.max_decoding_message_size(MAX_REQUEST_BYTES),
            &authorizer,
        ))
        .add_service(authorized(
            workloads.max_decoding_message_size(MAX_REQUEST_BYTES),
            &authorizer,
        ))
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    let shutdown = async {
        stop.cancelled().await;
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, std::future::pending::<()>()).await;
    };
    // As a task of a worker, which then serves the calls itself: on the thread of `block_on`, each connection would cost
    // two wake-ups of another thread.
    let server = AbortOnDropHandle::new(tokio::spawn(server));
    tokio::select! {
        result = server => match result {
            Ok(served) => served.map_err(|error| failed(&error)),
            Err(crashed) => Err(failed(&crashed)),
        },
        () = shutdown => Ok(()),
    }
}

fn authorized<S>(service: S, authorizer: &Authorizer) -> InterceptedService<S, Authorizer> {
    InterceptedService::new(service, authorizer.clone())
}

/// The one place that turns an error into a status.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn status(error: ServiceError) -> Status {
    let message = for_own_scope(&error.to_string()).into_owned();
    match error {
        ServiceError::Malformed(_) => Status::invalid_argument(message),
        ServiceError::NotFound(_) => Status::not_found(message),
        ServiceError::Exists => Status::already_exists(message),
        ServiceError::Denied(_) => Status::permission_denied(message),
        ServiceError::NoKey(_) => Status::failed_precondition(message),
        ServiceError::Unavailable(_) => Status::unavailable(message),
    }
}

fn secret_id(text: &str) -> Result<SecretId, Status> {
    text.parse().map_err(|error| {
        status(ServiceError::Malformed(format!("{error}; use an id of `psictl list`")))
    })
}

/// Checks the size of a secret, as podman limits it.
fn check_size(secret: &SecretBytes) -> Result<(), Status> {
    if (1..=MAX_SECRET_BYTES).contains(&secret.len()) {
        return Ok(());
    }
    let why = format!(
        "a secret has 1 to {MAX_SECRET_BYTES} bytes, and this one has {}; pass a value of that size",
        secret.len()
    );
    Err(status(ServiceError::Malformed(why)))
}

fn missing_key() -> Status {
    status(ServiceError::Malformed("neither an id nor a name was given; give one".into()))
}

/// The timeout of a call by its `grpc-timeout` header: digits and a unit (gRPC over HTTP/2).
fn timeout(metadata: &MetadataMap) -> Duration {
    let given = metadata.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    given.unwrap_or(DEFAULT_DEADLINE).min(DEFAULT_DEADLINE).saturating_sub(MARGIN)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count = digits.parse::<u64>().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_timeout_accepts_digits_and_a_unit_only() {
        assert_eq!(parse_timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse_timeout("9999m"), Some(Duration::from_millis(9_999)));
        assert_eq!(parse_timeout("99999999u"), Some(Duration::from_micros(99_999_999)));
        for text in ["", "S", "10", "10s", "-1S", "999999999S", "1é"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }
}
