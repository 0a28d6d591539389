//! The call: connect, one request, one answer, one absolute deadline; a status becomes an exit code
//! and a sentence with its cause.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use psi_common::{Exit, Paths, SecretBytes, SecretId};
use psi_proto::v1::cache_admin_client::CacheAdminClient;
use psi_proto::v1::secret_driver_client::SecretDriverClient;
use psi_proto::v1::{
    DeleteRequest, InvalidateRequest, ListRequest, LookupRequest, MakeRecoveryKeyRequest,
    RecoverRequest, RecoverResponse, RefreshEvent, RefreshRequest, RekeyRequest, RestorableRequest,
    RestorableSecret, RestoreRequest, Seal, StatusRequest, StatusResponse, StoreKind, StoreRequest,
    invalidate_request, lookup_request,
};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::connection::{Broken, Connection, Sender};
use crate::failure::Failure;

/// Which secret a call is about.
pub(crate) enum Key {
    Id(SecretId),
    Name(String),
}

/// How long a call may take, and whether it waits for a daemon that is not there yet.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// Podman holds a host-wide lock meanwhile, and a failed lookup can end a healthy container: wait
    /// for a daemon that is restarting, but not for ever.
    Podman,
    /// A person or a monitor wants to know now.
    Probe,
    /// Long work with progress, under a person's eyes.
    Admin,
}

/// One daemon, one deadline.
pub(crate) struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    patience: Patience,
    deadline: Instant,
}

