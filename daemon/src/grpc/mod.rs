//! gRPC: authorizes the caller, converts messages to domain types and back, errors to statuses, and reads the
//! clock. It calls `lookup::Service` and [`control::Control`] only.

mod access;
mod admin;
mod caller;
mod changes;
pub(crate) mod control;
mod drill;
mod driver;
mod hsm;
mod import;
mod incoming;
mod limited_body;
mod limits;
mod login;
mod peer;
mod rate;
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
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::lookup::ServiceError;
use access::Authorizer;
use control::Control;
use peer::Door;

pub(crate) use refuse::refuse;

/// The deadline of a call without one: that of psi-driver, which holds podman's lock meanwhile.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// How long before the caller's deadline psid answers.
const MARGIN: Duration = Duration::from_millis(400);
/// The largest request: a secret and its id fit. A request is buffered until it is complete.
const MAX_REQUEST_BYTES: usize = 2 * MAX_SECRET_BYTES;
/// Concurrent calls of one connection; psi-driver makes one.
const MAX_CALLS: u32 = 32;
/// The same of a user's connection, and the bytes that psid receives in advance, for a call and for all.
const USERS_MAX_CALLS: u32 = 8;
const USERS_CALL_WINDOW: u32 = 64 * 1_024;
const USERS_WINDOW: u32 = 128 * 1_024;
/// The headers of a user's call.
const USERS_MAX_HEADERS: u32 = 16 * 1_024;
/// An idle connection is pinged at this interval…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and closed if it does not answer the ping in this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open calls may take once psid stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The sockets that are served.
pub struct Sockets {
    /// Root's and psid's own user's.
    pub admin: UnixListener,
    /// That of the users that workloads name.
    pub users: Option<UnixListener>,
}

/// Serves the sockets until `stop`, then ends the open calls. The users' socket is served once `known` has ended.
pub async fn serve(
    daemon: Arc<dyn Control>,
    sockets: Sockets,
    known: impl Future<Output = ()> + Send + 'static,
    stop: CancellationToken,
) -> Result<(), Problem> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let authorizer = Authorizer::new(Arc::clone(&daemon));
    let services = Services { daemon, health, authorizer };
    let admin = serve_one(sockets.admin, Door::Admin, services.clone(), stop.clone());
    let (users, until) = (sockets.users, stop.clone());
    let users = async move {
        known.await;
        match users {
            Some(users) => serve_one(users, Door::Users, services, until).await,
            None => {
                until.cancelled().await;
                Ok(())
            }
        }
    };
    let shutdown = async {
        stop.cancelled().await;
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, std::future::pending::<()>()).await;
    };
    // As tasks of workers, which then serve the calls themselves: on the thread of `block_on`, each connection would cost
    // two wake-ups of another thread.
    let admin = AbortOnDropHandle::new(tokio::spawn(admin));
    let users = AbortOnDropHandle::new(tokio::spawn(users));
    let both = async { tokio::try_join!(admin, users) };
    tokio::select! {
        result = both => match result {
            Ok((admin, users)) => admin.and(users),
            Err(crashed) => Err(failed(&crashed)),
        },
        () = shutdown => Ok(()),
    }
}

/// The services of a socket.
struct Services<H> {
    daemon: Arc<dyn Control>,
    health: HealthServer<H>,
    authorizer: Authorizer,
}

async fn serve_one<H: Health>(
    listener: UnixListener,
    door: Door,
    services: Services<H>,
    stop: CancellationToken,
) -> Result<(), Problem> {
    let listener = tokio::net::UnixListener::from_std(listener).map_err(|error| failed(&error))?;
    let authorizer = services.authorizer.clone();
    let connections = incoming::connections(listener, door, authorizer, stop.clone());
    let served =
        services.router(door).serve_with_incoming_shutdown(connections, stop.cancelled_owned());
    served.await.map_err(|error| failed(&error))
}

impl<H> Clone for Services<H> {
    fn clone(&self) -> Self {
        let Self { daemon, health, authorizer } = self;
        Self { daemon: Arc::clone(daemon), health: health.clone(), authorizer: authorizer.clone() }
    }
}

impl<H: Health> Services<H> {
    fn router(self, door: Door) -> Router {
        let Self { daemon, health, authorizer } = self;
        let driver = SecretDriverServer::new(driver::Driver(Arc::clone(&daemon)));
        let admin = CacheAdminServer::new(admin::Admin(Arc::clone(&daemon)));
        let hsm = HsmAdminServer::new(hsm::Hsm(Arc::clone(&daemon)));
        let import = ImportAdminServer::new(import::Import(Arc::clone(&daemon)));
        let providers = ProviderAdminServer::new(login::Providers(Arc::clone(&daemon)));
        let workloads = WorkloadAdminServer::new(workloads::Workloads(daemon));
        let limit = MAX_REQUEST_BYTES;
        server(door)
            .add_service(authorizer.before(health.max_decoding_message_size(limit)))
            .add_service(authorizer.before(driver.max_decoding_message_size(limit)))
            .add_service(authorizer.before(admin.max_decoding_message_size(limit)))
            .add_service(authorizer.before(hsm.max_decoding_message_size(limit)))
            .add_service(authorizer.before(import.max_decoding_message_size(limit)))
            .add_service(authorizer.before(providers.max_decoding_message_size(limit)))
            .add_service(authorizer.before(workloads.max_decoding_message_size(limit)))
    }
}

fn server(door: Door) -> Server {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    match door {
        Door::Admin => server.max_concurrent_streams(MAX_CALLS),
        Door::Users => server
            .max_concurrent_streams(USERS_MAX_CALLS)
            .initial_stream_window_size(USERS_CALL_WINDOW)
            .initial_connection_window_size(USERS_WINDOW)
            .http2_max_header_list_size(USERS_MAX_HEADERS),
    }
}

fn failed(error: &dyn Error) -> Problem {
    Problem::new(format!("the server ended: {error}"), "see `journalctl -u psid`")
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
        ServiceError::Quota(_) => Status::resource_exhausted(message),
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
