//! One call: connect, send the request, receive the response, within one absolute deadline. A gRPC status becomes an
//! exit status and a message with its cause.

mod checked;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use psi_common::{Exit, Paths, Scope, SecretBytes, SecretId, passwd};
use psi_proto::Message;
use psi_proto::health::{HealthCheckRequest, HealthCheckResponse, SERVING};
use psi_proto::v1::{
    DeleteRequest, DeleteResponse, ListRequest, ListResponse, LookupRequest, LookupResponse,
    StoreKind, StoreRequest, StoreResponse, lookup_request,
};

pub(crate) use self::checked::{
    Checked, InvalidMessage, Printable, is_id, nothing_to_check, texts,
};
use crate::error::CliError;
use crate::wire::{self, GrpcStatus, TransportError};

/// The service that podman's verbs call.
pub(crate) const DRIVER: &str = "/psi.v1.SecretDriver";

/// How long a call retries while nothing listens. With a socket unit systemd always listens; without one, a psid that
/// restarts is back by then.
const NOT_LISTENING_LIMIT: Duration = Duration::from_secs(1);

/// The secret of a call.
pub(crate) enum Key {
    Id(SecretId),
    Name(String),
}

/// The time limit of a call, and whether it retries while the daemon is away.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    /// Podman holds a host-wide lock meanwhile, and a failed lookup can stop a healthy container: retries while the
    /// daemon restarts, within a limit.
    Podman,
    /// For a person or a monitor: one attempt, and a short limit.
    Probe,
    /// Long work of an admin's command.
    Admin,
    /// Work of a given duration.
    For(Duration),
}

/// A client of one daemon, with one deadline for all its calls.
pub(crate) struct Client {
    socket: PathBuf,
    /// Whether it is the users' socket of the system's psid.
    is_users: bool,
    /// Whether it is a user's own, in place of which there could be the users' socket.
    is_users_own: bool,
    kind: Deadline,
    deadline: Instant,
}

impl Client {
    /// The deadline begins now; the client connects at each call.
    pub(crate) fn new(paths: &Paths, kind: Deadline) -> Self {
        let deadline = Instant::now() + kind.limit();
        let socket = paths.clients_socket().to_owned();
        let is_users = paths.users_socket.as_ref() == Some(&socket);
        let is_users_own = paths.users_socket.is_some() && !is_users;
        Self { socket, is_users, is_users_own, kind, deadline }
    }

    pub(crate) fn lookup(&self, key: &Key) -> Result<SecretBytes, CliError> {
        let key = Some(match key {
            Key::Id(id) => lookup_request::Key::Id(id.to_string()),
            Key::Name(name) => lookup_request::Key::Name(name.clone()),
        });
        let answer: LookupResponse = self.call(DRIVER, "Lookup", &LookupRequest { key })?;
        Ok(SecretBytes::new(answer.value.into()))
    }

    pub(crate) fn store(
        &self,
        id: SecretId,
        data: &SecretBytes,
        kind: StoreKind,
    ) -> Result<(), CliError> {
        let request = StoreRequest {
            id: id.to_string(),
            data: data.expose_secret().to_vec(),
            kind: kind.into(),
        };
        self.call::<StoreResponse>(DRIVER, "Store", &request).map(|_| ())
    }

    /// With `force` also while psid can store nothing, when it refuses podman's delete.
    pub(crate) fn delete(&self, id: SecretId, force: bool) -> Result<(), CliError> {
        let request = DeleteRequest { id: id.to_string(), force };
        self.call::<DeleteResponse>(DRIVER, "Delete", &request).map(|_| ())
    }

    pub(crate) fn list(&self) -> Result<Vec<String>, CliError> {
        self.call::<ListResponse>(DRIVER, "List", &ListRequest {}).map(|answer| answer.ids)
    }

    pub(crate) fn health(&self) -> Result<(), CliError> {
        let request = HealthCheckRequest { service: String::new() };
        let answer: HealthCheckResponse = self.call("/grpc.health.v1.Health", "Check", &request)?;
        if answer.status == SERVING {
            return Ok(());
        }
        Err(CliError::new(
            Exit::NoDaemon,
            "psid reports that it does not serve",
            "if it is not being stopped, see `journalctl -u psid`",
        ))
    }