impl Client {
    /// Starts the clock; connects at the first call.
    pub(crate) fn new(paths: &Paths, patience: Patience) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|cause| Failure::io("starting", &cause, "check the limits on open files"))?;
        let deadline = Instant::now() + patience.limit();
        Ok(Self { socket: paths.socket.clone(), runtime, patience, deadline })
    }

    pub(crate) fn lookup(&self, key: &Key) -> Result<SecretBytes, Failure> {
        self.call(async |channel| {
            let key = Some(match key {
                Key::Id(id) => lookup_request::Key::Id(id.to_string()),
                Key::Name(name) => lookup_request::Key::Name(name.clone()),
            });
            driver(channel).lookup(self.request(LookupRequest { key })).await
        })
        .map(|answer| SecretBytes::new(answer.value))
    }

    pub(crate) fn store(
        &self,
        id: SecretId,
        data: &SecretBytes,
        kind: StoreKind,
    ) -> Result<(), Failure> {
        self.call(async |channel| {
            let request = StoreRequest {
                id: id.to_string(),
                data: data.expose_secret().to_vec(),
                kind: kind.into(),
            };
            driver(channel).store(self.request(request)).await
        })
        .map(|_| ())
    }

    /// Whether the id was registered.
    pub(crate) fn delete(&self, id: SecretId) -> Result<bool, Failure> {
        self.call(async |channel| {
            driver(channel).delete(self.request(DeleteRequest { id: id.to_string() })).await
        })
        .map(|answer| answer.existed)
    }

    pub(crate) fn list(&self) -> Result<Vec<String>, Failure> {
        self.call(async |channel| driver(channel).list(self.request(ListRequest {})).await)
            .map(|answer| answer.ids)
    }

    pub(crate) fn restore(&self, id: SecretId) -> Result<(), Failure> {
        self.call(async |channel| {
            driver(channel).restore(self.request(RestoreRequest { id: id.to_string() })).await
        })
        .map(|_| ())
    }

    pub(crate) fn restorable(&self) -> Result<Vec<RestorableSecret>, Failure> {
        self.call(async |channel| {
            driver(channel).restorable(self.request(RestorableRequest {})).await
        })
        .map(|answer| answer.secrets)
    }

    pub(crate) fn status(&self, verify: bool) -> Result<StatusResponse, Failure> {
        self.call(async |channel| {
            admin(channel).status(self.request(StatusRequest { verify })).await
        })
    }

    /// Hands each event over as it comes.
    pub(crate) fn refresh(&self, on_event: &mut dyn FnMut(RefreshEvent)) -> Result<(), Failure> {
        let on_event = RefCell::new(on_event);
        self.call(async |channel| {
            let response = admin(channel).refresh(self.request(RefreshRequest {})).await?;
            let mut events = response.into_inner();
            while let Some(event) = events.message().await? {
                (*on_event.borrow_mut())(event);
            }
            Ok(tonic::Response::new(()))
        })
    }

    /// Whether the cache had the entry.
    pub(crate) fn invalidate(&self, key: &Key) -> Result<bool, Failure> {
        self.call(async |channel| {
            let key = Some(match key {
                Key::Id(id) => invalidate_request::Key::Id(id.to_string()),
                Key::Name(name) => invalidate_request::Key::Name(name.clone()),
            });
            admin(channel).invalidate(self.request(InvalidateRequest { key })).await
        })
        .map(|answer| answer.existed)
    }

    pub(crate) fn rekey(&self, seal: Option<&Seal>) -> Result<(), Failure> {
        self.call(async |channel| {
            admin(channel).rekey(self.request(RekeyRequest { seal: seal.cloned() })).await
        })
        .map(|_| ())
    }

    pub(crate) fn recover(
        &self,
        recovery_key: &SecretBytes,
        seal: Option<&Seal>,
    ) -> Result<RecoverResponse, Failure> {
        self.call(async |channel| {
            let recovery_key = recovery_key.expose_secret().to_vec();
            let request = RecoverRequest { recovery_key, seal: seal.cloned() };
            admin(channel).recover(self.request(request)).await
        })
    }

    pub(crate) fn make_recovery_key(&self) -> Result<SecretBytes, Failure> {
        self.call(async |channel| {
            admin(channel).make_recovery_key(self.request(MakeRecoveryKeyRequest {})).await
        })
        .map(|answer| SecretBytes::new(answer.recovery_key))
    }

    pub(crate) fn health(&self) -> Result<(), Failure> {
        let request = || self.request(HealthCheckRequest { service: String::new() });
        let answer = self.call(async |channel| {
            HealthClient::with_origin(channel, origin()).check(request()).await
        })?;
        match answer.status() {
            ServingStatus::Serving => Ok(()),
            other => Err(Failure::new(
                Exit::NoDaemon,
                format!("psid answers {}", other.as_str_name()),
                "it is stopping, or see `journalctl -u psid`",
            )),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline.saturating_duration_since(Instant::now()));
        request
    }

    /// Runs `attempt` on a connection until it is answered or the deadline is there. All calls may be
    /// repeated: each leaves the same state behind when it is made twice.
    fn call<T>(
        &self,
        attempt: impl AsyncFn(Sender) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Failure> {
        let last = RefCell::new(None);
        let attempts = async {
            let mut pause = Duration::from_millis(5);
            loop {
                let broken = match self.attempt(&attempt).await {
                    Ok(answer) => return Ok(answer),
                    Err(Attempt::Final(failure)) => return Err(failure),
                    Err(Attempt::Broken(failure)) => failure,
                };
                if !matches!(self.patience, Patience::Podman) {
                    return Err(broken);
                }
                last.replace(Some(broken));
                pause_for(pause).await;
                pause = (pause * 2).min(Duration::from_millis(250));
            }
        };
        self.runtime
            .block_on(async { tokio::time::timeout_at(self.deadline, attempts).await })
            .unwrap_or_else(|_| Err(last.take().unwrap_or_else(|| self.no_answer())))
    }

    async fn attempt<T>(
        &self,
        attempt: &impl AsyncFn(Sender) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Attempt> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|cause| self.no_connection(&cause))?;
        let connection = Connection::open(stream).await.map_err(|broken| self.broken(broken))?;
        let status = match attempt(connection.sender()).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        // A status that the transport made up has a source; one that psid sent has none.
        if std::error::Error::source(&status).is_some() {
            return Err(self.broken(connection.cause().await));
        }
        Err(Attempt::Final(self.judge(&status)))
    }

    fn no_connection(&self, cause: &io::Error) -> Attempt {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, WouldBlock};
        let what = format!("no connection to psid at {}: {cause}", self.socket.display());
        match cause.kind() {
            ConnectionRefused | NotFound | WouldBlock => Attempt::Broken(Failure::new(
                Exit::NoDaemon,
                what,
                "start it with `systemctl start psid`",
            )),
            PermissionDenied => Attempt::Final(Failure::new(
                Exit::NotAllowed,
                what,
                "run it as a user that [access] allows",
            )),
            _ => Attempt::Final(Failure::new(Exit::NoDaemon, what, "check the socket's path")),
        }
    }

    fn no_answer(&self) -> Failure {
        Failure::new(
            Exit::NoDaemon,
            format!(
                "psid at {} did not answer within {} s",
                self.socket.display(),
                self.patience.limit().as_secs()
            ),
            "see `systemctl status psid`",
        )
    }

    /// The one place that turns a status into an exit code.
    fn judge(&self, status: &Status) -> Failure {
        let exit = match status.code() {
            Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => {
                Exit::BadInput
            }
            Code::NotFound => Exit::NoSuchSecret,
            Code::PermissionDenied => Exit::NotAllowed,
            Code::Unavailable | Code::ResourceExhausted => Exit::TryLater,
            Code::DeadlineExceeded | Code::Cancelled => return self.no_answer(),
            _ => {
                return Failure::new(
                    Exit::Protocol,
                    format!("psid answered {:?}: {}", status.code(), status.message()),
                    "check that psid and psi-driver are of one version, and see `journalctl -u psid`",
                );
            }
        };
        Failure::told(exit, status.message())
    }

    fn broken(&self, broken: Broken) -> Attempt {
        let socket = self.socket.display();
        match broken {
            Broken::Gone(cause) => Attempt::Broken(Failure::new(
                Exit::NoDaemon,
                format!("psid at {socket} broke the connection: {cause}"),
                "see `systemctl status psid`",
            )),
            Broken::Protocol(cause) => Attempt::Final(Failure::new(
                Exit::Protocol,
                format!("what listens at {socket} does not speak psi's protocol: {cause}"),
                "check PSI_SOCKET, and that psid owns the socket",
            )),
        }
    }
}

/// How an attempt ended without an answer.
enum Attempt {
    /// The daemon was not there, or went away: another attempt may find it.
    Broken(Failure),
    /// Another attempt would end the same.
    Final(Failure),
}

impl Patience {
    fn limit(self) -> Duration {
        match self {
            Self::Podman => Duration::from_secs(10),
            Self::Probe => Duration::from_secs(3),
            Self::Admin => Duration::from_secs(600),
        }
    }
}

fn driver(channel: Sender) -> SecretDriverClient<Sender> {
    SecretDriverClient::with_origin(channel, origin())
}

fn admin(channel: Sender) -> CacheAdminClient<Sender> {
    CacheAdminClient::with_origin(channel, origin())
}

/// HTTP wants an authority, and a unix socket has none.
fn origin() -> Uri {
    Uri::from_static("http://psid")
}

#[expect(clippy::disallowed_methods, reason = "nothing tells that a daemon will be there again")]
async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}
