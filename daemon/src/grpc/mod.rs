//! The wire: the peer is judged, messages become domain types and back, errors become statuses, and
//! the time is stamped.

mod admin;
mod drill;
mod driver;
mod hsm;
mod import;
mod incoming;
mod peer;
mod report;
mod workloads;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use psi_common::{MAX_SECRET_BYTES, SecretBytes, SecretId, for_own_scope};
use psi_proto::v1::cache_admin_server::CacheAdminServer;
use psi_proto::v1::hsm_admin_server::HsmAdminServer;
use psi_proto::v1::import_admin_server::ImportAdminServer;
use psi_proto::v1::secret_driver_server::SecretDriverServer;
use psi_proto::v1::workload_admin_server::WorkloadAdminServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::lookup::ServiceError;
use crate::runtime::Runtime;
use peer::Authorizer;

/// For a caller that names no deadline: psi-driver's own, which podman's lock imposes.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// An answer must be there before the caller stops waiting.
const MARGIN: Duration = Duration::from_millis(400);
/// A secret, its id, and room to spare: what a caller sends is held until it is whole.
const LARGEST_REQUEST: usize = 2 * MAX_SECRET_BYTES;
/// Calls of one connection at once. psi-driver makes one; who makes many gets them answered in fewer turns.
const CALLS: u32 = 32;
/// Who has said nothing for so long is asked whether it is there…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and cut off when it does not answer: it has gone, or does not read what it asked for.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long callers may take to go once psid stops; a client that says nothing must not hold it.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// Serves the socket until `stop`, and ends the calls that are under way.
pub async fn serve(
    daemon: Arc<Runtime>,
    listener: UnixListener,
    stop: CancellationToken,
) -> Result<(), String> {
    let listener =
        tokio::net::UnixListener::from_std(listener).map_err(|error| error.to_string())?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let judge = Authorizer::new(Arc::clone(&daemon));
    let connections = incoming::connections(listener, judge.clone(), stop.clone());
    let driver = SecretDriverServer::new(driver::Driver(Arc::clone(&daemon)));
    let admin = CacheAdminServer::new(admin::Admin(Arc::clone(&daemon)));
    let hsm = HsmAdminServer::new(hsm::Hsm(Arc::clone(&daemon)));
    let import = ImportAdminServer::new(import::Import(Arc::clone(&daemon)));
    let workloads = WorkloadAdminServer::new(workloads::Workloads(daemon));
    let server = Server::builder()
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(judged(health.max_decoding_message_size(LARGEST_REQUEST), &judge))
        .add_service(judged(driver.max_decoding_message_size(LARGEST_REQUEST), &judge))
        .add_service(judged(admin.max_decoding_message_size(LARGEST_REQUEST), &judge))
        .add_service(judged(hsm.max_decoding_message_size(LARGEST_REQUEST), &judge))
        .add_service(judged(import.max_decoding_message_size(LARGEST_REQUEST), &judge))
        .add_service(judged(workloads.max_decoding_message_size(LARGEST_REQUEST), &judge))
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
    let farewell = async {
        stop.cancelled().await;
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, std::future::pending::<()>()).await;
    };
    // By a worker, which goes on with the call itself: between the thread that waits in `main` and the
    // workers, each connection would cost two wake-ups of another thread.
    let server = AbortOnDropHandle::new(tokio::spawn(server));
    tokio::select! {
        result = server => match result {
            Ok(served) => served.map_err(|error| error.to_string()),
            Err(crashed) => Err(crashed.to_string()),
        },
        () = farewell => Ok(()),
    }
}

fn judged<S>(service: S, judge: &Authorizer) -> InterceptedService<S, Authorizer> {
    InterceptedService::new(service, judge.clone())
}

/// The one place that turns an error into a status.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn status(error: ServiceError) -> Status {
    let words = for_own_scope(&error.to_string()).into_owned();
    match error {
        ServiceError::Malformed(_) => Status::invalid_argument(words),
        ServiceError::NotFound(_) => Status::not_found(words),
        ServiceError::Exists => Status::already_exists(words),
        ServiceError::Denied(_) => Status::permission_denied(words),
        ServiceError::NoKey(_) => Status::failed_precondition(words),
        ServiceError::Unavailable(_) => Status::unavailable(words),
    }
}

fn secret_id(text: &str) -> Result<SecretId, Status> {
    text.parse().map_err(|error| {
        status(ServiceError::Malformed(format!("{error}; use an id of `psictl list`")))
    })
}

/// Whether podman can have given it.
fn whole(secret: &SecretBytes) -> Result<(), Status> {
    if (1..=MAX_SECRET_BYTES).contains(&secret.len()) {
        return Ok(());
    }
    let why = format!(
        "a secret has 1 to {MAX_SECRET_BYTES} bytes, and this one {}; pass it whole",
        secret.len()
    );
    Err(status(ServiceError::Malformed(why)))
}

fn no_key() -> Status {
    status(ServiceError::Malformed("neither an id nor a name was given; give one".into()))
}

/// How long the caller waits, by the `grpc-timeout` header: digits and a unit (gRPC over HTTP/2).
fn patience(metadata: &MetadataMap) -> Duration {
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
    fn a_grpc_timeout_is_digits_and_a_unit() {
        assert_eq!(parse_timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse_timeout("9999m"), Some(Duration::from_millis(9_999)));
        assert_eq!(parse_timeout("99999999u"), Some(Duration::from_micros(99_999_999)));
        for text in ["", "S", "10", "10s", "-1S", "999999999S", "1é"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }
}