    /// A call with one response.
    pub(crate) fn call<T: Message + Default + Checked>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
    ) -> Result<T, CliError> {
        let mut answer = None;
        self.stream(service, method, request, &mut |message| answer = Some(message))?;
        answer.ok_or_else(|| self.not_psi("a response without a message"))
    }

    /// Calls, and retries until the deadline. Every call is idempotent.
    pub(crate) fn stream<T: Message + Default + Checked>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
        on_message: &mut dyn FnMut(T),
    ) -> Result<(), CliError> {
        let path = format!("{service}/{method}");
        let request = SecretBytes::new(request.encode_to_vec());
        let mut pause = Duration::from_millis(5);
        let mut not_listening_since = None;
        loop {
            let failure = match self.attempt(&path, &request, on_message) {
                Ok(()) => return Ok(()),
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::Retryable(failure)) => {
                    not_listening_since = None;
                    failure
                }
                Err(Attempt::NotListening(failure)) => {
                    not_listening_since.get_or_insert_with(Instant::now);
                    failure
                }
            };
            let end = not_listening_since
                .map_or(self.deadline, |since| self.deadline.min(since + NOT_LISTENING_LIMIT));
            if Instant::now() + pause >= end || !matches!(self.kind, Deadline::Podman) {
                return Err(failure);
            }
            wait(pause);
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    fn attempt<T: Message + Default + Checked>(
        &self,
        path: &str,
        request: &SecretBytes,
        on_message: &mut dyn FnMut(T),
    ) -> Result<(), Attempt> {
        let stream = self.connect().map_err(|cause| self.no_connection(&cause))?;
        let mut take = |message: &[u8]| {
            let message =
                T::decode(message).map_err(|error| TransportError::Protocol(error.to_string()))?;
            on_message(
                message.checked().map_err(|error| TransportError::Protocol(error.to_string()))?,
            );
            Ok(())
        };
        let outcome = wire::call(stream, self.deadline, path, request.expose_secret(), &mut take);
        match outcome.map_err(|error| self.transport_error(error))? {
            GrpcStatus { code: 0, .. } => Ok(()),
            status => Err(Attempt::Final(self.status_error(&status))),
        }
    }

    /// The send timeout also limits a connect to a socket whose backlog is full.
    fn connect(&self) -> io::Result<UnixStream> {
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1);
        setsockopt(&socket, SendTimeout, &TimeVal::milliseconds(left))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&self.socket)?)?;
        Ok(socket.into())
    }

    fn no_connection(&self, cause: &io::Error) -> Attempt {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, WouldBlock};
        let what = format!("no connection to psid at {}: {cause}", self.socket.display());
        match cause.kind() {
            ConnectionRefused | NotFound => Attempt::NotListening(match self.is_users {
                true => CliError::without_remedy(
                    Exit::NoDaemon,
                    format!("{what}; root starts it with `systemctl start psid-users.socket`"),
                ),
                false if self.is_users_own => CliError::new(
                    Exit::NoDaemon,
                    what,
                    "start it with `systemctl start psid`; for the system's psid, root starts psid-users.socket",
                ),
                false => {
                    CliError::new(Exit::NoDaemon, what, "start it with `systemctl start psid`")
                }
            }),
            // The backlog is full.
            WouldBlock => Attempt::Retryable(self.no_answer()),
            PermissionDenied => Attempt::Final(match self.is_users {
                true => self.not_in_the_group(&what),
                false => CliError::new(Exit::NotAllowed, what, "run it as root"),
            }),
            _ => Attempt::Final(CliError::new(Exit::NoDaemon, what, "check the socket's path")),
        }
    }

    /// The users' socket belongs to a group, which a user's running manager does not know of.
    fn not_in_the_group(&self, what: &str) -> CliError {
        let (name, uid) = match Scope::of_this_process() {
            Scope::User { uid } => (passwd::name_of(uid), uid.to_string()),
            Scope::System => (None, "UID".into()),
        };
        let name = name.unwrap_or_else(|| "USER".into());
        CliError::without_remedy(
            Exit::NotAllowed,
            format!(
                "{what}; a workload with user = \"{name}\" lets this user in: then root runs `psictl setup`, or `usermod \
                 -aG psi-users {name}`, and `systemctl restart user@{uid}.service`"
            ),
        )
    }

    fn no_answer(&self) -> CliError {
        CliError::new(
            Exit::NoDaemon,
            format!(
                "psid at {} did not answer within {} s",
                self.socket.display(),
                self.kind.limit().as_secs()
            ),
            "see `systemctl status psid`",
        )
    }

    /// The only place that maps gRPC's codes (grpc/doc/statuscodes.md) to exit statuses.
    fn status_error(&self, status: &GrpcStatus) -> CliError {
        let exit = match status.code {
            // INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION
            3 | 6 | 9 => Exit::BadInput,
            // NOT_FOUND
            5 => Exit::NoSuchSecret,
            // PERMISSION_DENIED
            7 => Exit::NotAllowed,
            // RESOURCE_EXHAUSTED, UNAVAILABLE
            8 | 14 => Exit::TryLater,
            // CANCELLED, DEADLINE_EXCEEDED
            1 | 4 => return self.no_answer(),
            code => {
                return CliError::new(
                    Exit::Protocol,
                    format!("psid answered with status {code}: {}", status.message),
                    "check that psid and psi-driver are of one version, and see `journalctl -u psid`",
                );
            }
        };
        CliError::without_remedy(exit, status.message.as_str())
    }

    fn transport_error(&self, error: TransportError) -> Attempt {
        match error {
            TransportError::ConnectionLost(cause) => Attempt::Retryable(CliError::new(
                Exit::NoDaemon,
                format!("psid at {} closed the connection: {cause}", self.socket.display()),
                "see `systemctl status psid`",
            )),
            TransportError::Protocol(cause) => Attempt::Final(self.not_psi(&cause)),
            TransportError::DeadlineExceeded => Attempt::Final(self.no_answer()),
        }
    }

    fn not_psi(&self, cause: &str) -> CliError {
        CliError::new(
            Exit::Protocol,
            format!(
                "the program that listens at {} does not speak psi's protocol: {cause}",
                self.socket.display()
            ),
            "check PSI_SOCKET, and that the socket is psid's",
        )
    }
}

/// An attempt without a response.
enum Attempt {
    /// Nothing listens at the socket.
    NotListening(CliError),
    /// The daemon went away, or is busy: a retry may succeed.
    Retryable(CliError),
    /// A retry would end the same.
    Final(CliError),
}

impl Deadline {
    fn limit(self) -> Duration {
        match self {
            Self::Podman => Duration::from_secs(10),
            Self::Probe => Duration::from_secs(3),
            Self::Admin => Duration::from_secs(600),
            Self::For(span) => span.saturating_add(Duration::from_secs(10)),
        }
    }
}

/// Waits before a retry.
#[expect(clippy::disallowed_methods, reason = "no event announces that a daemon listens again")]
pub(crate) fn wait(pause: Duration) {
    std::thread::sleep(pause);
}
